"""A package of somebody else that has the name of one of ours, and comes first on Python's search path, is named."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT

RAKUTEN = Path(sys.executable).with_name("rakuten")


def run(command, folder: Path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}  # noqa: TID251
    return subprocess.run(
        [*command, "status", "--help"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", ["db", "listeners", "shared"])
@pytest.mark.parametrize("as_file", [True, False], ids=["a module", "a package"])
def test_a_foreign_package_is_named_and_the_command_works_without_it(tmp_path, name, as_file):
    foreign = tmp_path / f"{name}.py" if as_file else tmp_path / name / "__init__.py"
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("")
    place = foreign if as_file else foreign.parent
    for command in ([RAKUTEN], [sys.executable, "-m", "rakuten"]):
        result = run(command, tmp_path)
        assert result.returncode == 1
        assert f"another package `{name}`" in result.stderr
        assert str(place) in result.stderr
        assert "Traceback" not in result.stderr
    foreign.unlink()
    if not as_file:
        place.rmdir()
    assert run([RAKUTEN], tmp_path).returncode == 0


def test_a_folder_of_that_name_that_is_no_package_changes_nothing(tmp_path):
    (tmp_path / "db").mkdir()
    (tmp_path / "shared").mkdir()
    assert run([RAKUTEN], tmp_path).returncode == 0
