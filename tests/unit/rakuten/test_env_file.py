"""`make env`: fresh secrets where there are none, and of what is there nothing is ever changed but the commit."""

import base64
import os
import re
import stat
import subprocess
import sys

import pytest
from repository import ROOT

from rakuten.env_file import fill_secrets, with_commit, write
from shared.config import read_settings

EXAMPLE = ROOT / ".env.example"


def values(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE))


@pytest.fixture
def made(tmp_path) -> dict[str, str]:
    write(tmp_path / ".env", EXAMPLE)
    return values((tmp_path / ".env").read_text())


def test_every_secret_of_the_compose_file_is_made(made):
    wanted = set(re.findall(r"\$\{([A-Z_]+):\?", (ROOT / "docker-compose.yml").read_text()))
    assert wanted == set(made)


def test_every_variable_of_the_compose_file_is_in_the_example():
    names = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text()))
    assert names <= set(re.findall(r"^#?([A-Z_]+)=", EXAMPLE.read_text(), re.MULTILINE))


def test_the_example_holds_no_secret():
    assert set(values(EXAMPLE.read_text()).values()) == {""}


def test_secrets_are_long_different_and_fit_for_urls(made):
    assert len(set(made.values())) == len(made)
    assert len(base64.urlsafe_b64decode(made.pop("AIRFLOW_FERNET_KEY"))) == 32
    for value in made.values():
        assert re.fullmatch(r"[A-Za-z0-9_-]{64,}", value)


def test_only_the_owner_can_read_it(tmp_path):
    write(tmp_path / ".env", EXAMPLE)
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [".env"]


def test_a_second_time_changes_nothing(tmp_path):
    path = tmp_path / ".env"
    write(path, EXAMPLE)
    before = path.read_bytes()
    assert write(path, EXAMPLE) == []
    assert path.read_bytes() == before


def test_what_is_there_stays_and_what_is_missing_is_added():
    existing = "RANDOM_SEED=7\nA_PASSWORD=mine\nB_PASSWORD=\nOTHER="
    text, names = fill_secrets("#RANDOM_SEED=42\nA_PASSWORD=\nB_PASSWORD=\nC_PASSWORD=\n", existing)
    assert names == ["B_PASSWORD", "C_PASSWORD"]
    found = values(text)
    assert (found["RANDOM_SEED"], found["A_PASSWORD"], found["OTHER"]) == ("7", "mine", "")
    assert found["B_PASSWORD"]
    assert found["C_PASSWORD"]


def test_the_commit_is_the_one_line_that_is_refreshed(tmp_path):
    before = "A=1\n#GIT_COMMIT=\n\nB=#GIT_COMMIT=x\n"
    once = with_commit(before, "0123")
    assert once == "A=1\nGIT_COMMIT=0123\n\nB=#GIT_COMMIT=x\n"
    assert with_commit(once, "4567") == once.replace("0123", "4567")
    assert with_commit("A=1\n\n", "0123") == "A=1\nGIT_COMMIT=0123\n"
    path = tmp_path / ".env"
    write(path, EXAMPLE, "0123")
    secrets = values(path.read_text())
    write(path, EXAMPLE, "4567")
    assert values(path.read_text()) == secrets | {"GIT_COMMIT": "4567"}


def test_make_env_writes_the_commit_of_the_checkout_and_nothing_where_there_is_none(tmp_path):
    folder = tmp_path / "unpacked"
    folder.mkdir()
    (folder / ".env.example").write_text(EXAMPLE.read_text())
    program = [sys.executable, "-m", "rakuten.env_file"]

    def written() -> str | None:
        subprocess.run(program, cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": os.defpath}, check=True)
        return values((folder / ".env").read_text()).get("GIT_COMMIT")

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        command = ["git", *who, *arguments]
        return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()

    assert written() is None
    git("init", "--quiet")
    for message in ("one", "two"):
        git("commit", "--quiet", "--allow-empty", "--message", message)
        assert written() == git("rev-parse", "HEAD")


def test_the_listeners_image_is_built_with_the_commit_and_an_empty_one_is_none(monkeypatch):
    compose = (ROOT / "docker-compose.yml").read_text()
    assert 'target: listener\n    args: { GIT_COMMIT: "${GIT_COMMIT:-}" }' in compose
    listener = (ROOT / "listeners" / "Dockerfile").read_text().split(" AS listener\n")[1]
    assert 'ARG GIT_COMMIT=""\nENV GIT_COMMIT=${GIT_COMMIT}\n' in listener
    monkeypatch.setenv("GIT_COMMIT", "")
    assert read_settings().git_commit is None
