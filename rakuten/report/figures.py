"""Draw the figures of the report as specifications of Vega-Lite, which the page draws in the browser."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from rakuten.console import readable_bytes
from rakuten.report.tables import Row
from rakuten.report.vega import (
    Spec,
    batch_axis,
    colour,
    figure,
    named,
    names_axis,
    number_axis,
    powers_of_ten,
    tips,
    whole_numbers,
)
from rakuten.storage import Place

_BAR_HEIGHT: Final = 24  # pixels of one horizontal bar
_MEGABYTE: Final = 2**20  # as in `readable_bytes`
_HEIGHT: Final = 280  # pixels of a figure with an axis of numbers


def rows_by_batch(rows: list[Row], batch_names: Sequence[str]) -> Spec:
    """Draw the loaded rows after each batch as bars, and the rows of the training file as a line."""
    target = max((row["file_rows"] or 0 for row in rows), default=0)
    bars = {
        "mark": {"type": "bar"},
        "encoding": {
            "x": batch_axis(batch_names),
            "y": number_axis("total_rows", "rows in PostgreSQL", format=",d"),
            "color": colour("kind", ["week", "correction"], "batch"),
            "tooltip": tips(name="batch", total_rows="rows", percentage="percent", reason="reason"),
        },
    }
    rule = {
        "data": {"values": [{"target": target}]},
        "mark": {"type": "rule", "strokeDash": [6, 4], "style": "muted"},
        "encoding": {"y": {"field": "target", "type": "quantitative"}},
    }
    return figure(rows, _HEIGHT, layer=[bars, rule] if target else [bars])


def f1_by_batch(scores: list[Row], champion: list[Row], moves: list[Row], batch_names: Sequence[str]) -> Spec:
    """Draw the F1 of each model with its interval, the F1 of the champion as a step line, and the moves of the champion.

    Args:
        scores: rows with batch_name, f1, f1_low and f1_high.
        champion: rows with batch_name and f1: the champion's F1 after the batch.
        moves: rows with batch_name, f1 (of the new champion), move, and label.
        batch_names: the batches of the axis, in order.
    """
    axis = batch_axis(batch_names)
    series = colour("what", ["model of the batch", "champion"], None)
    y = number_axis("f1", "weighted F1 on the holdout", format=".2f", scale={"zero": False})
    shown = tips(
        name="batch", f1="F1", f1_low="interval from", f1_high="interval to", model_version="version"
    )
    model = [{**row, "what": "model of the batch"} for row in scores]
    held = [{**row, "what": "champion"} for row in champion]
    layers = [
        {
            "data": {"values": named(held)},
            "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2},
            "encoding": {"x": axis, "y": y, "color": series},
        },
        {
            "mark": {"type": "rule", "opacity": 0.6, "strokeWidth": 2},
            "encoding": {
                "x": axis,
                "y": {**y, "field": "f1_low"},
                "y2": {"field": "f1_high"},
                "color": series,
            },
        },
        {
            "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1},
            "encoding": {"x": axis, "y": y, "color": series, "tooltip": shown},
        },
        *_moves_layers(moves, axis, y),
    ]
    return figure(model, _HEIGHT, layer=layers)


def _moves_layers(moves: list[Row], axis: Spec, y: Spec) -> list[Spec]:
    kinds = [
        "promotion",
        "rollback",
        "by hand",
    ]  # a promotion happens most weeks, so only the others get a line and a text
    other = {"data": {"values": named(move for move in moves if move["kind"] != "promotion")}}
    rule = {
        **other,
        "mark": {"type": "rule", "strokeDash": [4, 3], "style": "muted"},
        "encoding": {"x": axis},
    }
    text = {
        **other,
        "mark": {"type": "text", "baseline": "bottom", "dy": -2, "style": "strong"},
        "encoding": {"x": axis, "y": {"value": 0}, "text": {"field": "kind"}},
    }
    point = {
        "data": {"values": named(moves)},
        "mark": {"type": "point", "size": 130, "strokeWidth": 2, "filled": False, "style": "strong"},
        "encoding": {
            "x": axis,
            "y": y,
            "shape": {
                "field": "move",
                "type": "nominal",
                "scale": {"domain": kinds, "range": ["triangle-up", "triangle-down", "cross"]},
                "legend": {"title": None, "orient": "top", "symbolOpacity": 1},
            },
            "tooltip": tips(name="batch", label="move", f1="F1 of the new champion", reason="reason"),
        },
    }
    return [rule, text, point]


def seconds_by_step(rows: list[Row], batch_names: Sequence[str]) -> Spec:
    """Draw the seconds of each step as a line over the batches, on a logarithmic axis."""
    steps = list(dict.fromkeys(row["step"] for row in rows))
    values = [row for row in rows if row["seconds"] is not None and row["seconds"] > 0]
    return figure(
        values,
        _HEIGHT,
        mark={"type": "line", "point": {"size": 40, "filled": True}},
        encoding={
            "x": batch_axis(batch_names),
            "y": number_axis(
                "seconds",
                "seconds (each line: ten times as long)",
                scale={"type": "log"},
                values=powers_of_ten(values),
            ),
            "color": colour("step", steps, "step"),
            "shape": {"field": "step", "type": "nominal", "scale": {"domain": steps}},
            "tooltip": tips(name="batch", step="step", seconds="seconds"),
        },
    )


def attempts_by_batch(rows: list[Row], batch_names: Sequence[str]) -> Spec:
    """Draw the attempts of both stages for each batch as a stacked bar, by how they ended."""
    outcomes = {
        "finished": "finished",
        "failures": "failed",
        "outages": "postponed by an outage",
        "ended_early": "ended early",
    }
    values = [
        {"batch_name": row["batch_name"], "outcome": text, "place": place, "attempts": row[column]}
        for row in rows
        for place, (column, text) in enumerate(outcomes.items())
        if row[column]
    ]
    per_batch = Counter[str]()
    for row in rows:
        per_batch[row["batch_name"]] += row["attempts"]
    most = max(per_batch.values(), default=0)
    return figure(
        values,
        200,
        mark={"type": "bar"},
        encoding={
            "x": batch_axis(batch_names),
            "y": {**number_axis("attempts", "attempts", **whole_numbers(most)), "aggregate": "sum"},
            "color": colour("outcome", list(outcomes.values()), None),
            "order": {"field": "place", "type": "quantitative"},
            "tooltip": [*tips(name="batch", outcome="outcome"), {"aggregate": "sum", "field": "attempts"}],
        },
    )


def bytes_by_object(found: Sequence[Place]) -> Spec:
    """Draw the bytes of each place as a bar, in megabytes."""
    values = [
        {
            "place": f"{place.object} ({place.kind})",
            "megabytes": place.bytes / _MEGABYTE,
            "size": readable_bytes(place.bytes),
        }
        for place in sorted(found, key=lambda place: -place.bytes)
    ]
    places = [str(row["place"]) for row in values]
    y = names_axis("place", places)
    x = number_axis("megabytes", "megabytes", format=",.4~g", tickCount=5)
    bars = {
        "mark": {"type": "bar"},
        "encoding": {"y": y, "x": x, "tooltip": tips(place="place", size="size")},
    }
    sizes = {
        "mark": {"type": "text", "align": "left", "dx": 4, "style": "strong"},
        "encoding": {"y": y, "x": x, "text": {"field": "size"}},
    }
    return figure(values, _BAR_HEIGHT * len(places), layer=[bars, sizes])


def suspects_by_batch(rows: list[Row], batch_names: Sequence[str]) -> Spec:
    """Draw the number of suspects of each model as bars."""
    return figure(
        rows,
        180,
        mark={"type": "bar"},
        encoding={
            "x": batch_axis(batch_names),
            "y": number_axis(
                "suspects",
                "suspected labels",
                **whole_numbers(max((row["suspects"] for row in rows), default=0)),
            ),
            "tooltip": tips(name="batch", suspects="suspected labels"),
        },
    )
