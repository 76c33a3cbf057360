"""A listener with breakpoints: `python pausable_listener.py STAGE`. Listener and child are the real ones; they only stand still."""

import os
import sys

import fake_clock
from breakpoints import LISTENER_PID, Boundary, pause_loop_at

from db.database import Role, open_database
from listeners.claims import StageClaims
from listeners.run import run_listener
from listeners.worker import StageWorker
from shared.config import configure_third_parties, read_settings
from shared.events import Stage
from shared.logs import configure_logs

HANDLER = "pausable_handler"  # by name: imported here, it would bring the heavy libraries into the listener's own process


def pause_in_the_parent() -> None:
    init, claim, record = StageWorker.__init__, StageClaims.claim_next, StageClaims._record

    def with_pausable_handler(self, *arguments, **options):
        init(self, *arguments, **options | {"handler": HANDLER})

    async def pausable_claim(self, *arguments):
        await pause_loop_at(self._stage, Boundary.BEFORE_CLAIM)
        claimed = await claim(self, *arguments)
        if claimed is not None:
            await pause_loop_at(self._stage, Boundary.AFTER_CLAIM)
        return claimed

    async def pausable_record(self, statement, *arguments):
        await pause_loop_at(self._stage, Boundary.BEFORE_COMMIT)
        await record(self, statement, *arguments)
        await pause_loop_at(self._stage, Boundary.AFTER_COMMIT)

    StageWorker.__init__ = with_pausable_handler
    StageClaims.claim_next, StageClaims._record = pausable_claim, pausable_record


if __name__ == "__main__":
    stage = Stage(sys.argv[1])
    os.environ[LISTENER_PID] = str(os.getpid())  # noqa: TID251  for the children
    fake_clock.patch()
    pause_in_the_parent()
    settings = read_settings()
    configure_third_parties()
    configure_logs(settings.log_format, settings.log_level)
    with open_database(settings) as database:
        run_listener(stage, database.conninfo(Role[stage.upper()]), settings)
