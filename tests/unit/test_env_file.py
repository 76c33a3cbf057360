"""`make env`: fresh secrets where there are none, and nothing that is there is ever changed."""

import base64
import re
import stat
from pathlib import Path

import pytest

from listeners.commands.env_file import filled, write

ROOT = Path(__file__).parents[2]
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
    text, names = filled("#RANDOM_SEED=42\nA_PASSWORD=\nB_PASSWORD=\nC_PASSWORD=\n", existing)
    assert names == ["B_PASSWORD", "C_PASSWORD"]
    found = values(text)
    assert (found["RANDOM_SEED"], found["A_PASSWORD"], found["OTHER"]) == ("7", "mine", "")
    assert found["B_PASSWORD"]
    assert found["C_PASSWORD"]
