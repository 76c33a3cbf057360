"""Reading the past beside reading the present: as of a batch, as of a moment, and the tables as they are, equal in rows and columns."""

import shutil
import tempfile
from functools import partial
from pathlib import Path

import psycopg
from bench_measure import Report, Sample, alternate, timed
from long_history import CORRECTIONS, LABELS, PRODUCTS, RELABEL, RETITLE, write_batch

from db.connect import connect
from db.database import Database, Role, prepare_embedded
from db.embedded import EmbeddedPostgres
from shared.config import read_settings

STAGE = "as_of"
ROUNDS = 7
LAST_BATCH = 1 + CORRECTIONS

_COLUMNS = "productid, designation, description, imageid, image_path, prdtypecode"
_READS = {
    "products": "from products left join labels using (productid)",
    "as of a batch": f"from products_as_of_batch({LAST_BATCH})",
    "as of a moment": "from products_as_of(now())",
}


def run(history_rows: int) -> Report:
    """Write a history of that many entries of products, two in five of them the products' arrival, and read it."""
    directory = Path(tempfile.mkdtemp(prefix="rakuten-benchmarks-"))
    settings = read_settings(postgres_db="as_of", state_path=directory, _env_file=None)
    try:
        with EmbeddedPostgres(
            directory / "postgres",
            bindir=settings.pg_bindir,
            durable=False,
            settings={
                "autovacuum": "off"
            },  # it would be somebody's CPU time; here it runs when all is written
        ) as server:
            database = prepare_embedded(settings, server)
            _write_history(database, server, history_rows)
            return _compare(database, history_rows)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _write_history(database: Database, server: EmbeddedPostgres, history_rows: int) -> None:
    with connect(database.conninfo(Role.LOADER), "benchmark as of", autocommit=True) as connection:
        write_batch(connection, "week_1", [(PRODUCTS, [1, history_rows * 2 // 5]), (LABELS, [1])])
        for number in range(1, 1 + CORRECTIONS):
            changes = [(RETITLE, [f" {number}", number]), (RELABEL, [number])]
            write_batch(connection, f"correction_{number}", changes)
    with psycopg.connect(server.conninfo(database.settings.postgres_db), autocommit=True) as superuser:
        # The tables without the dead rows of the updates: the present is not to be slower than it could be.
        superuser.execute("vacuum full products")
        superuser.execute("vacuum full labels")
        superuser.execute("vacuum (analyze)")
        superuser.execute("checkpoint")


def _compare(database: Database, history_rows: int) -> Report:
    conninfo = database.conninfo(Role.READER)
    with connect(conninfo, "benchmark as of", autocommit=True) as connection:
        entries = connection.execute("select count(*) from products_history").fetchone()[0]
        assert abs(entries - history_rows) <= history_rows / 1000, entries
        fingerprint = f"select count(*), sum(hashtext(({_COLUMNS})::text)::bigint)"
        assert len({connection.execute(f"{fingerprint} {read}").fetchone() for read in _READS.values()}) == 1
    samples = alternate({name: partial(_read, conninfo, read) for name, read in _READS.items()}, ROUNDS)
    report = Report(samples={STAGE: samples})
    for name in ("as of a batch", "as of a moment"):
        what = f"{name}, {entries:,} entries / products joined with labels"
        report.compare(STAGE, what, samples, name, "products", at_most=2)
    return report


def _read(conninfo: str, read: str) -> Sample:
    """To the client, who throws it away."""

    def discard(connection: psycopg.Connection) -> None:
        with (
            connection.cursor() as cursor,
            cursor.copy(f"copy (select {_COLUMNS} {read}) to stdout (format csv)") as copy,
        ):
            for _block in copy:
                pass

    with connect(conninfo, "benchmark as of", autocommit=True) as connection:
        return timed(partial(discard, connection), connection.info.backend_pid)
