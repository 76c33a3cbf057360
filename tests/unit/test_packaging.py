"""`shared`, `db`, `listeners` and `rakuten` are common names: what is installed under them must be ours, whole."""

import importlib.metadata
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from repository import ROOT

OURS = ("db", "listeners", "rakuten", "shared")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [path] = directory.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.mark.parametrize("name", OURS)
def test_the_installed_package_of_that_name_is_ours_alone(name):
    assert importlib.metadata.packages_distributions().get(name, ["rakuten-pipeline"]) == ["rakuten-pipeline"]
    assert Path(__import__(name).__file__).is_relative_to(ROOT)


def test_the_wheel_holds_every_module_sql_script_and_word_list(wheel):
    wanted = {
        str(path.relative_to(ROOT))
        for name in OURS
        for path in (ROOT / name).rglob("*")
        if path.suffix in {".py", ".sql", ".toml", ".mako"}
    }
    assert wanted <= set(wheel.namelist())


def test_the_wheel_holds_nothing_else(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(OURS)


def test_data_is_no_package():
    assert not (ROOT / "data" / "__init__.py").exists()


def test_no_committed_file_names_a_registry_or_a_default_password():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout  # noqa: S607
    forbidden = ("/simple" + "/", "index" + "-url =", "PASSWORD=" + "postgres", "PASSWORD=" + "airflow")
    for name in listed.splitlines():
        path = ROOT / name
        if path.suffix in {".py", ".toml", ".txt", ".yml", ".md", ".sh", ".example"} and path.exists():
            text = path.read_text(encoding="utf-8")
            assert not [word for word in forbidden if word in text], name
