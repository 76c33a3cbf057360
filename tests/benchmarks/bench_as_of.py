"""Reading the past beside reading the present: as of a batch, as of a moment, and the tables as they are, equal in rows and columns."""

import shutil
import tempfile
from functools import partial
from pathlib import Path

import psycopg
from bench_measure import Report, Sample, alternate, timed

from db.connect import connect
from db.database import Database, Role, prepare_embedded
from db.embedded import EmbeddedPostgres
from shared.config import read_settings

STAGE = "as_of"
ROUNDS = 7
CORRECTIONS = 20  # batches, each of which changes 7.5 % of the products
LAST_BATCH = 1 + CORRECTIONS

_COLUMNS = "productid, designation, description, imageid, image_path, prdtypecode"
_READS = {
    "products": "from products left join labels using (productid)",
    "as of a batch": f"from products_as_of_batch({LAST_BATCH})",
    "as of a moment": "from products_as_of(now())",
}
# Titles of 40 to 99 characters, and descriptions of 100 to 1,599 for two products of three.
_PRODUCTS = """
    insert into products (productid, designation, description, imageid, image_path, sample_rank, split)
    select
        1000000 + (n * 7919) %% 99999989,
        left(repeat(md5(n::text), 4), 40 + (n %% 60)::integer),
        case when n %% 3 <> 0 then left(repeat(md5((n + 1)::text), 50), 100 + (n %% 1500)::integer) end,
        n,
        format('images/image_train/image_%%s_product_%%s.jpg', n, n),
        n - 1,
        case when n %% 10 = 0 then 'holdout' else 'train' end
    from generate_series(1, %s::bigint) as n
"""
_LABELS = "insert into labels (productid, prdtypecode) select productid, 10 + sample_rank %% 27 from products"
_RETITLE = "update products set designation = left(designation, 30) || %s where (sample_rank * 31 + %s * 7) %% 40 < 3"
_RELABEL = "update labels set prdtypecode = prdtypecode + 1 where (id + %s) %% 200 = 0"


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
        _write_batch(connection, "week_1", [(_PRODUCTS, [history_rows * 2 // 5]), (_LABELS, [])])
        for number in range(1, 1 + CORRECTIONS):
            changes = [(_RETITLE, [f" {number}", number]), (_RELABEL, [number])]
            _write_batch(connection, f"correction_{number}", changes)
    with psycopg.connect(server.conninfo(database.settings.postgres_db), autocommit=True) as superuser:
        # The tables without the dead rows of the updates: the present is not to be slower than it could be.
        superuser.execute("vacuum full products")
        superuser.execute("vacuum full labels")
        superuser.execute("vacuum (analyze)")
        superuser.execute("checkpoint")


def _write_batch(connection: psycopg.Connection, name: str, changes: list[tuple[str, list[object]]]) -> None:
    [batch_id] = connection.execute("select claim_batch(%s, 40, '{}')", [name]).fetchone()
    with connection.transaction():
        connection.execute("select begin_batch(%s)", [batch_id])
        for statement, parameters in changes:
            connection.execute(statement, parameters)
    connection.execute("select complete_batch(%s)", [batch_id])


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
