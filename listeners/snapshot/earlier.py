"""Find an earlier dataset whose rows a new dataset can reuse, so that only the new rows are read from PostgreSQL.

The weekly loads take products from the source in a fixed permuted order, so a week's rows are last week's rows followed by the
new rows. Last week's dataset file then holds all rows except the new ones, and PostgreSQL has recorded the SHA-256 of the file.
If rows were corrected, deleted or changed in any other way, all rows of the new dataset are read from PostgreSQL.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pyarrow as pa
import structlog
from psycopg.rows import TupleRow

from db.sql import query
from listeners.snapshot.parquet import distinct_rows, last_productid
from shared.hashing import sha256_of
from shared.mlflow_names import dataset_name, parquet_name

logger = structlog.get_logger()


@dataclass(frozen=True)
class EarlierDataset:
    """The dataset of an earlier batch, whose rows are also the first rows of a later batch's dataset.

    Attributes:
        path: parquet file of the earlier dataset.
        held_out: number of products that were held out at the time of the earlier batch.
        history_range: the range of the history entries after the earlier batch, up to the later batch, as four ids:
            products_after < id <= products_up_to in products_history, and labels_after < id <= labels_up_to in labels_history.
    """

    path: Path
    held_out: int
    history_range: Mapping[str, int]

    def rows(self) -> Iterator[pa.Table]:
        """Yield the rows of the earlier dataset in file order, each row only once, as tables with the columns of `SCHEMA`."""
        return distinct_rows(self.path)


def find_earlier_dataset(
    connection: psycopg.Connection[TupleRow], batch_id: int, directory: Path
) -> EarlierDataset | None:
    """Return the newest earlier dataset if the new dataset can begin with the same rows. Otherwise, return None.

    The new dataset can begin with these rows if only new products were added since the earlier batch, and if the new training
    rows come after all rows of the earlier dataset. The file of the earlier dataset must also be in `directory`, unchanged.

    Args:
        connection: a connection with a role that may read the history.
        batch_id: id of the completed batch of the new dataset.
        directory: local directory with copies of the published datasets. A copy is used only if its SHA-256 is the one that
            PostgreSQL has recorded.
    """
    recorded = connection.execute(query("snapshot/earlier_dataset"), {"batch_id": batch_id}).fetchone()
    if recorded is None:
        return None
    batch_name, sha256, held_out, history_range = recorded
    path = directory / parquet_name(dataset_name(batch_name))
    try:
        if not path.exists() or sha256_of(path) != sha256:
            return None
    except (
        OSError
    ) as error:  # an I/O error of the disk, or a file server that is gone: PostgreSQL has all rows, too
        logger.warning(
            "the earlier dataset cannot be read, so all rows are read from PostgreSQL", error=str(error)
        )
        return None
    [only_additions] = connection.execute(
        query("snapshot/has_only_additions"), {**history_range, "last_productid": last_productid(path)}
    ).fetchone() or [False]
    return EarlierDataset(path, held_out, history_range) if only_additions else None
