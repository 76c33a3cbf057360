"""Compare the products that a week added with those of the first week and of the week before: classes, lengths, languages.

A dataset is cumulative, so its own shares hardly move: after 20 weeks, a week is 3 % of it. Only the new products show a change.
At most 2,000 products of each group are compared, those with the lowest `sample_rank`. The rank is a random order that is fixed, so
they are a random sample. They are taken from the rows that the snapshot reads anyway. A correction adds no week, so it has no
drift.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg.rows import TupleRow
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from db.sql import query
from listeners.drift.groups import GROUPS, NEW, compare_groups, histogram
from listeners.snapshot.parquet import SCHEMA

# Fixed edges, in characters, so that every week is counted alike. A title has at most 250 characters in the challenge's data, and a
# description up to 12,451; the edges of the descriptions are octaves.
_TITLE_EDGES: Final = (0, 20, 30, 40, 50, 60, 70, 80, 100, 125, 150, 200, 250)
_DESCRIPTION_EDGES: Final = (0, 50, 100, 200, 400, 800, 1600, 3200, 6400)
# The languages that occur in the challenge's data; py3langid knows 97, and takes short titles for rare ones.
LANGUAGES: Final = {
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "it": "Italian",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
}
# Of each group. It takes 70 microseconds to identify the language of 100 characters, which is a third of what drift costs.
_LANGUAGE_ROWS: Final = 200
_LANGUAGE_CHARACTERS: Final = 100

SAMPLE_SCHEMA: Final = pa.schema([("group", pa.string()), ("productid", pa.int64())])


class DriftSample:
    """The products that drift compares, collected from the rows of a dataset while these are read.

    Attributes:
        groups: productids of each group (`new`, `first`, `before`), each of shape (products,), int64, by sample_rank.
        wanted: the productids of all groups, each once, an array of int64.
    """

    def __init__(self, groups: Mapping[str, npt.NDArray[np.int64]]) -> None:
        self.groups = groups
        self.wanted = pa.array(np.unique(np.concatenate([np.empty(0, np.int64), *groups.values()])))
        self._rows: list[pa.Table] = []

    def collect(self, rows: pa.Table) -> None:
        """Keep the rows that belong to a group; `rows` is a table with the columns of `SCHEMA`."""
        if len(self.wanted):
            found = rows.filter(pc.is_in(rows["productid"], self.wanted))
            if found.num_rows:
                self._rows.append(found)

    def document(self, *, seed: int) -> dict[str, Any]:
        """Return the content of drift.json: `histograms` by feature, group and bin, and `drift`, the comparisons.

        Without an earlier week, nothing is compared.
        """
        rows = pa.concat_tables(self._rows) if self._rows else SCHEMA.empty_table()
        # By sample_rank, so that the order in which an engine reads the rows changes nothing.
        positions = {
            name: pc.index_in(pa.array(ids), rows["productid"]).drop_null()
            for name, ids in self.groups.items()
        }
        parts = {name: rows.take(found) for name, found in positions.items()}
        compared = {name: part for name, part in parts.items() if part.num_rows}
        features = {name: _features(part) for name, part in compared.items()}
        histograms = {
            feature: {group: found[feature] for group, found in features.items()}
            for feature in next(iter(features.values()), {})
        }
        return {"histograms": histograms, "drift": compare_groups(histograms, seed=seed)}

    def table(self) -> pa.Table:
        """Return which product belongs to which group, for the training stage, with the columns of `SAMPLE_SCHEMA`."""
        tables = [
            pa.table(
                [pa.array([name] * len(ids), pa.string()), pa.array(ids, pa.int64())], schema=SAMPLE_SCHEMA
            )
            for name, ids in self.groups.items()
        ]
        return pa.concat_tables(tables) if tables else SAMPLE_SCHEMA.empty_table()


def find_groups(connection: psycopg.Connection[TupleRow], batch_id: int) -> DriftSample:
    """Return the sample of a batch. It has no products if the batch is not a week.

    `connection` needs a role that may read the history.
    """
    rows = connection.execute(query("snapshot/drift_groups"), {"batch_id": batch_id}).fetchall()
    found: dict[str, list[int]] = dict(rows)
    return DriftSample(
        {name: np.array(found[name], np.int64) for name in GROUPS if name in found} if NEW in found else {}
    )


def _features(rows: pa.Table) -> dict[str, dict[str, int]]:
    codes, counts = np.unique(rows["prdtypecode"].to_numpy(), return_counts=True)
    described = rows["description"].drop_null()
    return {
        "class shares": dict(zip(map(str, codes.tolist()), counts.tolist(), strict=True)),
        "title length": histogram(_lengths(rows["designation"].drop_null()), _TITLE_EDGES),
        "description length": histogram(_lengths(described), _DESCRIPTION_EDGES),
        "missing descriptions": {"missing": rows.num_rows - len(described), "present": len(described)},
        "language": _languages(rows.slice(0, _LANGUAGE_ROWS)),
    }


def _lengths(texts: pa.ChunkedArray) -> npt.NDArray[np.int32]:
    lengths: npt.NDArray[np.int32] = pc.utf8_length(texts).to_numpy()
    return lengths


def _languages(rows: pa.Table) -> dict[str, int]:
    """Count the languages of the beginning of title and description."""
    texts = pc.binary_join_element_wise(
        *(rows[name].fill_null("") for name in ("designation", "description")), " "
    )
    known = language_identifier()
    found = [
        known.classify(text)[0]
        for text in pc.utf8_slice_codeunits(texts, 0, _LANGUAGE_CHARACTERS).to_pylist()
    ]
    return {code: found.count(code) for code in LANGUAGES}


@cache
def language_identifier() -> LanguageIdentifier:
    """Return the identifier of `LANGUAGES`. Loading its model takes more than half a second, so `listeners.preload` does it."""
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages(LANGUAGES)
    return identifier
