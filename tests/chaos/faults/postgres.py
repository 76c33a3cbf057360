"""PostgreSQL stopped, killed, and its backends ended, while a stage works and while none does."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import psycopg
from breakpoints import Boundary
from environment import Environment
from measure import is_back
from runs import Fault, Run
from standby import standby_of
from waiting import eventually

from shared.events import Stage

KILLED_BACKEND_S = 1.0  # the acceptance's bound, and no more: nothing has to be started


def end_the_server(run: Run, *, number: signal.Signals, stage: Stage, seconds: float):
    """`pg_ctl stop -m immediate` is SIGQUIT to the postmaster. It is started again after `seconds`."""
    environment = run.environment
    with run.breakpoint(stage, Boundary.BUILDING) as breakpoint_:
        run.load()
        held = breakpoint_.wait()
        run.lose(*environment.backends(Stage.SNAPSHOT), *environment.backends(Stage.TRAINING))
        with environment.postgres.refusing():
            environment.end_postgres(number)
            held.release()
            time.sleep(seconds)
            environment.start_postgres()
    run.ended()
    yield


def end_the_listen_backend(run: Run, *, stage: Stage):
    environment = run.environment
    [pid] = environment.backends(stage, "listen")
    environment.terminate(pid)
    run.lose(pid)
    run.ended()
    run.load()
    yield


def end_the_work_backend(run: Run, *, stage: Stage):
    """The session that holds the claim, in the middle of the work, which goes on for longer than the recovery may take."""
    environment = run.environment
    with run.breakpoint(stage, Boundary.BUILDING) as breakpoint_:
        run.load()
        breakpoint_.wait()
        [pid] = environment.backends(stage, "work")
        environment.terminate(pid)
        run.lose(pid)
        run.ended()
        run.measure_until(lambda: is_back(environment, run.ghosts))
    yield


def freeze_the_listen_backend(run: Run, *, stage: Stage):
    """SIGSTOP: the kernel still answers for a frozen backend, so that only a deadline finds it out. It stays frozen."""
    [pid] = run.environment.backends(stage, "listen")
    with _frozen(pid):
        run.lose(pid)
        run.ended()
        run.load()
        yield


def freeze_the_work_backend(run: Run, *, stage: Stage, seconds: float):
    """It holds the claim for as long as it is frozen: nobody may work on the batch, and nobody does."""
    environment = run.environment
    with run.breakpoint(stage, Boundary.BUILDING) as breakpoint_:
        run.load()
        held = breakpoint_.wait()
        [pid] = environment.backends(stage, "work")
        with _frozen(pid):
            held.release()
            run.lose(pid)
            time.sleep(seconds)
    run.ended()
    yield


@contextmanager
def _frozen(*pids: int) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


def freeze_the_server(run: Run, *, seconds: float):
    """All of PostgreSQL stands still: connections are accepted by the kernel, and nobody answers."""
    environment = run.environment
    with run.breakpoint(Stage.TRAINING, Boundary.BUILDING) as breakpoint_:
        run.load()
        held = breakpoint_.wait()
        postmaster = environment.postmaster_pid()
        pids = [
            postmaster,
            *(int(row["pid"]) for row in environment.query("select pid from pg_stat_activity")),
        ]
        with _frozen(*pids):
            held.release()
            time.sleep(seconds)
    run.ended()
    yield


def make_the_server_read_only(run: Run, *, stage: Stage, seconds: float):
    """As a demoted primary: it answers, and accepts no write, in the middle of the work and for longer than a poll."""
    environment = run.environment
    with run.breakpoint(stage, Boundary.BUILDING) as breakpoint_:
        run.load()
        held = breakpoint_.wait()
        with _setting(environment, "default_transaction_read_only", "on"):
            held.release()
            time.sleep(seconds)
    run.ended()
    yield


def promote_a_standby(run: Run, *, stage: Stage, seconds: float):
    """The primary dies for good; a streaming standby answers in its place, read-only at first, and is promoted."""
    environment = run.environment
    directory = environment.directory / f"standby-{environment.server.port}"
    standby = standby_of(environment.server, directory)
    environment.at_exit.callback(standby.stop)
    standby.start()
    with run.breakpoint(stage, Boundary.BUILDING) as breakpoint_:
        run.load()
        held = breakpoint_.wait()
        [row] = environment.query("select pg_current_wal_lsn()::text as written")
        run.lose(*environment.backends(Stage.SNAPSHOT), *environment.backends(Stage.TRAINING))
        environment.end_postgres(signal.SIGKILL)
        with psycopg.connect(standby.conninfo(), autocommit=True) as superuser:
            replayed = "select pg_last_wal_replay_lsn() >= %s::pg_lsn"
            eventually(lambda: superuser.execute(replayed, [row["written"]]).fetchone()[0])
            environment.take_over(standby)
            held.release()
            time.sleep(seconds)
            superuser.execute("select pg_promote()")
    run.ended()
    yield
    run.require_no_failure(stage)


@contextmanager
def _setting(environment: Environment, name: str, value: str) -> Iterator[None]:
    """Change a setting of the whole server, as its administrator does, and back."""

    def alter(action: str) -> None:
        with psycopg.connect(environment.observer_conninfo(), autocommit=True) as superuser:
            superuser.execute("set default_transaction_read_only = off")
            superuser.execute(action)
            superuser.execute("select pg_reload_conf()")

    alter(f"alter system set {name} = {value}")
    try:
        yield
    finally:
        alter(f"alter system reset {name}")


FAULTS = [
    *(
        Fault(
            "read-only PostgreSQL",
            f"{stage} at work, 3 s",
            partial(make_the_server_read_only, stage=stage, seconds=3),
            runs=5,
            short=stage == Stage.TRAINING,
        )
        for stage in Stage
    ),
    *(
        Fault(
            what,
            f"{stage} at work, {seconds} s",
            partial(end_the_server, number=number, stage=stage, seconds=seconds),
            runs=runs,
            short=stage == Stage.SNAPSHOT and seconds == 0,
        )
        for what, number in (
            ("PostgreSQL -m immediate", signal.SIGQUIT),
            ("kill -9 of the postmaster", signal.SIGKILL),
        )
        for seconds, runs in ((0, 4), (10, 1))
        for stage in Stage
    ),
    *(
        Fault(
            "standby promoted",
            f"{stage} at work, after 3 s",
            partial(promote_a_standby, stage=stage, seconds=3),
            runs=2,
        )
        for stage in Stage
    ),
    *(
        Fault(
            "pg_terminate_backend, LISTEN",
            stage,
            partial(end_the_listen_backend, stage=stage),
            runs=10,
            bound_s=KILLED_BACKEND_S,
            short=stage == Stage.SNAPSHOT,
        )
        for stage in Stage
    ),
    *(
        Fault(
            "pg_terminate_backend, work",
            stage,
            partial(end_the_work_backend, stage=stage),
            runs=10,
            bound_s=KILLED_BACKEND_S,
            short=stage == Stage.TRAINING,
        )
        for stage in Stage
    ),
    *(
        Fault("frozen backend", f"{stage} listen", partial(freeze_the_listen_backend, stage=stage), runs=3)
        for stage in Stage
    ),
    *(
        Fault(
            "frozen backend",
            f"{stage} work, 20 s",
            partial(freeze_the_work_backend, stage=stage, seconds=20),
            runs=1,
        )
        for stage in Stage
    ),
    Fault("frozen PostgreSQL", "12 s", partial(freeze_the_server, seconds=12), runs=2),
]
