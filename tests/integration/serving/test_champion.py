"""The server serves the champion that PostgreSQL and MLflow agree on, with exactly the files that were logged, and no other."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow.artifacts
import mlflow.sklearn
import pandas as pd
import pytest
from psycopg.types.json import Jsonb

from db.database import Role
from listeners import reconcile
from listeners.job import Task
from listeners.serving.swapper import Swapper
from listeners.tracking.runs import Tracking
from shared.events import Stage
from shared.mlflow_names import CHAMPION, REGISTERED_MODEL, Artifact, Tag

pytestmark = pytest.mark.anyio
TEXTS = pd.DataFrame({"designation": ["Piscine gonflable", None], "description": [None, "un roman"]})


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@pytest.fixture
def swapper(tracking, database):
    return Swapper(lambda: tracking, database.conninfo(Role.SERVER))


async def test_before_the_first_champion_there_is_no_model(another_database):
    swapper = Swapper(lambda: Tracking(another_database.settings), another_database.conninfo(Role.SERVER))
    await swapper.follow()
    assert (swapper.model, swapper.problem) == (None, None)


async def test_the_champion_is_served_and_a_rollback_exchanges_it(champion, swapper, move_to, logged_model):
    await swapper.follow()
    latest = swapper.model.info
    assert (latest.version, latest.batch) == (2, "week_2")
    served = swapper.model
    await swapper.follow()
    assert swapper.model is served  # nothing has moved, so nothing is loaded

    move_to(1)
    await swapper.follow()
    assert (swapper.model.info.version, swapper.model.info.batch) == (1, "week_1")
    assert swapper.model.info.sha256 != latest.sha256
    plain = mlflow.sklearn.load_model(str(logged_model(1)))
    first = [guesses[0] for guesses in swapper.model.guesses(TEXTS)]
    assert [guess.prdtypecode for guess in first] == plain.predict(TEXTS).tolist()
    assert [guess.probability for guess in first] == plain.predict_proba(TEXTS).max(axis=1).tolist()


@contextmanager
def changed(path: Path, content: bytes | None) -> Iterator[None]:
    """Change, add or remove a file."""
    before = path.read_bytes() if path.exists() else None
    try:
        path.unlink() if content is None else path.write_bytes(content)
        yield
    finally:
        path.unlink(missing_ok=True) if before is None else path.write_bytes(before)


@contextmanager
def other_manifest(tracking, run_id):
    folder = Path(mlflow.artifacts.download_artifacts(tracking.client.get_run(run_id).info.artifact_uri))
    with changed(folder / Artifact.MANIFEST, b'{"artifacts": {}}'):
        yield


@contextmanager
def other_model(tracking, run_id, uri):
    before = tracking.client.get_run(run_id).data.tags[Tag.MODEL_URI]
    tracking.client.set_tag(run_id, Tag.MODEL_URI, uri)
    yield
    tracking.client.set_tag(run_id, Tag.MODEL_URI, before)


@contextmanager
def planted_version(tracking, version):
    """A version that nobody has recorded gets the alias."""
    source = tracking.client.get_model_version(REGISTERED_MODEL, version)
    planted = tracking.client.create_model_version(REGISTERED_MODEL, source.source, run_id=source.run_id)
    tracking.client.set_registered_model_alias(REGISTERED_MODEL, CHAMPION, planted.version)
    yield
    tracking.client.set_registered_model_alias(REGISTERED_MODEL, CHAMPION, version)
    tracking.client.delete_model_version(REGISTERED_MODEL, planted.version)


@contextmanager
def unrecorded_model(as_superuser):
    with as_superuser() as connection:
        connection.execute("alter table data_loads disable trigger all")
        [(before,)] = connection.execute(
            "select metadata from data_loads where batch_name = 'week_2'"
        ).fetchall()
        without = (
            "update data_loads set metadata = metadata #- '{training,result}' where batch_name = 'week_2'"
        )
        connection.execute(without)
    yield
    with as_superuser() as connection:
        connection.execute("update data_loads set metadata = %s where batch_name = 'week_2'", [Jsonb(before)])
        connection.execute("alter table data_loads enable trigger all")


async def test_another_model_than_the_logged_one_is_refused_and_the_present_one_stays(
    champion, swapper, move_to, tracking, logged_model, as_superuser
):
    move_to(1)
    await swapper.follow()
    present = swapper.model
    move_to(2)
    first, second = (
        tracking.client.get_model_version(REGISTERED_MODEL, version).run_id for version in ("1", "2")
    )
    earlier = tracking.client.get_run(first).data.tags[Tag.MODEL_URI]
    files = "the files of version 2 are not those that the training stage logged"
    attacks = {
        f"{files}: MLmodel": changed(logged_model(2) / "MLmodel", b"artifact_path: model"),
        f"{files}: more.txt": changed(logged_model(2) / "more.txt", b"x"),
        f"{files}: conda.yaml": changed(logged_model(2) / "conda.yaml", None),
        f"{files}: ": other_model(tracking, second, earlier),
        "SHA-256": other_manifest(tracking, second),
        "MLflow's alias champion is on version 3": planted_version(tracking, "2"),
    }
    for problem, attack in attacks.items():
        with attack:
            await swapper.follow()
            assert problem in str(swapper.problem)
            assert (swapper.model, swapper.refused, swapper.state) == (present, 2, " 1 refuses 2")
    with unrecorded_model(
        as_superuser
    ):  # this is no refusal: between the move and the record of a training, it is always so
        await swapper.follow()
        assert "the training stage has not recorded its model" in swapper.problem
        assert (swapper.model, swapper.refused, swapper.state) == (present, None, " 1")
    await swapper.follow()
    assert (swapper.model.info.version, swapper.problem, swapper.state) == (2, None, " 2")


async def test_what_the_remedies_say_lets_the_server_serve_again(
    champion, swapper, move_to, tracking, database, settings
):
    conninfo = database.conninfo(Role.TRAINING)
    client = tracking.client
    run_id = client.get_model_version(REGISTERED_MODEL, "2").run_id
    with other_model(tracking, run_id, "models:/m-unknown"):
        await swapper.follow()
        assert "Failed to download" in swapper.problem or "unknown" in swapper.problem
        move_to(1)
        await swapper.follow()
        assert (swapper.model.info.version, swapper.problem) == (1, None)
    client.set_registered_model_alias(
        REGISTERED_MODEL, CHAMPION, "2"
    )  # by hand: PostgreSQL does not record it
    await swapper.follow()
    assert "restart the training listener: it records where the alias is" in swapper.problem
    assert (swapper.model.info.version, swapper.refused) == (1, None)
    reconcile.handle(
        Task(Stage.TRAINING, conninfo, settings, reconcile.__name__)
    )  # what the listener does at its start
    await swapper.follow()
    assert (swapper.model.info.version, swapper.problem) == (2, None)


async def test_while_postgresql_is_unavailable_the_present_model_stays(champion, swapper, move_to, tracking):
    move_to(1)
    await swapper.follow()
    move_to(2)
    cut_off = Swapper(lambda: tracking, "host=127.0.0.1 port=1 dbname=x user=x")
    cut_off.model = present = swapper.model
    await cut_off.follow()
    assert cut_off.model is present
    assert "port 1" in cut_off.problem
    await swapper.follow()
    assert (swapper.model.info.version, swapper.problem) == (2, None)
