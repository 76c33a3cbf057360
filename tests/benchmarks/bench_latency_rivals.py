"""What people would otherwise take, for bench_latency: psycopg 3 by hand, procrastinate, pgqueuer.

Each as its documentation shows it, and where there is a choice the quicker one; one worker, one job at a time:
- psycopg 3: a connection that listens, and one that claims with SKIP LOCKED and keeps its transaction open for the handler;
- procrastinate: LISTEN/NOTIFY, an async task, concurrency 1, successful jobs deleted;
- pgqueuer: asyncpg and uvloop, as `pgq run` has them, and batches of 1, so that a finished job is recorded at once.
"""

import asyncio
import json
import sys
import time

import asyncpg
import procrastinate
import psycopg
import uvloop
from bench_latency_worker import Reports, run_worker
from pgqueuer import PgQueuer, Queries
from pgqueuer.db import AsyncpgDriver, SyncPsycopgDriver
from pgqueuer.models import Job
from pgqueuer.queries import SyncQueries

from db.load.steps import Connection

_CHANNEL = "batch_completed"
_QUEUE = """
    create table queue (number bigint primary key, finished boolean not null default false);
    create index on queue (number) where not finished;
"""
_CLAIM = "select number from queue where not finished order by number limit 1 for update skip locked"


# ---- psycopg 3 by hand


def notify(connection: Connection, number: int) -> int:
    connection.execute("select pg_notify(%s, %s)", [_CHANNEL, json.dumps({"v": 1, "batch_id": number})])
    return number


async def listen(conninfo: str, report: Reports) -> None:
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        await connection.execute(f"listen {_CHANNEL}")
        report.ready()
        async for notification in connection.notifies():
            heard_ns = time.monotonic_ns()
            report(json.loads(notification.payload)["batch_id"], heard_ns)


def install_queue(conninfo: str) -> None:
    with psycopg.connect(conninfo) as connection:
        connection.execute(_QUEUE)


def enqueue(connection: Connection, number: int) -> int:
    connection.execute("insert into queue (number) values (%s)", [number])
    return notify(connection, number)


async def claim(conninfo: str, report: Reports) -> None:
    async with (
        await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as listening,
        await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as working,
    ):
        await listening.execute(f"listen {_CHANNEL}")
        await _work_until_none_waits(working, report)
        async for _ in listening.notifies():
            await _work_until_none_waits(working, report)


async def _work_until_none_waits(connection: psycopg.AsyncConnection, report: Reports) -> None:
    while True:
        async with connection.transaction():
            claimed = await (await connection.execute(_CLAIM)).fetchone()
            if claimed is None:
                return
            began_ns = time.monotonic_ns()
            report(claimed[0], began_ns)
            await connection.execute("update queue set finished = true where number = %s", claimed)


# ---- procrastinate

_producer = procrastinate.App(connector=procrastinate.SyncPsycopgConnector())


@_producer.task(name="handle")
async def _handle(number: int) -> None: ...


def install_procrastinate(conninfo: str) -> None:
    with psycopg.connect(conninfo) as connection:
        connection.execute(procrastinate.schema.SchemaManager.get_schema())


def defer(connection: Connection, number: int) -> int:
    _handle.configure(connection=connection).defer(number=number)
    return number


async def work_procrastinate(conninfo: str, report: Reports) -> None:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=conninfo))

    @app.task(name="handle")
    async def handle(number: int) -> None:
        began_ns = time.monotonic_ns()
        report(number, began_ns)

    async with app.open_async():
        await app.run_worker_async(concurrency=1, listen_notify=True, delete_jobs="successful")


# ---- pgqueuer


def install_pgqueuer(conninfo: str) -> None:
    async def install() -> None:
        connection = await asyncpg.connect(**_asyncpg_arguments(conninfo))
        await Queries(AsyncpgDriver(connection)).install()
        await connection.close()

    asyncio.run(install())


def enqueue_pgqueuer(connection: Connection, number: int) -> int:
    SyncQueries(SyncPsycopgDriver(connection)).enqueue("handle", str(number).encode())
    return number


async def work_pgqueuer(conninfo: str, report: Reports) -> None:
    queuer = PgQueuer(AsyncpgDriver(await asyncpg.connect(**_asyncpg_arguments(conninfo))))

    @queuer.entrypoint("handle")
    async def handle(job: Job) -> None:
        began_ns = time.monotonic_ns()
        report(int(job.payload), began_ns)

    await queuer.run(batch_size=1)


def _asyncpg_arguments(conninfo: str) -> dict[str, str]:
    """libpq's parameters under asyncpg's names."""
    given = psycopg.conninfo.conninfo_to_dict(conninfo)
    renamed = {"dbname": "database"}
    return {renamed.get(name, name): value for name, value in given.items()}


_WORKERS = {
    "listen": listen,
    "claim": claim,
    "procrastinate": work_procrastinate,
    "pgqueuer": work_pgqueuer,
}


def main() -> None:
    run_worker(_WORKERS, uvloop.run if sys.argv[1] == "pgqueuer" else asyncio.run)
