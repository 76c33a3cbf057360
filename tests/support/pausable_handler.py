"""The real handler of a stage, with breakpoints inside it, and faults that only this process can inject into itself."""

import importlib
import os
from contextlib import contextmanager
from pathlib import Path

import breakpoints
import broken_files
import fake_clock
from breakpoints import Boundary, pause_at

from listeners.job import handler_module
from listeners.tracking.runs import Tracking
from shared.events import Stage


def handle(job):
    fake_clock.patch()
    publishing = Tracking.publishing

    @contextmanager
    def pausable_publishing(self, *arguments, **identity):
        with publishing(self, *arguments, **identity) as publication:
            pause_at(job.stage, Boundary.BUILDING)
            broken_files.patch(Path(os.environ[breakpoints.DIRECTORY]))  # noqa: TID251
            yield publication
            pause_at(job.stage, Boundary.LOGGED)
        pause_at(job.stage, Boundary.RUN_FINISHED)

    Tracking.publishing = pausable_publishing
    if job.stage == Stage.TRAINING:
        pause_around_registering(job)
    return importlib.import_module(handler_module(job.stage)).handle(job)


def pause_around_registering(job):
    registry = importlib.import_module("listeners.tracking.registry")
    ensure_registered = registry.ensure_registered

    def pausable_ensure_registered(*arguments):
        pause_at(job.stage, Boundary.REGISTERING)
        version = ensure_registered(*arguments)
        pause_at(job.stage, Boundary.REGISTERED)
        return version

    registry.ensure_registered = pausable_ensure_registered
