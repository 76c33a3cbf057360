"""The handler of a stage as a child runs it, and which modules it has imported to do so."""

import importlib
import sys

from listeners.job import handler_module


def handle(job):
    real = importlib.import_module(handler_module(job.stage))
    before = set(sys.modules)
    result = real.handle(job)
    return {"result": result, "imported": sorted(set(sys.modules) - before)}
