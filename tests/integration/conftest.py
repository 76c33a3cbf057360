"""What several integration tests need: connections, the files of corrections, and a registry of models."""

import csv
import shutil

import pytest

from db.database import Role
from db.load.correction import correct
from shared.config import read_settings


@pytest.fixture
def loader(as_role):
    with as_role(Role.LOADER) as connection:
        yield connection


@pytest.fixture
def reader(as_role):
    with as_role(Role.READER) as connection:
        yield connection


@pytest.fixture
def write(tmp_path):
    """Write a correction's file: `write("productid,prdtypecode", (5, 10))`."""

    def to_file(header: str, *rows: tuple, name: str = "correction.csv"):
        path = tmp_path / name
        with path.open("w", newline="", encoding="utf-8") as file:
            file.write(f"{header}\n")
            csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_MINIMAL).writerows(rows)
        return path

    return to_file


@pytest.fixture
def apply(loader, settings, write):
    """Correct: `apply("productid,prdtypecode", (5, 10))`."""
    return lambda header, *rows, **options: correct(loader, settings, write(header, *rows), **options)


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory):
    """MLflow takes seconds to make its tables: they are made once, and copied for each test."""
    from listeners.tracking.runs import Tracking  # noqa: PLC0415  it imports MLflow

    state = tmp_path_factory.mktemp("empty")
    Tracking(read_settings(state_path=state, mlflow_tracking_uri=None, _env_file=None))
    return state / "mlflow"


@pytest.fixture
def models(database, settings, empty_mlflow, tmp_path):
    from champion_models import Models  # noqa: PLC0415  it imports MLflow

    shutil.copytree(empty_mlflow, settings.state_path / "mlflow")
    return Models(database, settings, tmp_path)


@pytest.fixture
def three_champions(models):
    """Versions 1, 2 and 3 of weeks 1, 2 and 3, each a little better than the last."""
    from champion_models import wrong  # noqa: PLC0415  it imports MLflow

    return [models.arrive(week, wrong(0, 60 - 5 * week))[0] for week in (1, 2, 3)]
