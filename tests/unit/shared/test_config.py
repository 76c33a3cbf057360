"""One frozen settings object: every week's percentage, exact row counts, and malformed settings refused by name."""

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import make_url

from shared.config import configure_third_parties, environment_for, read_settings, target_rows
from shared.errors import BadInputError


def percentages(**settings: object) -> list[Decimal]:
    made = read_settings(**settings)
    return [made.percentage_of(week) for week in range(1, made.last_week + 1)]


def test_21_weeks_lead_from_40_to_100_percent():
    assert percentages() == list(range(40, 101, 3))
    assert read_settings().last_week == 21


@pytest.mark.parametrize(
    ("initial", "increment", "maximum", "expected"),
    [
        (40, 7, 60, [40, 47, 54, 60]),
        (100, 3, 100, [100]),
        (50, 50, 100, [50, 100]),
        (50, 51, 100, [50, 100]),
        ("0.5", "33.3", "67.1", ["0.5", "33.8", "67.1"]),
        ("33.33", "33.33", 100, ["33.33", "66.66", "99.99", "100"]),
    ],
)
def test_the_last_week_is_the_first_that_reaches_the_maximum(initial, increment, maximum, expected):
    found = percentages(initial_percentage=initial, increment_percentage=increment, max_percentage=maximum)
    assert found == [Decimal(value) for value in expected]


def test_weeks_after_the_last_stay_at_the_maximum():
    assert read_settings().percentage_of(22) == 100


@pytest.mark.parametrize(
    ("total", "percentage", "rows"),
    [
        (84_916, "40", 33_966),
        (84_916, "43", 36_513),
        (84_916, "46", 39_061),
        (84_916, "97", 82_368),
        (84_916, "100", 84_916),
        (4_000, "46", 1_840),
        (100, "57", 57),  # int(100 * 0.57) is 56
        (100_000, "0.29", 290),  # int(100_000 * 0.29 / 100) is 289
        (1, "99.99", 0),
        (0, "40", 0),
    ],
)
def test_target_rows_are_exact_floors(total, percentage, rows):
    assert target_rows(total, Decimal(percentage)) == rows


@given(st.integers(0, 10**12), st.integers(1, 10_000))
def test_target_rows_equal_integer_arithmetic(total, hundredths):
    assert target_rows(total, Decimal(hundredths) / 100) == total * hundredths // 10_000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("INITIAL_PERCENTAGE", "forty"),
        ("INITIAL_PERCENTAGE", "0"),
        ("INITIAL_PERCENTAGE", "nan"),
        ("INITIAL_PERCENTAGE", "inf"),
        ("INCREMENT_PERCENTAGE", "-3"),
        ("INCREMENT_PERCENTAGE", "0"),
        ("INCREMENT_PERCENTAGE", "0.001"),
        ("MAX_PERCENTAGE", "101"),
        ("MAX_PERCENTAGE", "30"),  # below INITIAL_PERCENTAGE
        ("RANDOM_SEED", "4.2"),
        ("RANDOM_SEED", "9223372036854775808"),
        ("HOLDOUT_PERCENTAGE", "0"),
        ("HOLDOUT_PERCENTAGE", "51"),
        ("BALANCING_STRATEGY", "smote"),
        ("POSTGRES_PORT", "five"),
        ("POSTGRES_PORT", "0"),
        ("POSTGRES_PORT", "65536"),
        ("LOG_LEVEL", "verbose"),
        ("LOG_FORMAT", "xml"),
        ("MAX_ATTEMPTS", "0"),
        ("POLL_INTERVAL_S", "0"),
        ("GRACE_PERIOD_S", "-1"),
    ],
)
def test_a_malformed_variable_is_refused_by_name(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(BadInputError, match=name) as refused:
        read_settings()
    assert refused.value.exit_code == 2
    assert ".env" in refused.value.remedy
    monkeypatch.delenv(name)
    assert read_settings()


def test_every_malformed_variable_is_named(monkeypatch):
    monkeypatch.setenv("RANDOM_SEED", "x")
    monkeypatch.setenv("HOLDOUT_PERCENTAGE", "x")
    with pytest.raises(BadInputError, match=r"(?s)RANDOM_SEED.*HOLDOUT_PERCENTAGE"):
        read_settings()


def test_a_server_without_a_user_is_refused():
    with pytest.raises(BadInputError, match="POSTGRES_USER"):
        read_settings(postgres_host="db")


def test_a_refusal_shows_no_secret(monkeypatch):
    monkeypatch.setenv("POSTGRES_HOST", "db")
    monkeypatch.setenv("POSTGRES_PASSWORD", "hunter2")
    with pytest.raises(BadInputError) as refused:
        read_settings(random_seed="hunter2")
    assert "hunter2" not in str(refused.value)


def test_secrets_are_not_in_repr():
    settings = read_settings(
        postgres_host="db",
        postgres_user="loader",
        postgres_password="hunter2",  # noqa: S106
        mlflow_backend_store_uri="postgresql://mlflow:hunter2@db/mlflow",
    )
    assert "hunter2" not in repr(settings) + str(settings)
    assert settings.postgres_password.get_secret_value() == "hunter2"


def test_settings_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        read_settings().random_seed = 7


def test_the_environment_wins_over_the_env_file(monkeypatch):
    Path(".env").write_text("RANDOM_SEED=1\nHOLDOUT_PERCENTAGE=20\n")
    monkeypatch.setenv("RANDOM_SEED", "2")
    settings = read_settings()
    assert (settings.random_seed, settings.holdout_percentage) == (2, 20)


def test_an_empty_variable_is_an_unset_one(monkeypatch):
    monkeypatch.setenv("POSTGRES_HOST", "")
    monkeypatch.setenv("RANDOM_SEED", "")
    assert (read_settings().postgres_host, read_settings().random_seed) == (None, 42)


def test_an_env_file_for_several_programs_is_read(monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "x")
    Path(".env").write_text("AIRFLOW_ADMIN_PASSWORD=x\n")
    assert read_settings().random_seed == 42


def test_paths_are_absolute_so_that_a_child_in_another_directory_reads_the_same(monkeypatch, tmp_path):
    monkeypatch.setenv("DATA_PATH", "raw")
    settings = read_settings()
    assert settings.data_path == tmp_path / "raw"
    assert environment_for(settings)["DATA_PATH"] == str(tmp_path / "raw")


def test_processes_that_are_started_after_it_let_arrow_use_malloc(monkeypatch):
    name = "ARROW_DEFAULT_MEMORY_POOL"
    monkeypatch.setenv(name, "")  # so that it is put back
    monkeypatch.delenv(name)
    configure_third_parties()
    program = "import pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "system"


@pytest.mark.parametrize("name", ["a?b", "a%41b", "100 %", "it's my state #1", "été"])
def test_mlflow_s_store_is_in_the_state_folder_whatever_the_name_of_the_folder(tmp_path, name):
    state = tmp_path / name
    uri = read_settings(state_path=state).tracking_uri
    assert make_url(uri).database == str(state / "mlflow" / "mlflow.db")
    Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)  # as MLflow does
    assert set(tmp_path.iterdir()) <= {state}
