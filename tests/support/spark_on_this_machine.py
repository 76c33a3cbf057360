"""Spark for tests: one session on this machine that all tests of a run share, or the reason why there is none."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from programs import is_required

from listeners.spark.java import require_spark
from listeners.spark.session import spark_session
from shared.config import read_settings
from shared.errors import OutageError

_CONF = """\
# few and small shuffles: the tests have few rows
spark.sql.shuffle.partitions 3
spark.driver.memory=768m
spark.eventLog.enabled true
spark.eventLog.compress false
spark.eventLog.dir {}
"""


def skip_without_spark() -> None:
    """Skip the test, or fail it where Java is required, if Spark cannot run here. The reason says what to install."""
    try:
        require_spark(read_settings(_env_file=None))
    except OutageError as error:
        if is_required("java"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@contextmanager
def shared_session(directory: Path) -> Iterator:
    """Yield a session whose event log is in `directory`."""
    skip_without_spark()
    conf = directory / "spark.conf"
    conf.write_text(_CONF.format(directory))
    settings = read_settings(spark_master="local[2]", spark_conf=conf, _env_file=None)
    with spark_session(settings, "tests") as session:
        yield session
