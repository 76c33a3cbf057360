"""Where Spark cannot run, the user reads what is missing, and a stage waits for a person."""

import subprocess
from types import SimpleNamespace

import pytest

from listeners.outages import outage_of
from listeners.spark import java
from shared.config import read_settings
from shared.errors import BadInputError, OutageError
from shared.extras import PACKAGES

JAVA_17 = "java.base@17.0.21\njdk.incubator.vector@17.0.21\n"


@pytest.fixture
def java_home(tmp_path, monkeypatch):
    """Make a folder with a program java that lists these modules; pyspark counts as installed."""
    monkeypatch.setitem(PACKAGES, "spark", ())

    def make(modules: str):
        program = tmp_path / "java" / "bin" / "java"
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{modules}\nEND\n")
        program.chmod(0o755)
        return read_settings(java_home=tmp_path / "java", _env_file=None)

    return make


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ("", "is Java unknown, but Apache Spark needs Java 17"),
        ("java.base@11.0.2\n", "is Java 11.0.2, but Apache Spark needs Java 17"),
        ("java.base@17.0.21\n", "lacks the module jdk.incubator.vector"),
    ],
)
def test_a_java_that_does_not_do_is_named_until_a_newer_one_is_installed(java_home, modules, said):
    with pytest.raises(OutageError, match=said) as error:
        java.require_spark(java_home(modules))
    assert "openjdk-17-jre-headless" in error.value.remedy
    assert outage_of(error.value) is error.value
    java.require_spark(java_home(JAVA_17))


def test_no_java_at_all_is_named_with_the_place_that_was_searched(java_home, tmp_path, monkeypatch):
    settings = java_home(JAVA_17)
    (tmp_path / "java" / "bin" / "java").unlink()
    with pytest.raises(OutageError, match=f"no program java in JAVA_HOME={tmp_path}/java"):
        java.require_spark(settings)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OutageError, match="no program java on the PATH"):
        java.require_spark(read_settings(_env_file=None))


def test_a_java_that_hangs_is_named(java_home, monkeypatch):
    def hang(*_args, **_options):
        raise subprocess.TimeoutExpired("java", 60)

    monkeypatch.setattr(
        java, "subprocess", SimpleNamespace(run=hang, TimeoutExpired=subprocess.TimeoutExpired)
    )
    with pytest.raises(OutageError, match="does not start"):
        java.require_spark(java_home(JAVA_17))


def test_a_missing_pyspark_is_named_with_its_extra(java_home, monkeypatch):
    settings = java_home(JAVA_17)
    monkeypatch.setitem(PACKAGES, "spark", ("no_such_package",))
    with pytest.raises(
        OutageError, match=r"no_such_package is not installed\n.*pip install 'rakuten-pipeline\[spark\]'"
    ):
        java.require_spark(settings)


def test_the_file_with_sparks_settings_is_read_and_a_missing_one_is_named(tmp_path):
    from listeners.spark.session import read_properties  # noqa: PLC0415

    path = tmp_path / "spark.conf"
    with pytest.raises(BadInputError, match="SPARK_CONF cannot be read"):
        read_properties(path)
    path.write_text(
        "# a comment\n\nspark.executor.memory 4g\nspark.x=a b=c\n  spark.y   =  z \nspark.empty\n"
    )
    assert read_properties(path) == {
        "spark.executor.memory": "4g",
        "spark.x": "a b=c",
        "spark.y": "z",
        "spark.empty": "",
    }
    assert read_properties(None) == {}
