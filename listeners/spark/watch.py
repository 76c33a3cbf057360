"""Watch a job of Spark from a thread of the driver: report its progress, and end it if the cluster gives it no executor."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Final

from pyspark.sql import SparkSession

from listeners.liveness import PROGRESS, Silence
from listeners.spark.errors import SPARK_ERRORS
from shared.errors import OutageError

_LOOK_S: Final = 1.0


class Watch:
    """Look at a job once a second.

    Spark itself waits for ever for an executor: because the cluster's cores are all in use, because the last worker has died, or
    because a master that was started again no longer knows the job.

    Attributes:
        outage: why the job was ended, or None.
    """

    def __init__(self, session: SparkSession, patience_s: float) -> None:
        """Prepare to watch the job of `session`, and to end it after `patience_s` seconds without an executor."""
        self.outage: OutageError | None = None
        self._context = session.sparkContext
        self._patience_s = patience_s
        self._without_executor = Silence(2 * _LOOK_S)
        self._tasks: list[tuple[int, int]] = []
        self._done = Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = Thread(target=self._run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._done.set()

    def _run(self) -> None:
        try:
            while not self._done.wait(_LOOK_S):
                self._look()
        except SPARK_ERRORS:
            return  # Java has ended, and the main thread says so

    def _look(self) -> None:
        """Report each finished task as progress of this process, which only waits for Java. Count the time without an executor."""
        tracker = self._context.statusTracker()
        stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
        tasks = sorted((stage.stageId, stage.numCompletedTasks) for stage in stages if stage)
        if tasks != self._tasks:
            PROGRESS.note()
        self._tasks = tasks
        if not tasks or self._has_executor():
            self._without_executor.end()
        elif self._without_executor.look() > self._patience_s and self.outage is None:
            self.outage = OutageError(
                f"Apache Spark has had no executor for this job for {self._patience_s:.0f} s: the cluster has no worker or no free core",
                remedy="look at the pages of Spark's master; start a worker, or end another job or limit its cores (spark.cores.max)",
            )
            self._context.cancelAllJobs()

    def _has_executor(self) -> bool:
        """Tell whether tasks can run. With SPARK_MASTER=local, the driver runs them, and it is the only one in the list."""
        executors = len(self._context._jsc.sc().statusTracker().getExecutorInfos())  # noqa: SLF001  pyspark has no method for it
        return executors > 1 or str(self._context.master).startswith("local")
