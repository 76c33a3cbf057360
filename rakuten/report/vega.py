"""Write the parts of a Vega-Lite specification that all figures share: their frame, their axes, their colours.

A figure has no colours of its own: the page gives it those of its style sheet, for light and for dark. Its width is that of the page.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

from rakuten.report.tables import Row

Spec = dict[str, Any]

_SCHEMA: Final = "https://vega.github.io/schema/vega-lite/v6.json"  # a name: nothing is fetched
_FEW_TICKS: Final = 8
_BATCH_TITLE: Final = "batch (a number: week, c: correction)"


def short_name(batch_name: str) -> str:
    """Return the name of a batch on an axis: `7` for week_7, `c2` for correction_2."""
    kind, _, number = batch_name.partition("_")
    return number if kind == "week" else f"{kind[:1]}{number}"


def class_label(row: Row) -> str:
    """Return the code and the name of a class, for example `2583 Pools and spas`."""
    return f"{row['prdtypecode']} {row['category']}"


def figure(rows: list[Row], height: int, **rest: Any) -> Spec:
    """Return a figure of some rows. `height` is in pixels; `rest` has its marks and encodings, or its layers."""
    return {
        "$schema": _SCHEMA,
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": named(rows)},
        **rest,
    }


def named(rows: Iterable[Row]) -> list[Row]:
    """Return the rows as JSON can hold them, with the short name of their batch."""
    return [
        {
            **{key: value for key, value in row.items() if not hasattr(value, "isoformat")},
            **(
                {"batch": short_name(row["batch_name"]), "name": row["batch_name"]}
                if "batch_name" in row
                else {}
            ),
        }
        for row in rows
    ]


def batch_axis(batch_names: Sequence[str]) -> Spec:
    """Return the axis of batches, in the order of `batch_names`, also for batches without a value."""
    return {
        "field": "batch",
        "type": "ordinal",
        "title": _BATCH_TITLE,
        "scale": {"domain": [short_name(name) for name in batch_names]},
        "axis": {"labelAngle": 0, "labelOverlap": "greedy", "labelSeparation": 4},
    }


def names_axis(field: str, domain: Sequence[str]) -> Spec:
    """Return an axis of names, from top to bottom in the order of `domain`."""
    return {"field": field, "type": "nominal", "title": None, "scale": {"domain": list(domain)}}


def number_axis(field: str, title: str, *, scale: Spec | None = None, **axis: Any) -> Spec:
    """Return an axis of numbers. `axis` has options of Vega-Lite for its ticks and labels."""
    encoding: Spec = {"field": field, "type": "quantitative", "title": title, "axis": axis}
    return encoding if scale is None else {**encoding, "scale": scale}


def whole_numbers(most: int) -> Spec:
    """Return the ticks of an axis of counts. Vega would put ticks between small whole numbers."""
    return {"format": ",d", **({"values": list(range(most + 1))} if most < _FEW_TICKS else {})}


def powers_of_ten(rows: list[Row]) -> list[float]:
    """Return the powers of ten around the seconds of the rows."""
    exponents = [math.floor(math.log10(row["seconds"])) for row in rows]
    return [10.0**power for power in range(min(exponents, default=0), max(exponents, default=0) + 2)]


def colour(field: str, domain: Sequence[str], title: str | None) -> Spec:
    """Return a colour for each value of `domain`, with a legend: the series of the style sheet, in their order."""
    return {
        "field": field,
        "type": "nominal",
        "scale": {"domain": list(domain)},
        "legend": {"title": title, "orient": "top", "symbolOpacity": 1},
    }


def tips(**titles: str) -> list[Spec]:
    """Return what the small window under the mouse shows: fields with their titles."""
    return [{"field": field, "title": title} for field, title in titles.items()]
