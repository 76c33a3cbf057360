"""What bench_chain gives to a waiting child: the stage of one batch. It says what the handler took, and its peak memory."""

import importlib
import time

from bench_measure import MEBIBYTE, peak_bytes

from listeners.job import handler_module


def handle(job):
    real = importlib.import_module(handler_module(job.stage))
    started = time.perf_counter()
    result = real.handle(job)
    return {
        "result": result,
        "wall_s": time.perf_counter() - started,
        "peak_mb": peak_bytes() / MEBIBYTE,
    }
