"""A listener that is killed with SIGKILL at one step boundary: `python faulty_listener.py STAGE`, FAULT names the boundary.

The listener and its child are the real ones; only the moment of death is chosen. In the child the fault kills the listener,
as `kill -9` would, and the child is left to notice by itself.
"""

import os
import signal
import sys

import faulty_handler

from db.database import Role, open_database
from listeners.run import run_listener
from listeners.stage import StageWorker
from shared.config import read_settings
from shared.events import Stage
from shared.logs import configure_logs


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_the_parent(fault: str) -> None:
    claim, record = StageWorker._claim, StageWorker._record

    async def faulty_claim(self, *arguments):
        if fault == "before the claim":
            die()
        attempt = await claim(self, *arguments)
        if fault == "after the claim" and attempt is not None:
            die()
        return attempt

    async def faulty_record(self, statement, *arguments):
        if fault == "between MLflow and the commit":
            die()
        await record(self, statement, *arguments)
        if fault == "after the commit":
            die()

    StageWorker._claim, StageWorker._record = faulty_claim, faulty_record


if __name__ == "__main__":
    stage = Stage(sys.argv[1])
    os.environ["LISTENER_PID"] = str(os.getpid())  # noqa: TID251  for the child's faults
    os.environ["STAGE"] = stage  # noqa: TID251
    die_in_the_parent(os.environ["FAULT"])  # noqa: TID251
    init = StageWorker.__init__

    def with_faulty_handler(self, *arguments, **options):
        init(self, *arguments, **options | {"handler": faulty_handler.__name__})

    StageWorker.__init__ = with_faulty_handler
    settings = read_settings()
    configure_logs(settings.log_format, settings.log_level)
    with open_database(settings) as database:
        run_listener(stage, database.conninfo(Role[stage.upper()]), settings)
