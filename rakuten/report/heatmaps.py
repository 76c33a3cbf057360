"""Draw the heatmaps of the report: one cell for each batch and class, or for each batch and feature."""

from collections.abc import Sequence
from typing import Final

from rakuten.report.tables import Row
from rakuten.report.vega import Spec, batch_axis, class_label, figure, names_axis, tips

_CLASS_HEIGHT: Final = 17  # pixels
_FEATURE_HEIGHT: Final = 24  # pixels


def class_heatmap(
    rows: list[Row], batch_names: Sequence[str], classes: Sequence[str], *, field: str, title: str, form: str
) -> Spec:
    """Draw one cell for each class and batch, whose colour is the value of `field`. `form` is D3's format of the value."""
    values = [{**row, "class": class_label(row)} for row in rows]
    return figure(
        values,
        _CLASS_HEIGHT * len(classes),
        mark={"type": "rect"},
        encoding={
            "x": batch_axis(batch_names),
            "y": names_axis("class", classes),
            "color": {
                "field": field,
                "type": "quantitative",
                "scale": {"scheme": "viridis", "zero": False},
                "legend": {"title": title, "format": form, "orient": "top", "gradientLength": 200},
            },
            "tooltip": [
                *tips(name="batch"),
                {"field": "class", "title": "class"},
                {"field": field, "title": title, "type": "quantitative", "format": form},
            ],
        },
    )


def drift_heatmap(rows: list[Row], batch_names: Sequence[str], features: Sequence[str]) -> Spec:
    """Draw for each feature and batch how far the rows are from the reference, in multiples of what chance explains."""
    values = [
        {
            **row,
            "ratio": row["js"] / row["noise"] if row["noise"] else 0.0,
            "mark": "drift" if row["drifted"] else "",
        }
        for row in rows
        if row["js"] is not None
    ]
    x, y = batch_axis(batch_names), names_axis("feature", features)
    shown = tips(
        name="batch",
        feature="feature",
        js="Jensen-Shannon",
        noise="limit of chance",
        psi="PSI",
        rows="rows",
        mark="result",
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
            "tooltip": shown,
        },
    }
    marks = {
        "transform": [{"filter": "datum.drifted"}],
        "mark": {
            "type": "point",
            "shape": "diamond",
            "filled": True,
            "size": 40,
            "opacity": 1,
            "style": "mark",
        },
        "encoding": {"x": x, "y": y, "tooltip": shown},
    }
    return figure(values, _FEATURE_HEIGHT * len(features), layer=[cells, marks])
