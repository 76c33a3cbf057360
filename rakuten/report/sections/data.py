"""The sections about the data: rows, classes, drift and suspected labels."""

from itertools import groupby
from typing import Final

from rakuten.report import figures, heatmaps
from rakuten.report.parts import (
    Figure,
    Line,
    Section,
    grid,
    line,
    number,
    percent,
    pivot,
    plural,
    score,
    unrecorded,
)
from rakuten.report.tables import Facts, Row
from rakuten.report.vega import class_label
from shared.drift import REFERENCES

_NO_SUSPECTS: Final = (
    "no suspected labels recorded, because version 0.2 trained the model, or its trainer gives no probabilities of products "
    "that the model has not seen"
)


def rows(facts: Facts) -> Section:
    """Show how many rows each batch has, and how much of the training file is loaded."""
    batches = facts.rows("batches")
    last = batches[-1]
    says = f"{last['total_rows']:,} rows are loaded: {last['percentage']:g}\u00a0% of the training file."
    return Section(
        "rows",
        "Rows",
        "Each bar is the number of rows in PostgreSQL after a batch; the dashed line is the whole training file.",
        says,
        (facts.tables["batches"],),
        (
            Figure(
                "rows",
                figures.rows_by_batch(batches, facts.batch_names),
                f"Bars: rows in PostgreSQL after each of {plural(len(batches), 'batch')}, from {batches[0]['total_rows']:,} to "
                f"{last['total_rows']:,}.",
            ),
        ),
        grids=(
            grid(
                "Batches",
                batches,
                {"percentage": lambda value: percent(value / 100)},
                batch_name="batch",
                percentage="of the file",
                loaded_rows="rows of the batch",
                total_rows="rows in all",
                completed_at="complete at (UTC)",
                reason="reason of the correction",
            ),
        ),
    )


def classes_by_size(facts: Facts) -> list[str]:
    """Return the labels of all classes, that with the most products in the last batch first."""
    shares = facts.rows("class_shares")
    last = [row for row in shares if row["batch_name"] == shares[-1]["batch_name"]] if shares else []
    return [class_label(row) for row in sorted(last, key=lambda row: (-row["products"], row["prdtypecode"]))]


def classes(facts: Facts) -> Section:
    """Show the share of each class in each batch, as a heatmap and as small lines."""
    shares, names = facts.rows("class_shares"), classes_by_size(facts)
    lines = _lines_of_change(shares, names)
    labelled = [{**row, "class": class_label(row)} for row in shares]
    labelled.sort(key=lambda row: names.index(row["class"]))
    says = "No product has a label yet."
    if shares:
        last = [row for row in labelled if row["batch_name"] == shares[-1]["batch_name"]]
        says = (
            f"The largest class has {percent(last[0]['share'])} of the products ({last[0]['category']}), the smallest "
            f"{percent(last[-1]['share'])} ({last[-1]['category']})."
        )
    return Section(
        "classes",
        "Classes",
        "Each cell is the share of a class in a batch, before the dataset is balanced; a row whose colour stays the same has "
        "not changed. Each small line is a class's share from the first batch (dashed) to the last, and all have one scale.",
        says,
        (facts.tables["class_shares"],),
        (
            Figure(
                "classes",
                heatmaps.class_heatmap(
                    shares, facts.batch_names, names, field="share", title="share", form=".1%"
                ),
                f"Heatmap: the share of each of {len(names)} classes in {plural(len(facts.batch_names), 'batch')}. {says}",
            ),
        ),
        lines=lines,
        grids=(
            pivot(
                "Share of each class", labelled, facts.batch_names, down="class", value="share", form=percent
            ),
        ),
    )


def _lines_of_change(shares: list[Row], names: list[str]) -> tuple[Line, ...]:
    """Return a small line for each class: its share divided by its first share, on one scale for all classes."""
    by_class = {
        label: [row["share"] or 0.0 for row in group]
        for label, group in groupby(
            sorted(shares, key=lambda row: (class_label(row), row["chain_number"])), class_label
        )
    }
    relative = {label: [value / (values[0] or 1.0) for value in values] for label, values in by_class.items()}
    everything = [value for values in relative.values() for value in values]
    low, high = min(everything, default=0.0), max(everything, default=1.0)
    return tuple(
        line(
            name,
            relative[name],
            low,
            high,
            f"{percent(by_class[name][0])} → {percent(by_class[name][-1])}",
        )
        for name in names
    )


def weeks_without_drift(facts: Facts) -> str:
    """Say why weeks have no comparison, or return "" if each has one that can have one: a later week with a dataset."""
    weeks = [row["batch_name"] for row in facts.rows("batches") if row["kind"] == "week"]
    if len(weeks) <= 1:
        return "Nothing to compare yet: this is the first week."
    built = {
        row["batch_name"]
        for row in facts.rows("attempts")
        if (row["stage"], row["state"]) == ("snapshot", "finished")
    }
    if built.isdisjoint(weeks[1:]):
        return "Nothing to compare yet: no later week has a dataset."
    return unrecorded([name for name in weeks[1:] if name in built], facts.rows("drift"))


def drift(facts: Facts) -> Section:
    """Show for each feature how far each week's new products are from those of the first week and of the week before."""
    found = facts.rows("drift")
    features = list(dict.fromkeys(row["feature"] for row in found))
    drifted = [row for row in found if row["drifted"]]
    weeks = [name for name in facts.batch_names if name.startswith("week_")]
    says = weeks_without_drift(facts)
    if found:
        newest = found[-1]["batch_name"]
        recent = [row["feature"] for row in drifted if row["batch_name"] == newest]
        says = (
            f"{plural(len(drifted), 'comparison')} of {len(found):,} found drift. In the newest week, {newest}: "
            f"{', '.join(dict.fromkeys(recent)) or 'none'}. {says}"
        )
    return Section(
        "drift",
        "Drift",
        "Each cell is how far a feature of the products that a week added is from those of another week, divided by the most that "
        "chance explains: a value above 1 is drift, and gets a diamond. A correction adds no week.",
        says,
        (facts.tables["drift"],),
        tuple(
            Figure(
                f"drift-{reference}",
                heatmaps.drift_heatmap(part, weeks, features),
                f"Heatmap of drift of new products from those of {text}: {plural(sum(row['drifted'] for row in part), 'cell')} of {len(part)} with drift.",
                f"New products compared with {text}",
            )
            for reference, text in REFERENCES.items()
            if (
                part := [row for row in found if row["reference"] == reference and row["batch_name"] in weeks]
            )
        ),
        grids=(
            grid(
                "Drift",
                found,
                batch_name="batch",
                feature="feature",
                reference="reference",
                rows="rows",
                reference_rows="rows of the reference",
                psi="population stability index",
                js="Jensen-Shannon distance",
                noise="limit of chance",
                drifted="drift",
            ),
        ),
    )


def suspects(facts: Facts) -> Section:
    """Show how many labels each model suspects, and the most suspicious products of the newest model."""
    counts, top = facts.rows("suspects"), facts.rows("top_suspects")
    models = [row["batch_name"] for row in facts.rows("model_scores")]
    says = unrecorded(models, counts, _NO_SUSPECTS) if models else "No model is trained yet."
    if counts:
        says = (
            f"The model of {counts[-1]['batch_name']} suspects {plural(counts[-1]['suspects'], 'label')}. A person decides: "
            f"rakuten suspects --out suspects.csv writes them for rakuten correct. {says}"
        )
    return Section(
        "suspects",
        "Suspected labels",
        "Each bar is the number of training products whose label is probably wrong, as models that have not seen them say.",
        says,
        (facts.tables["suspects"], facts.tables["top_suspects"]),
        (
            Figure(
                "suspects",
                figures.suspects_by_batch(counts, facts.batch_names),
                f"Bars: suspected labels of {plural(len(counts), 'model')}. {says}",
            ),
        )
        if counts
        else (),
        grids=(
            grid(
                "The most suspicious products of the newest model",
                top,
                {"productid": number, "label": number, "suggested": number, "probability": score},
                productid="product",
                title="title",
                label="label",
                label_class="class",
                suggested="suggested",
                suggested_class="suggested class",
                probability="probability",
                state="state",
            ),
            grid("Suspected labels by batch", counts, batch_name="batch", suspects="suspected labels"),
        ),
    )
