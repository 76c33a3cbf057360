"""Draw the number of rows of each product class, before and after the classes are balanced."""

from matplotlib.figure import Figure

from shared.categories import category_name

_SOURCE_COLOUR, _BALANCED_COLOUR = "#1f6f8b", "#d8e3e7"


def class_distribution(title: str, source: dict[int, int], balanced: dict[int, int]) -> Figure:
    """Draw two horizontal bars per product class: one for its training rows in PostgreSQL, one for its rows in the dataset.

    The class with the most rows in PostgreSQL is at the top. Each class is labelled with its name and its code.

    Args:
        title: title of the figure.
        source: number of rows of each class before balancing, by prdtypecode.
        balanced: number of rows of each class in the dataset, by prdtypecode.
    """
    codes = sorted(source, key=lambda code: (source[code], -code))
    figure = Figure(figsize=(10, 0.32 * len(codes) + 1.6), layout="constrained")
    axes = figure.subplots()
    before, after = [source[code] for code in codes], [balanced[code] for code in codes]
    axes.barh(range(len(codes)), after, color=_BALANCED_COLOUR, label="balanced dataset")
    bars = axes.barh(range(len(codes)), before, color=_SOURCE_COLOUR, label="training products in PostgreSQL")
    axes.bar_label(bars, padding=3, fontsize=8, fmt="{:,.0f}")
    axes.set_yticks(range(len(codes)), [f"{category_name(code)}  {code}" for code in codes], fontsize=9)
    axes.set_xlabel("rows")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.01)
    figure.legend(loc="outside lower right", ncols=2, frameon=False)
    return figure
