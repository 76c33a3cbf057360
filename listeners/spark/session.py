"""Open the Spark session of one job. Spark's own settings come from the file SPARK_CONF; this module sets safe defaults.

Spark shows its settings on its pages, in its event log, and in the arguments of its processes. So no password is ever one of
them: a task gets the connection string with its pickled code. The file SPARK_CONF may contain secrets (of S3, of the cluster's
RPC): Java reads it itself, so they are in no process's arguments, and Spark redacts them where it shows settings.
"""

import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

import structlog

from listeners.liveness import PROGRESS
from listeners.spark.java import require_spark
from shared.config import Settings, configure_spark
from shared.errors import BadInputError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

logger = structlog.get_logger()

_DEFAULTS: Final = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.catalogImplementation": "in-memory",
    "spark.driver.memory": "2g",
    "spark.log.level": "ERROR",  # Spark's errors reach our log as exceptions
}
# One machine: no port is reachable from outside, and a task that fails once is tried again, as on a cluster.
_LOCAL_DEFAULTS: Final = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
_LOOK_S: Final = 1.0


@contextmanager
def spark_session(settings: Settings, name: str) -> "Iterator[SparkSession]":
    """Start Spark for one job, named `name` on its pages, and stop it at the end.

    Raises:
        OutageError: pyspark or Java is missing, or the cluster cannot be reached.
        BadInputError: the file SPARK_CONF cannot be read.
    """
    require_spark(settings)
    from pyspark.sql import SparkSession  # noqa: PLC0415  only ENGINE=spark needs pyspark

    from listeners.spark.errors import translate_errors  # noqa: PLC0415

    # pyspark warns each time that it has not been tested with pandas 3. We exchange Arrow data with Spark, never data frames of pandas.
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
    is_local = settings.spark_master.startswith("local")
    given = read_properties(settings.spark_conf)
    defaults = _DEFAULTS | (_LOCAL_DEFAULTS if is_local else {})
    file = ["--properties-file", str(settings.spark_conf)] if settings.spark_conf else []
    python = given.get("spark.pyspark.python", sys.executable)
    configure_spark(shlex.join([*file, "pyspark-shell"]), python, on_loopback=is_local)
    builder = SparkSession.builder.master(_with_retries(settings.spark_master)).appName(name)
    for key in sorted(defaults.keys() - given.keys()):
        builder = builder.config(key, defaults[key])
    with translate_errors():
        session = builder.getOrCreate()
    done = Event()
    try:
        logger.info("Spark is ready", master=settings.spark_master, pages=session.sparkContext.uiWebUrl)
        Thread(target=_watch, args=(session, done), daemon=True).start()
        with translate_errors():
            yield session
    finally:
        done.set()
        with translate_errors():
            session.stop()


def read_properties(path: Path | None) -> dict[str, str]:
    """Read a file with Spark's settings: lines `key value` or `key=value`; a line that begins with # is a comment.

    Raises:
        BadInputError: the file cannot be read.
    """
    if path is None:
        return {}
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(
            f"the file {path} of the setting SPARK_CONF cannot be read: {error}",
            remedy="correct SPARK_CONF, or remove it to use Spark's defaults",
        ) from error
    pairs = (line.replace("=", " ", 1).split(None, 1) for line in lines if line and not line.startswith("#"))
    return {key: value for key, *rest in pairs for value in [rest[0].strip() if rest else ""]}


def _with_retries(master: str) -> str:
    """Let Spark try a task four times on one machine, too. By default it does so only on clusters (`local[2]` tries once)."""
    return f"{master[:-1]},4]" if master.startswith("local[") and "," not in master else master


def _watch(session: "SparkSession", done: Event) -> None:
    """Report each finished task as progress of this process, in a thread, until `done`.

    The process waits while Java works, so its own processor time says nothing about the work.
    """
    from py4j.protocol import Py4JError  # noqa: PLC0415
    from pyspark.errors import PySparkException  # noqa: PLC0415

    tracker, before = session.sparkContext.statusTracker(), None
    while not done.wait(_LOOK_S):
        try:
            infos = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
        except (Py4JError, PySparkException, OSError):
            return  # Java has ended, and the main thread says so
        now = sorted((info.stageId, info.numCompletedTasks) for info in infos if info)
        if now != before:
            PROGRESS.note()
        before = now
