"""Java and pyspark are needed only where ENGINE=spark asks for them. Without them, a stage says what to install, and waits."""

import os
import shutil
from pathlib import Path

import pytest
from listener_processes import Listeners
from spark_on_this_machine import skip_without_spark

from db.batches import pipeline_doctor
from db.database import Role
from shared.events import Stage

BROKEN_PACKAGE = "raise ImportError('this package is broken')\n"


def run_listeners(database, settings):
    running = Listeners(database, settings)
    yield running
    running.kill()


@pytest.fixture
def listeners(database, settings):
    yield from run_listeners(database, settings)


@pytest.fixture
def spark_listeners(database, settings):
    on_spark = settings.model_copy(update={"engine": "spark", "spark_master": "local[2]"})
    yield from run_listeners(database, on_spark)


@pytest.fixture
def java() -> str:
    """The program java of this machine; without it, the test is skipped or fails."""
    skip_without_spark()
    return shutil.which("java")


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Path:
    """A folder with all programs of this machine but java, as the PATH of the processes."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for place in reversed(os.environ["PATH"].split(os.pathsep)):  # noqa: TID251
        for program in Path(place).glob("*"):
            link = folder / program.name
            link.unlink(missing_ok=True)
            link.symlink_to(program)
    (folder / "java").unlink(missing_ok=True)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_the_local_engine_needs_neither_java_nor_pyspark(
    listeners, load_weeks, programs, tmp_path, monkeypatch
):
    called = tmp_path / "called"
    (programs / "java").write_text(f"#!/bin/sh\necho $@ >> {called}\nexit 1\n")
    (programs / "java").chmod(0o755)
    packages = tmp_path / "packages"
    packages.mkdir()
    for name in ("pyspark", "py4j"):
        (packages / f"{name}.py").write_text(BROKEN_PACKAGE)
    monkeypatch.setenv("PYTHONPATH", str(packages))
    listeners.start()
    load_weeks(1)
    listeners.wait_for_models(1)
    assert listeners.stop() == [0, 0]
    assert not called.exists()


def test_without_java_a_batch_waits_until_somebody_installs_it(
    java, spark_listeners, load_weeks, programs, as_role
):
    def findings():
        with as_role(Role.READER) as connection:
            return [row["detail"] for row in pipeline_doctor(connection) if row["finding"] == "outage"]

    def row():
        return next(iter(spark_listeners.status()), {})

    spark_listeners.start(Stage.SNAPSHOT)
    load_weeks(1)
    spark_listeners.wait(findings)
    assert "there is no program java on the PATH" in findings()[0]
    assert "apt-get install openjdk-17-jre-headless" in findings()[0]
    assert row()["snapshot_failures"] is None
    (programs / "java").symlink_to(java)
    spark_listeners.wait(lambda: row()["snapshot_state"] == "finished")
    assert spark_listeners.stop() == [0]
    assert findings() == []
