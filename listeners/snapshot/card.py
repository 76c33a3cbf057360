"""Write the data card of a batch's dataset: where it comes from, what is in it, and what it is not good for."""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from db.sql import query
from listeners.cards.document import Card, Cell, Paragraph, Section, Share, Table, facts
from listeners.cards.sections import drift_section, how_to_check
from listeners.snapshot.drift import LANGUAGES
from listeners.snapshot.engine import Built
from listeners.snapshot.rows import QUANTILES
from listeners.tracking import descriptions
from shared.batch import Batch


@dataclass(frozen=True)
class DatasetFacts:
    """What the card of a dataset says besides its batch.

    Attributes:
        name: of the dataset.
        built: the dataset.
        drift: the content of drift.json.
        changes: table, operation, login and number of history entries of the batch.
    """

    name: str
    built: Built
    drift: dict[str, Any]
    changes: list[tuple[str, str, str, int]]


def changes_of(connection: psycopg.Connection[TupleRow], batch_id: int) -> list[tuple[str, str, str, int]]:
    """Return what a batch changed: table, operation, login and number of history entries."""
    return connection.execute(query("snapshot/changes_of_batch"), {"batch_id": batch_id}).fetchall()


def data_card(batch: Batch, known: DatasetFacts) -> Card:
    """Return the card of a batch's dataset."""
    return Card(
        title=f"Data card: {known.name}",
        introduction=[Paragraph(descriptions.dataset_run(known.name, batch, known.built.stats))],
        sections=[
            how_to_check(batch),
            _changes(known),
            _texts(known),
            _classes(known),
            drift_section(known.drift["drift"]),
            _holdout(batch, known),
            _origin(batch, known),
            _limits(known),
        ],
    )


def _origin(batch: Batch, known: DatasetFacts) -> Section:
    files = [
        (f"SHA-256 of {name}", str(sha256)) for name, sha256 in sorted(batch.source.get("files", {}).items())
    ]
    return Section(
        "Origin",
        [
            Paragraph(
                "The products and labels were read from the source files below. Each week loads the next products of one random order, "
                "which is fixed. The audit trail in PostgreSQL gives this dataset again, byte for byte."
            ),
            facts(
                ("Batch", f"{batch.id} ({batch.name}), number {batch.chain_number} in the hash chain"),
                ("Products of", f"week 1 to week {batch.week}"),
                ("Loaded", f"{batch.started_at:%Y-%m-%d %H:%M} to {batch.completed_at:%Y-%m-%d %H:%M} UTC"),
                ("Seal of the batch", str(batch.seal)),
                ("SHA-256 of the manifest" if known.built.uri else "SHA-256 of the file", known.built.sha256),
                ("Digest of the content", known.built.digest),
                ("Built by", known.built.built_by),
                *([("Folder of the files", known.built.uri)] if known.built.uri else []),
                *files,
            ),
        ],
    )


def _classes(known: DatasetFacts) -> Section:
    classes = sorted(known.built.stats["classes"].items(), key=lambda entry: -entry[1]["source_rows"])
    products = known.built.stats["distinct_products"]
    rows: list[tuple[Cell, ...]] = [
        (
            code,
            entry["name"],
            entry["source_rows"],
            Share(entry["source_rows"] / products),
            entry["balanced_rows"],
            f"{entry['balanced_rows'] / entry['source_rows']:.1f}",
        )
        for code, entry in classes
    ]
    return Section(
        "Classes before and after balancing",
        [
            Paragraph(
                "Products of small classes are repeated until all classes are equally large. No product is left out."
            ),
            Table(("Class", "Name", "Products", "Share", "Rows after", "Copies of each"), rows),
        ],
    )


def _texts(known: DatasetFacts) -> Section:
    names, missing = (
        {"designation": "Title", "description": "Description", "imageid": "Image"},
        known.built.rows.missing,
    )
    rows: list[tuple[Cell, ...]] = [
        (label, Share(missing[name]), *(known.built.rows.lengths.get(name) or ("",) * len(QUANTILES)))
        for name, label in names.items()
    ]
    languages = known.drift["histograms"].get("language", {}).get("new", {})
    total = max(1, sum(languages.values()))
    found = sorted(languages.items(), key=lambda entry: -entry[1])
    by_language = Table(
        ("Language", "Share"), [(LANGUAGES[code], Share(count / total)) for code, count in found if count]
    )
    said = (
        f"Languages of {total} of the new products, as py3langid guesses them among eight from the first 100 characters:"
        if found
        else "Languages are counted for the new products of a week, and this batch is no week."
    )
    return Section(
        "Texts and languages",
        [
            Table(("", "Missing", "Median characters", "95 % have at most", "Longest"), rows),
            Paragraph(said),
            *([by_language] if found else []),
        ],
    )


def _holdout(batch: Batch, known: DatasetFacts) -> Section:
    repeated = known.built.rows.repeated_titles
    percentage = batch.source.get("holdout_percentage")
    return Section(
        "Duplicates and the holdout",
        [
            Paragraph(
                f"{repeated:,} products have a title that another product of this dataset has, too. Products of equal text, apart from "
                "case, punctuation and accents, form a group. A hash of the group decides whether it is held out, so no text is on both "
                f"sides. The setting is {percentage} % of the groups, and {known.built.stats['held_out_products']:,} products of the batch are "
                "held out."
            )
        ],
    )


def _changes(known: DatasetFacts) -> Section:
    rows = [(table, operation.lower(), who, count) for table, operation, who, count in known.changes]
    return Section(
        "Changed since the batch before",
        [Table(("Table", "Operation", "By", "Entries of the history"), rows)]
        if rows
        else [Paragraph("Nothing was changed.")],
    )


def _limits(known: DatasetFacts) -> Section:
    return Section(
        "Known limits",
        [
            Paragraph(
                "All classes are equally frequent here, but not among the products. Measure a model on `holdout_df`, never on a part of "
                "this file: copies of one product would be on both sides."
            ),
            Paragraph(
                f"{Share(known.built.rows.missing['description'])} of the products have no description. Images are named, not contained. "
                "Labels can be wrong: `label_suspects.csv` of the model's run lists those that probably are."
            ),
        ],
    )
