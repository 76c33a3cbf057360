"""Open the Spark session of one job. Spark's own settings come from the file SPARK_CONF; this module sets safe defaults.

Spark shows its settings on its pages, in its event log, and in the arguments of its processes. So no password is ever one of
them: a task gets the connection string with its pickled code. The file SPARK_CONF may contain secrets (of S3, of the cluster's
RPC): Java reads it itself, so they are in no process's arguments, and Spark redacts them where it shows settings.
"""

import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from listeners.spark.java import require_spark
from shared.config import Settings, configure_spark
from shared.errors import BadInputError, OutageError, StageError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

logger = structlog.get_logger()

_DEFAULTS: Final = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.catalogImplementation": "in-memory",
    # The solver keeps some 25 vectors of the size of the coefficients (`training.spark.fit`): 1 GB for 27 classes of 166,000 columns. On
    # one machine, this process also holds the rows. With 84,916 products 2 GB are too little.
    "spark.driver.memory": "3g",
    "spark.driver.maxResultSize": "0",  # what the driver collects is limited where it is collected
    "spark.log.level": "ERROR",  # Spark's errors reach our log as exceptions
}
# One machine: no port is reachable from outside, and a task that fails once is tried again, as on a cluster.
_LOCAL_DEFAULTS: Final = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
_PARTITIONS: Final = "spark.sql.shuffle.partitions"
_EXIT_S: Final = 2.0  # so long Java may take to end after its last answer


@contextmanager
def spark_session(settings: Settings, name: str) -> "Iterator[SparkSession]":
    """Start Spark for one job, named `name` on its pages, and stop it at the end.

    Raises:
        OutageError: pyspark or Java is missing, the cluster cannot be reached, or it has no executor for STALL_TIMEOUT_S.
        StageError: the driver's Java process died. Or what `translate_errors` raises.
        BadInputError: the file SPARK_CONF cannot be read.
    """
    require_spark(settings)
    from pyspark.sql import SparkSession  # noqa: PLC0415  only ENGINE=spark needs pyspark

    from listeners.spark.errors import SPARK_ERRORS, translate_errors  # noqa: PLC0415
    from listeners.spark.watch import Watch  # noqa: PLC0415

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
    session = _start(builder, settings.spark_master)
    watch = Watch(session, settings.stall_timeout_s)
    logger.info("Spark is ready", master=settings.spark_master, pages=session.sparkContext.uiWebUrl)
    try:
        with watch.running(), translate_errors():
            yield session
    except (OutageError, *SPARK_ERRORS) as error:
        if (cause := watch.outage or _end_of_java(session)) is not None:
            raise cause from error
        raise
    finally:
        _stop(session)


def set_shuffle_partitions(session: "SparkSession", needed: int) -> None:
    """Divide what is shuffled into `needed` partitions, and at least one for each core, unless the file SPARK_CONF has chosen the number.

    Spark's own number is 200, and each costs some 10 ms in each stage, however few rows it has.
    """
    context = session.sparkContext
    if _PARTITIONS not in dict(context.getConf().getAll()):
        session.conf.set(_PARTITIONS, str(max(needed, context.defaultParallelism)))


def describe(session: "SparkSession") -> str:
    """Say in words which job of which cluster this session is, so that its pages and its event log can be found."""
    context = session.sparkContext
    pages = f", pages {context.uiWebUrl}" if context.uiWebUrl else ""
    return f"Apache Spark {context.version}, application {context.applicationId} on {context.master}{pages}"


def _start(builder: "SparkSession.Builder", master: str) -> "SparkSession":
    """Start Spark. Nothing of a batch is known here, so whatever fails is an outage."""
    from listeners.spark.errors import SPARK_ERRORS, summary  # noqa: PLC0415

    try:
        return builder.getOrCreate()
    except SPARK_ERRORS as error:
        raise OutageError(
            f"Apache Spark does not start with SPARK_MASTER={master}: {summary(error)}",
            remedy="start the master, or correct SPARK_MASTER; the log above has what Java says about the file SPARK_CONF",
        ) from error


def _end_of_java(session: "SparkSession") -> StageError | None:
    """Tell that the driver's Java process has ended, as the listener tells it of its own child. Return None if it lives."""
    gateway: Any = session.sparkContext._gateway  # noqa: SLF001  pyspark has no method for it
    try:
        code = gateway.proc.wait(_EXIT_S)
    except subprocess.TimeoutExpired:
        return None
    return StageError(
        f"the Java process of the driver of Apache Spark died with exit code {code}",
        remedy="look at the log; if Java lacks memory, set spark.driver.memory in the file SPARK_CONF",
    )


def _stop(session: "SparkSession") -> None:
    """End the job on the cluster. If this fails, only log it: the work is done or has failed already, and the process ends soon."""
    from listeners.spark.errors import SPARK_ERRORS, summary  # noqa: PLC0415

    try:
        session.stop()
    except SPARK_ERRORS as error:
        logger.warning("Apache Spark did not stop in order", error=summary(error))


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
