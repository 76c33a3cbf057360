"""A real listener in a process that is forked from a warm server, so that a test can afford to kill dozens of them."""

import multiprocessing
import os
from multiprocessing import forkserver

import light_handler

from listeners.run import run_listener
from listeners.worker import StageWorker
from shared.config import configure_third_parties
from shared.logs import configure_logs

_CONTEXT = multiprocessing.get_context("forkserver")


def warm_up():
    """Import once what every listener and its children need; the fork server is shared by all that it forks."""
    _CONTEXT.set_forkserver_preload(
        [
            "forked_listener",
            "listeners.outages",
            "listeners.reconcile",
            "mlflow.store.tracking.sqlalchemy_store",
        ]
    )
    first = _CONTEXT.Process(target=int)
    first.start()
    first.join()


def start(stage, conninfo, settings, log):
    address = forkserver._forkserver._forkserver_address
    process = _CONTEXT.Process(target=_listen, args=(stage, conninfo, settings, log, address), daemon=False)
    process.start()
    return process


def _listen(stage, conninfo, settings, log, address):
    share_the_fork_server(address)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ["TMPDIR"] = str(settings.state_path)  # noqa: TID251  each with a heartbeat of its own
    initialise = StageWorker.__init__

    def with_light_handler(self, *arguments, **options):
        initialise(self, *arguments, **options | {"handler": light_handler.__name__})

    StageWorker.__init__ = with_light_handler
    configure_third_parties()
    configure_logs("json", "INFO")
    run_listener(stage, conninfo, settings)


def share_the_fork_server(address):
    """A process that was forked by the server would start one of its own, and import everything again."""
    server = forkserver._forkserver
    server._forkserver_address = address
    server.ensure_running = lambda: None
