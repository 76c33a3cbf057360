"""Write docs/monitoring/dashboard.json, the dashboard for Grafana. `make dashboard` runs this.

panels.py and panels_of_data.py say what the panels are. The library is Grafana's own (grafana-foundation-sdk): it knows the JSON.
"""

from itertools import count
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Final

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from panels import Panel
from panels_of_data import ROWS

PATH: Final = Path(__file__).with_name("dashboard.json")
# The datasource is a variable, so that the dashboard works in any Grafana with a Prometheus.
_DATASOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
_HEIGHT: Final = 7


def as_json() -> str:
    """Return the text of dashboard.json."""
    built = (
        dashboard.Dashboard("Rakuten pipeline")
        .uid("rakuten-pipeline")
        .description(
            "From the weekly load to the model that is served. Written by docs/monitoring/make_dashboard.py."
        )
        .tags(["rakuten"])
        .time("now-7d", "now")
        .refresh("1m")
        .timezone("browser")
        .readonly()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    numbers = count(1)
    for title, panels in ROWS.items():
        built.with_row(dashboard.Row(title).id(next(numbers)))
        for panel in panels:
            built.with_panel(_build(panel).id(next(numbers)))
    return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"


def _build(panel: Panel) -> Any:
    if panel.kind == "stat":
        builder: Any = stat.Panel().text_mode(common_models.BigValueTextMode.VALUE_AND_NAME)
        builder.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    elif panel.kind == "states":
        builder = statetimeline.Panel()
        builder.mappings([_mapping(panel)])
        builder.color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    else:
        builder = timeseries.Panel().min(0)
        builder.legend(
            common.VizLegendOptions().show_legend(True).placement(common_models.LegendPlacement.BOTTOM)
        )
        builder.tooltip(common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI))
        if panel.kind == "area":
            builder.fill_opacity(30).stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
        if panel.limits:
            builder.thresholds_style(
                common.GraphThresholdsStyleConfig().mode(common_models.GraphTresholdsStyleMode.DASHED)
            )
    builder.title(panel.title).description(_description(panel)).unit(panel.unit).span(panel.width).height(
        _HEIGHT
    )
    builder.datasource(_DATASOURCE).thresholds(_thresholds(panel))
    if panel.kind != "states":
        for name, shown in panel.names.items():
            builder.override_by_name(name, [models.DynamicConfigValue(id_val="displayName", value=shown)])
    for letter, (legend, expression) in zip(ascii_uppercase, panel.queries.items(), strict=False):
        builder.with_target(
            prometheus.Dataquery()
            .ref_id(letter)
            .expr(expression)
            .legend_format(legend)
            .datasource(_DATASOURCE)
        )
    return builder


def _description(panel: Panel) -> str:
    return f"{panel.description} It is empty {panel.empty}." if panel.empty else panel.description


def _thresholds(panel: Panel) -> dashboard.ThresholdsConfig:
    steps = [models.Threshold(value=None, color=panel.base)]
    steps += [models.Threshold(value=value, color=colour) for value, colour in panel.limits]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _mapping(panel: Panel) -> models.ValueMap:
    return models.ValueMap(
        options={
            value: models.ValueMappingResult(text=text, index=index)
            for index, (value, text) in enumerate(panel.names.items())
        }
    )


if __name__ == "__main__":
    PATH.write_text(as_json(), encoding="utf-8")
