"""What an onlooker sees of a recovery: who listens, what has a live claim, what is done."""

import time
from collections.abc import Callable, Collection

import psycopg
from environment import Environment

from shared.events import Stage

INTERVAL_S = 0.02
DEADLINE_S = 150

_LISTENING = """
    select split_part(application_name, ' ', 2) as stage, pid
    from pg_stat_activity
    where datname = current_database() and application_name like 'rakuten % listen'
"""
# What a listener works on or could work on, one that backs off included, and which sessions hold its lock.
_UNFINISHED = """
    select
        stage,
        array(
            select pid from pg_locks
            where locktype = 'advisory' and granted
                and database = (select oid from pg_database where datname = current_database())
                and classid::bigint = stage_lock_class(stage) and objid::bigint = batch_id
        ) as holders
    from (values ('snapshot'), ('training')) as stages (stage)
    cross join lateral pending_batches(stage)
"""
_UNTRAINED = """
    select count(*) as count from data_loads
    where id = any(%s) and metadata #>> '{training,state}' is distinct from 'finished'
"""


def listening(environment: Environment, ghosts: Collection[int] = ()) -> list[str]:
    """The stage of each session that listens. Ghosts are backends whose listener is gone, or cut off from them for ever:
    PostgreSQL shows them until it finds out.
    """
    return [row["stage"] for row in environment.query(_LISTENING) if row["pid"] not in ghosts]


def is_back(environment: Environment, ghosts: Collection[int] = ()) -> bool:
    """Whether every stage is listened for, and worked on where it has something to work on.

    A listener works on one batch at a time, so the other batches of a stage may wait.
    """
    unfinished = environment.query(_UNFINISHED)
    worked_on = {row["stage"] for row in unfinished if set(row["holders"]) - set(ghosts)}
    return worked_on == {row["stage"] for row in unfinished} and set(listening(environment, ghosts)) == set(
        Stage
    )


def is_idle(environment: Environment) -> bool:
    """Whether there is nothing to work on."""
    return not environment.query(_UNFINISHED)


def is_done(environment: Environment, batch_ids: list[int]) -> bool:
    """Whether these batches have their models."""
    return environment.query(_UNTRAINED, batch_ids)[0]["count"] == 0


def serves_champion(environment: Environment) -> bool:
    """Whether the model server says that its model is the champion that PostgreSQL names."""
    [champion] = environment.query("select version, batch_name from champion")
    model = environment.model_server.model()
    return model is not None and (model["version"], model["batch"]) == tuple(champion.values())


def wait_until(condition: Callable[[], object], *, deadline_s: float = DEADLINE_S) -> float | None:
    """When a condition held, of time.monotonic(); None if it did not within the deadline.

    PostgreSQL may be away meanwhile: then the condition does not hold.
    """
    deadline = time.monotonic() + deadline_s
    while True:
        try:
            held = condition()
        except psycopg.OperationalError:
            held = False
        now = time.monotonic()
        if held:
            return now
        if now > deadline:
            return None
        time.sleep(INTERVAL_S)
