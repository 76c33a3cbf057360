"""Write the data card of a batch's dataset: where it comes from, what is in it, and what it is not good for."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg.rows import TupleRow

from db.sql import query
from listeners.cards.document import Card, Cell, Paragraph, Section, Share, Table, facts
from listeners.cards.sections import drift_section, how_to_check
from listeners.snapshot.drift import LANGUAGES
from listeners.tracking import descriptions
from shared.batch import Batch

_TEXTS: Final = ("designation", "description")
_QUANTILES: Final = (0.5, 0.95, 1)


class RowsSummary:
    """Count nulls, text lengths and repeated titles of a dataset's products, while their rows are read."""

    def __init__(self) -> None:
        self._lengths: dict[str, list[npt.NDArray[np.int32]]] = {name: [] for name in _TEXTS}
        self._titles: list[npt.NDArray[np.uint64]] = []
        self._nulls: dict[str, int] = {}
        self._rows = 0

    def collect(self, rows: pa.Table) -> None:
        """Count the rows of a table with the columns of the dataset. Of each row, 16 bytes are kept."""
        self._rows += rows.num_rows
        for name in (*_TEXTS, "imageid"):
            self._nulls[name] = self._nulls.get(name, 0) + rows[name].null_count
        for name, lengths in self._lengths.items():
            lengths.append(pc.utf8_length(rows[name]).drop_null().to_numpy())
        titles = rows["designation"].drop_null().to_numpy()
        self._titles.append(pd.util.hash_array(titles, categorize=False))

    def missing(self) -> dict[str, float]:
        """Return the share of the products that lack a text or an image, by column."""
        return {name: count / max(1, self._rows) for name, count in self._nulls.items()}

    def quantiles(self, name: str) -> list[int]:
        """Return median, 95 % quantile and maximum of a text's length in characters; no number if there are no texts."""
        lengths = np.concatenate(self._lengths.get(name) or [np.empty(0, np.int32)])
        return np.quantile(lengths, _QUANTILES).astype(int).tolist() if len(lengths) else []

    def repeated_titles(self) -> int:
        """Return how many products have a title that an earlier row of the dataset has, too."""
        titles = np.concatenate(self._titles)
        return len(titles) - len(np.unique(titles))


@dataclass(frozen=True)
class DatasetFacts:
    """What the card of a dataset says besides its batch.

    Attributes:
        name: of the dataset.
        stats: what `listeners.snapshot.handle.build` returns.
        sha256: of the parquet file.
        digest: of the content.
        rows: the products, counted.
        drift: the content of drift.json.
        changes: table, operation, login and number of history entries of the batch.
    """

    name: str
    stats: dict[str, Any]
    sha256: str
    digest: str
    rows: RowsSummary
    drift: dict[str, Any]
    changes: list[tuple[str, str, str, int]]


def changes_of(connection: psycopg.Connection[TupleRow], batch_id: int) -> list[tuple[str, str, str, int]]:
    """Return what a batch changed: table, operation, login and number of history entries."""
    return connection.execute(query("snapshot/changes_of_batch"), {"batch_id": batch_id}).fetchall()


def data_card(batch: Batch, known: DatasetFacts) -> Card:
    """Return the card of a batch's dataset."""
    return Card(
        title=f"Data card: {known.name}",
        introduction=[Paragraph(descriptions.dataset_run(known.name, batch, known.stats))],
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
                ("SHA-256 of the file", known.sha256),
                ("Digest of the content", known.digest),
                *files,
            ),
        ],
    )


def _classes(known: DatasetFacts) -> Section:
    classes = sorted(known.stats["classes"].items(), key=lambda entry: -entry[1]["source_rows"])
    products = known.stats["distinct_products"]
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
        known.rows.missing(),
    )
    rows: list[tuple[Cell, ...]] = [
        (label, Share(missing[name]), *(known.rows.quantiles(name) or ("",) * len(_QUANTILES)))
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
    repeated = known.rows.repeated_titles()
    percentage = batch.source.get("holdout_percentage")
    return Section(
        "Duplicates and the holdout",
        [
            Paragraph(
                f"{repeated:,} products have a title that another product of this dataset has, too. Products of equal text, apart from "
                "case, punctuation and accents, form a group. A hash of the group decides whether it is held out, so no text is on both "
                f"sides. The setting is {percentage} % of the groups, and {known.stats['held_out_products']:,} products of the batch are "
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
                f"{Share(known.rows.missing()['description'])} of the products have no description. Images are named, not contained. "
                "Labels can be wrong: `label_suspects.csv` of the model's run lists those that probably are."
            ),
        ],
    )
