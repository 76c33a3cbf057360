"""Draw the figures of the report as specifications of Vega-Lite, which the page draws in the browser.

A figure has no colours of its own: the page gives it those of its style sheet, for light and for dark. Its width is that of the page.
"""

import math
from collections.abc import Iterable, Sequence
from collections import Counter
from typing import Any, Final

from rakuten.report.tables import Row

Spec = dict[str, Any]

_SCHEMA: Final = "https://vega.github.io/schema/vega-lite/v6.json"  # a name: nothing is fetched
_ROW_HEIGHT: Final = 17  # pixels of one class in a heatmap
_BAR_HEIGHT: Final = 24  # pixels of one horizontal bar, or of one feature
_FEW_TICKS: Final = 8
_HEIGHT: Final = 280  # pixels of a figure with an axis of numbers
_BATCH_TITLE: Final = "batch (a number: week, c: correction)"


def short_name(batch_name: str) -> str:
    """Return the name of a batch on an axis: `7` for week_7, `c2` for correction_2."""
    kind, _, number = batch_name.partition("_")
    return number if kind == "week" else f"{kind[:1]}{number}"


def class_label(row: Row) -> str:
    """Return the code and the name of a class, for example `2583 Pools and spas`."""
    return f"{row['prdtypecode']} {row['category']}"


def rows_by_batch(rows: list[Row], batch_names: Sequence[str]) -> Spec:
    """Draw the loaded rows after each batch as bars, and the rows of the training file as a line."""
    target = max((row["file_rows"] or 0 for row in rows), default=0)
    bars = {
        "mark": {"type": "bar"},
        "encoding": {
            "x": _batch_axis(batch_names),
            "y": _number("total_rows", "rows in PostgreSQL", format=",d"),
            "color": _colour("kind", ["week", "correction"], "batch"),
            "tooltip": _tips(name="batch", total_rows="rows", percentage="percent", reason="reason"),
        },
    }
    rule = {
        "data": {"values": [{"target": target}]},
        "mark": {"type": "rule", "strokeDash": [6, 4], "style": "muted"},
        "encoding": {"y": {"field": "target", "type": "quantitative"}},
    }
    return _figure(rows, _HEIGHT, layer=[bars, rule] if target else [bars])


def class_heatmap(
    rows: list[Row], batch_names: Sequence[str], classes: Sequence[str], field: str, title: str, form: str
) -> Spec:
    """Draw one cell for each class and batch, whose colour is the value of `field`."""
    values = [{**row, "class": class_label(row)} for row in rows]
    return _figure(
        values,
        _ROW_HEIGHT * len(classes),
        mark={"type": "rect"},
        encoding={
            "x": _batch_axis(batch_names),
            "y": _names("class", classes),
            "color": {
                "field": field,
                "type": "quantitative",
                "scale": {"scheme": "viridis", "zero": False},
                "legend": {"title": title, "format": form, "orient": "top", "gradientLength": 200},
            },
            "tooltip": [
                *_tips(name="batch"),
                {"field": "class", "title": "class"},
                {"field": field, "title": title, "type": "quantitative", "format": form},
            ],
        },
    )


def f1_by_batch(
    scores: list[Row], champion: list[Row], moves: list[Row], batch_names: Sequence[str]
) -> Spec:
    """Draw the F1 of each model with its interval, the F1 of the champion as a step line, and the moves of the champion.

    Args:
        scores: rows with batch_name, f1, f1_low and f1_high.
        champion: rows with batch_name and f1: the champion's F1 after the batch.
        moves: rows with batch_name, f1 (of the new champion), move, and label.
        batch_names: the batches of the axis, in order.
    """
    axis = _batch_axis(batch_names)
    colour = _colour("what", ["model of the batch", "champion"], None)
    y = _number("f1", "weighted F1 on the holdout", format=".2f", scale={"zero": False})
    tips = _tips(name="batch", f1="F1", f1_low="interval from", f1_high="interval to", model_version="version")
    model = [{**row, "what": "model of the batch"} for row in scores]
    held = [{**row, "what": "champion"} for row in champion]
    layers = [
        {
            "data": {"values": _named(held)},
            "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2},
            "encoding": {"x": axis, "y": y, "color": colour},
        },
        {
            "mark": {"type": "rule", "opacity": 0.6, "strokeWidth": 2},
            "encoding": {"x": axis, "y": {**y, "field": "f1_low"}, "y2": {"field": "f1_high"}, "color": colour},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1},
            "encoding": {"x": axis, "y": y, "color": colour, "tooltip": tips},
        },
        _moves_layer(moves, axis, y),
    ]
    return _figure(model, _HEIGHT, layer=layers)


def _moves_layer(moves: list[Row], axis: Spec, y: Spec) -> Spec:
    kinds = ["promotion", "rollback", "by hand"]
    return {
        "data": {"values": _named(moves)},
        "mark": {"type": "point", "size": 130, "strokeWidth": 2, "filled": False, "style": "strong"},
        "encoding": {
            "x": axis,
            "y": y,
            "shape": {
                "field": "move",
                "type": "nominal",
                "scale": {"domain": kinds, "range": ["triangle-up", "triangle-down", "cross"]},
                "legend": {"title": "champion moved by", "orient": "top", "symbolOpacity": 1},
            },
            "tooltip": _tips(name="batch", label="move", f1="F1 of the new champion", reason="reason"),
        },
    }


def seconds_by_step(rows: list[Row], batch_names: Sequence[str]) -> Spec:
    """Draw the seconds of each step as a line over the batches, on a logarithmic axis."""
    steps = list(dict.fromkeys(row["step"] for row in rows))
    values = [row for row in rows if row["seconds"] is not None and row["seconds"] > 0]
    return _figure(
        values,
        _HEIGHT,
        mark={"type": "line", "point": {"size": 40, "filled": True}},
        encoding={
            "x": _batch_axis(batch_names),
            "y": _number("seconds", "seconds (each line: ten times as long)", scale={"type": "log"}, values=_powers(values)),
            "color": _colour("step", steps, "step"),
            "shape": {"field": "step", "type": "nominal", "scale": {"domain": steps}},
            "tooltip": _tips(name="batch", step="step", seconds="seconds"),
        },
    )


def _powers(rows: list[Row]) -> list[float]:
    """Return the powers of ten around the seconds of the rows."""
    exponents = [math.floor(math.log10(row["seconds"])) for row in rows]
    return [10.0**power for power in range(min(exponents, default=0), max(exponents, default=0) + 2)]


def attempts_by_batch(rows: list[Row], batch_names: Sequence[str]) -> Spec:
    """Draw the attempts of both stages for each batch as a stacked bar, by how they ended."""
    outcomes = {
        "finished": "finished",
        "failures": "failed",
        "outages": "postponed by an outage",
        "ended_early": "ended early",
    }
    values = [
        {"batch_name": row["batch_name"], "stage": row["stage"], "outcome": text, "attempts": row[column]}
        for row in rows
        for column, text in outcomes.items()
        if row[column]
    ]
    per_batch = Counter[str]()
    for row in rows:
        per_batch[row["batch_name"]] += row["attempts"]
    most = max(per_batch.values(), default=0)
    return _figure(
        values,
        200,
        mark={"type": "bar"},
        encoding={
            "x": _batch_axis(batch_names),
            "y": {**_number("attempts", "attempts", **_whole(most)), "aggregate": "sum"},
            "color": _colour("outcome", list(outcomes.values()), None),
            "order": {"field": "outcome", "sort": "descending"},
            "tooltip": [*_tips(name="batch", outcome="outcome"), {"aggregate": "sum", "field": "attempts"}],
        },
    )


def bytes_by_object(rows: list[Row]) -> Spec:
    """Draw the bytes of each place as a bar, in megabytes."""
    values = [
        {"place": f"{row['object']} ({row['kind']})", "megabytes": row["bytes"] / 1e6, "size": row["size"]}
        for row in rows
    ]
    places = [row["place"] for row in sorted(values, key=lambda row: -row["megabytes"])]
    y = _names("place", places)
    x = _number("megabytes", "megabytes", format=",.4~g", tickCount=5)
    bars = {"mark": {"type": "bar"}, "encoding": {"y": y, "x": x, "tooltip": _tips(place="place", size="size")}}
    sizes = {
        "mark": {"type": "text", "align": "left", "dx": 4, "style": "strong"},
        "encoding": {"y": y, "x": x, "text": {"field": "size"}},
    }
    return _figure(values, _BAR_HEIGHT * len(places), layer=[bars, sizes])


def drift_heatmap(rows: list[Row], batch_names: Sequence[str], features: Sequence[str]) -> Spec:
    """Draw for each feature and batch how far the rows are from the reference, in multiples of what chance explains."""
    values = [
        {**row, "ratio": row["js"] / row["noise"] if row["noise"] else 0.0, "mark": "drift" if row["drifted"] else ""}
        for row in rows
        if row["js"] is not None
    ]
    x, y = _batch_axis(batch_names), _names("feature", features)
    tips = _tips(
        name="batch", feature="feature", js="Jensen-Shannon", noise="limit of chance", psi="PSI", rows="rows", mark="result"
    )
    cells = {
        "mark": {"type": "rect"},
        "encoding": {
            "x": x,
            "y": y,
            "color": {
                "field": "ratio",
                "type": "quantitative",
                "scale": {"scheme": "viridis", "domain": [0, 2], "clamp": True},
                "legend": {
                    "title": "distance / limit of chance",
                    "orient": "top",
                    "gradientLength": 200,
                    "values": [0, 1, 2],
                },
            },
            "tooltip": tips,
        },
    }
    marks = {
        "transform": [{"filter": "datum.drifted"}],
        "mark": {"type": "point", "shape": "diamond", "filled": True, "size": 40, "opacity": 1, "style": "mark"},
        "encoding": {"x": x, "y": y, "tooltip": tips},
    }
    return _figure(values, _BAR_HEIGHT * len(features), layer=[cells, marks])


def suspects_by_batch(rows: list[Row], batch_names: Sequence[str]) -> Spec:
    """Draw the number of suspects of each model as bars."""
    return _figure(
        rows,
        180,
        mark={"type": "bar"},
        encoding={
            "x": _batch_axis(batch_names),
            "y": _number("suspects", "suspected labels", **_whole(max((row["suspects"] for row in rows), default=0))),
            "tooltip": _tips(name="batch", suspects="suspected labels"),
        },
    )


def _figure(rows: list[Row], height: int, **rest: Any) -> Spec:
    return {
        "$schema": _SCHEMA,
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": _named(rows)},
        **rest,
    }


def _named(rows: Iterable[Row]) -> list[Row]:
    """Return the rows as JSON can hold them, with the short name of their batch."""
    return [
        {
            **{key: value for key, value in row.items() if not hasattr(value, "isoformat")},
            **({"batch": short_name(row["batch_name"]), "name": row["batch_name"]} if "batch_name" in row else {}),
        }
        for row in rows
    ]


def _batch_axis(batch_names: Sequence[str]) -> Spec:
    return {
        "field": "batch",
        "type": "ordinal",
        "title": _BATCH_TITLE,
        "scale": {"domain": [short_name(name) for name in batch_names]},
        "axis": {"labelAngle": 0, "labelOverlap": "greedy"},
    }


def _names(field: str, domain: Sequence[str]) -> Spec:
    return {"field": field, "type": "nominal", "title": None, "scale": {"domain": list(domain)}}


def _number(field: str, title: str, *, scale: Spec | None = None, **axis: Any) -> Spec:
    encoding: Spec = {"field": field, "type": "quantitative", "title": title, "axis": axis}
    return encoding if scale is None else {**encoding, "scale": scale}


def _whole(most: int) -> Spec:
    """Return the ticks of an axis of counts. Vega would put ticks between small whole numbers."""
    return {"format": ",d", **({"values": list(range(most + 1))} if most < _FEW_TICKS else {})}


def _colour(field: str, domain: Sequence[str], title: str | None) -> Spec:
    return {
        "field": field,
        "type": "nominal",
        "scale": {"domain": list(domain)},
        "legend": {"title": title, "orient": "top", "symbolOpacity": 1},
    }


def _tips(**titles: str) -> list[Spec]:
    return [{"field": field, "title": title} for field, title in titles.items()]
