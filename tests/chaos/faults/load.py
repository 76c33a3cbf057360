"""The load killed while it writes, then started again."""

import subprocess
from functools import partial

import psycopg
from listener_processes import RAKUTEN
from measure import wait_until
from runs import Fault, Run

from db.database import Role

COMMAND_DEADLINE_S = 60


def kill_the_load(run: Run, *, table: str):
    """kill -9 of `rakuten load` with rows sent and not committed: a lock on the table stops it there."""
    environment = run.environment
    with psycopg.connect(environment.observer_conninfo()) as connection:
        connection.execute(f"lock table {table} in share mode")
        load = subprocess.Popen(
            [RAKUTEN, "load"],
            env=environment.variables(Role.LOADER),
            cwd=environment.settings.state_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        waiting = wait_until(lambda: _waits_for_lock(run), deadline_s=COMMAND_DEADLINE_S)
        load.kill()
        load.wait()
        run.require(waiting, "the load did not come as far as to the lock")
    run.ended()
    wait_until(lambda: _load_again(run), deadline_s=COMMAND_DEADLINE_S)
    [newest] = environment.query(
        "select max(id) as id, count(*) filter (where status <> 'completed') as open from data_loads"
    )
    run.batch_ids.append(newest["id"])
    run.require(newest["open"] == 0, "the load could not be taken up again")
    yield


def _waits_for_lock(run: Run) -> bool:
    [row] = run.environment.query(
        "select count(*) as count from pg_stat_activity"
        " where application_name like 'rakuten load%%' and wait_event_type = 'Lock' and datname = %s",
        run.environment.settings.postgres_db,
    )
    return row["count"] > 0


def _load_again(run: Run) -> bool:
    """Refused while the killed one's session still ends: then once more."""
    done = subprocess.run(
        [RAKUTEN, "load"],
        env=run.environment.variables(Role.LOADER),
        cwd=run.environment.settings.state_path,
        capture_output=True,
        timeout=COMMAND_DEADLINE_S,
        check=False,
    )
    return done.returncode == 0


FAULTS = [
    Fault(
        "load killed",
        f"writing {table}",
        partial(kill_the_load, table=table),
        runs=3,
        short=table == "labels",
    )
    for table in ("products", "labels")
]
