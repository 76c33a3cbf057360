"""The class distribution before and after balancing, as a figure to look at.

Its margins are given in inches: a layout engine would draw everything twice, and be most of what publishing a dataset costs.
"""

from matplotlib.figure import Figure

from shared.categories import category_name

_SOURCE_COLOUR, _BALANCED_COLOUR = "#1f6f8b", "#d8e3e7"


def class_distribution(title: str, source: dict[int, int], balanced: dict[int, int]) -> Figure:
    """Horizontal bars, largest class on top: rows in PostgreSQL over rows in the dataset, codes with their names."""
    codes = sorted(source, key=lambda code: (source[code], -code))
    width, height = 10, 0.32 * len(codes) + 1.6
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(
        gridspec_kw={"left": 2.9 / width, "right": 0.97, "bottom": 0.85 / height, "top": 1 - 0.45 / height}
    )
    places = range(len(codes))
    axes.barh(places, [balanced[code] for code in codes], color=_BALANCED_COLOUR, label="balanced dataset")
    bars = axes.barh(
        places,
        [source[code] for code in codes],
        color=_SOURCE_COLOUR,
        label="training products in PostgreSQL",
    )
    axes.bar_label(bars, padding=3, fontsize=8, fmt="{:,.0f}")
    axes.set_yticks(places, [f"{category_name(code)}  {code}" for code in codes], fontsize=9)
    axes.set_xlabel("rows")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.01)
    figure.legend(loc="lower right", bbox_to_anchor=(0.97, 0), ncols=2, frameon=False)
    return figure
