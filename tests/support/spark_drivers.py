"""Jobs of Spark for tests of a cluster, each in a driver process of its own: such a process may be killed, and its Java, too."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from listeners.spark.session import spark_session
from shared.config import Settings

NAME = "a test's job"


@contextmanager
def driver() -> Iterator[Callable[..., Future[Any]]]:
    """Yield `submit(job, settings, *arguments)`, which runs a job of this module in a new process."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        yield pool.submit


def count(settings: Settings, until: Path | None = None) -> int:
    """A job with one task, which waits until this file is there."""
    with spark_session(settings, NAME) as spark:

        def wait(number: int) -> int:
            while until is not None and not until.exists():
                time.sleep(0.1)
            return number

        return spark.sparkContext.parallelize([1], 1).map(wait).sum()


def exhaust_memory(settings: Settings) -> None:
    """A job whose task needs more memory than an executor has: 1.5 GB."""
    with spark_session(settings, NAME) as spark:
        spark.range(0, 1, 1, 1).selectExpr("length(repeat('x', 1500000000 + id)) as n").collect()


def kill_python(settings: Settings) -> None:
    """A job whose task is killed whenever it runs, as the kernel kills it if memory is short."""
    with spark_session(settings, NAME) as spark:
        spark.sparkContext.parallelize([1], 1).map(lambda _: os.kill(os.getpid(), signal.SIGKILL)).sum()


def kill_java(settings: Settings) -> None:
    """A job whose driver loses its Java."""
    with spark_session(settings, NAME) as spark:
        os.kill(spark.sparkContext._gateway.proc.pid, signal.SIGKILL)
        spark.range(1).count()
