"""A run records the code that made it: the code as it was imported, not as it lies there when the run is published."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from repository import ROOT

PROGRAM = """
import json, sys
from shared.config import read_settings
from listeners.tracking.environment import environment
for line in sys.stdin:
    print(json.dumps(environment(read_settings(git_commit=line.strip() or None))["code"]), flush=True)
"""


@contextmanager
def running(folder: Path):
    """A process that has imported the packages of a folder: a function that asks it what code it runs."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={"PYTHONPATH": str(folder), "PATH": os.defpath, "HOME": str(folder)},
        cwd=folder.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def code(built_from: str = "") -> dict:
            process.stdin.write(built_from + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        code()  # it has imported what it says
        yield code


def git(folder: Path, *arguments: str) -> bytes:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", f"safe.directory={folder}"]
    return subprocess.run(
        ["git", *who, "-C", folder, *arguments],  # noqa: S607
        check=True,
        capture_output=True,
    ).stdout


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "checkout"
    for package in ("db", "listeners", "shared"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".gitignore", folder)
    git(tmp_path, "init", "--quiet", str(folder))
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "one")
    return folder


def edit(checkout, text: str) -> None:
    with (checkout / "shared" / "hashing.py").open("a") as file:
        file.write(text)


def test_what_is_committed_or_edited_under_a_running_process_is_not_the_code_that_it_runs(checkout):
    with running(checkout) as code:
        before = code()
        assert before["git_commit"] == git(checkout, "rev-parse", "HEAD").decode().strip()
        assert (before["git_dirty"], before["git_diff_sha256"]) == (False, None)
        edit(checkout, "# two\n")
        git(checkout, "commit", "--quiet", "--all", "--message", "two")
        edit(checkout, "# three\n")
        assert code(built_from="another") == before


def test_two_edits_of_one_commit_are_told_apart(checkout):
    digests = []
    for text in ("# one\n", "# two\n"):
        edit(checkout, text)
        with running(checkout) as code:
            recorded = code()
        assert recorded["git_dirty"]
        difference = git(checkout, "diff", "HEAD", "--", "db", "listeners", "shared")
        assert recorded["git_diff_sha256"] == hashlib.sha256(difference).hexdigest()
        digests.append(recorded["git_diff_sha256"])
    assert len(set(digests)) == 2


def test_without_a_checkout_the_commit_is_the_one_that_an_image_was_built_from(checkout):
    shutil.rmtree(checkout / ".git")
    with running(checkout) as code:
        assert code(built_from="0123abc")["git_commit"] == "0123abc"
        assert code()["git_commit"] is None
