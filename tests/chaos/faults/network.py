"""What lies between the listeners and PostgreSQL: packets that vanish, connections that are reset or refused, a slow line."""

import tempfile
import time
from functools import partial
from pathlib import Path

import pgbouncer
from breakpoints import Boundary
from environment import needs_linux
from measure import is_back, is_done, wait_until
from pgbouncer import Pooler
from runs import Fault, Run

from db.database import Role
from shared.events import Stage


def black_hole(run: Run, *, stage: Stage, seconds: float):
    """Every packet between the listeners and PostgreSQL vanishes while a stage works; what was open stays dead for ever."""
    environment = run.environment
    with run.breakpoint(stage, Boundary.BUILDING) as breakpoint_:
        run.load()
        held = breakpoint_.wait()
        run.lose(*environment.backends(Stage.SNAPSHOT), *environment.backends(Stage.TRAINING))
        with environment.postgres.black_hole():
            held.release()
            time.sleep(seconds)
    run.ended()
    yield


def black_hole_of_one(run: Run, *, stage: Stage, purpose: str):
    """One connection is dead for ever and all else well: a notification that is sent now is heard by nobody."""
    environment = run.environment
    with run.breakpoint(stage, Boundary.BUILDING) as breakpoint_:
        run.load()
        held = breakpoint_.wait()
        ports = environment.ports(stage, purpose)
        run.lose(*environment.backends(stage, purpose))
        with environment.postgres.black_hole(ports):
            run.require(environment.postgres.broken, "no connection was hit")
        held.release()
        run.load()
        run.ended()
    yield


def refuse(run: Run, *, seconds: float):
    environment = run.environment
    with run.breakpoint(Stage.TRAINING, Boundary.BUILDING) as breakpoint_:
        run.load()
        held = breakpoint_.wait()
        run.lose(*environment.backends(Stage.SNAPSHOT), *environment.backends(Stage.TRAINING))
        with environment.postgres.refusing():
            held.release()
            time.sleep(seconds)
    run.ended()
    yield


def slow_down(run: Run, *, delay_s: float, seconds: float):
    environment = run.environment
    with environment.postgres.slow(delay_s, bytes_per_s=200_000):
        run.load()
        wait_until(lambda: is_done(environment, run.batch_ids), deadline_s=seconds)
    run.ended()
    yield


def kill_the_pooler(run: Run, *, stage: Stage, seconds: float):
    """PgBouncer stands between the listeners and PostgreSQL (session pooling), and is killed while a stage works."""
    environment = run.environment
    logins = [environment.database.conninfo(Role[stage.upper()]) for stage in Stage]
    before = {*environment.backends(Stage.SNAPSHOT), *environment.backends(Stage.TRAINING)}
    directory = Path(tempfile.mkdtemp(dir=environment.directory)) / "pooler"
    with Pooler(logins, "session", directory) as pooler:
        environment.lead_to("127.0.0.1", pooler.port)
        run.require(wait_until(lambda: is_back(environment, before)), "nobody comes through the pooler")
        with run.breakpoint(stage, Boundary.BUILDING) as breakpoint_:
            run.load()
            held = breakpoint_.wait()
            run.lose(*environment.backends(Stage.SNAPSHOT), *environment.backends(Stage.TRAINING))
            pooler.kill()
            held.release()
            time.sleep(seconds)
            pooler.start()
        run.ended()
        yield
        environment.lead_to(environment.server.host, environment.server.port)
    run.require_no_failure(stage)


FAULTS = [
    *(
        Fault(
            "black hole",
            f"{stage} at work, 15 s",
            partial(black_hole, stage=stage, seconds=15),
            runs=2,
            unavailable=needs_linux,
        )
        for stage in Stage
    ),
    *(
        Fault(
            "black hole, one connection",
            f"{stage} {purpose}",
            partial(black_hole_of_one, stage=stage, purpose=purpose),
            runs=3,
            short=(stage, purpose) == (Stage.SNAPSHOT, "listen"),
            unavailable=needs_linux,
        )
        for stage in Stage
        for purpose in ("listen", "work")
    ),
    *(
        Fault(
            "PgBouncer killed",
            f"{stage} at work, 3 s",
            partial(kill_the_pooler, stage=stage, seconds=3),
            runs=2,
            unavailable=lambda _environment: (
                "PgBouncer is not installed" if pgbouncer.PROGRAM is None else None
            ),
        )
        for stage in Stage
    ),
    Fault("PostgreSQL refuses", "5 s", partial(refuse, seconds=5), runs=4),
    Fault("slow line to PostgreSQL", "", partial(slow_down, delay_s=0.05, seconds=20), runs=2),
]
