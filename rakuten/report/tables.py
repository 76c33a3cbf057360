"""Read the data of the report: one table for each query in db/sql/queries/report, all of the same moment, and the storage."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from db import batches
from db.batches import Connection
from db.sql import query
from rakuten.storage import Storage, measure_storage
from shared.config import Settings

TABLES: Final = (
    "batches",
    "class_shares",
    "model_scores",
    "champion_moves",
    "class_scores",
    "latencies",
    "attempts",
    "drift",
    "suspects",
    "top_suspects",
    "problems",
    "champion_lineage",
)

# With PostgreSQL's default of 4 MB, the queries over all texts and all versions sort on the disk and take twice as long.
_MEMORY: Final = "set local work_mem = '64MB'"

Row = dict[str, Any]


NO_LISTENER: Final = "no listener"


@dataclass(frozen=True)
class Table:
    """The rows of a query, and the text of the query that returned them."""

    name: str
    sql: str
    rows: list[Row]
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """Everything that the report shows.

    Attributes:
        read_at: when the tables were read.
        database: name of the database.
        tables: the table of each query, by the query's name.
        storage: what the data takes, and the disk of STATE_PATH: the same as in `rakuten status --storage`.
        at_rest: true if the embedded PostgreSQL runs and no listener does: nothing is wrong then.
    """

    read_at: datetime
    database: str
    tables: dict[str, Table]
    storage: Storage
    at_rest: bool = False
    batch_names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Take the names of the completed batches, in the order of the hash chain."""
        names = tuple(row["batch_name"] for row in self.tables["batches"].rows)
        object.__setattr__(self, "batch_names", names)

    def rows(self, name: str) -> list[Row]:
        """Return the rows of a table."""
        return self.tables[name].rows

    def problems(self) -> list[Row]:
        """Return the rows of the doctor, but not those of missing listeners if nothing runs on the embedded PostgreSQL."""
        found = self.rows("problems")
        return [row for row in found if row["finding"] != NO_LISTENER] if self.at_rest else found

    def as_json(self) -> Row:
        """Return all facts as values that JSON can hold."""
        return {
            "read_at": self.read_at.isoformat(),
            "database": self.database,
            "storage": self.storage.as_json(),
            "at_rest": self.at_rest,
            **{name: [_plain_row(row) for row in table.rows] for name, table in self.tables.items()},
        }


def read_facts(connection: Connection, settings: Settings, *, is_embedded: bool) -> Facts:
    """Read all tables in one read-only transaction, so that they show the same moment.

    Args:
        connection: a connection with the role of a reader, in autocommit mode.
        settings: the settings of the pipeline. Its folder STATE_PATH is measured, and the disk that holds it.
        is_embedded: whether PostgreSQL is the embedded one, which runs without listeners between two commands.
    """
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        connection.execute(_MEMORY)
        tables = {name: _read(connection, name) for name in TABLES}
        storage = measure_storage(connection, settings)
        at_rest = is_embedded and not batches.listening_stages(connection)
    return Facts(datetime.now(UTC), connection.info.dbname, tables, storage, at_rest)


def _read(connection: Connection, name: str) -> Table:
    sql = query(f"report/{name}")
    cursor = connection.execute(sql.encode())
    columns = tuple(column.name for column in cursor.description or ())
    rows = [dict(zip(columns, _values(row), strict=True)) for row in cursor]
    return Table(name, sql, rows, columns)


def _values(row: tuple[Any, ...]) -> Iterator[Any]:
    return (float(value) if isinstance(value, Decimal) else value for value in row)


def _plain_row(row: Row) -> Row:
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in row.items()}
