"""The server serves the champion that PostgreSQL and MLflow agree on, with exactly the files that were logged, and no other."""

import mlflow.sklearn
import pandas as pd
import pytest

from db.connect import connect
from db.database import Role
from listeners.promotion.rollback import roll_back
from listeners.serving.run import Swapper
from shared.mlflow_names import CHAMPION, REGISTERED_MODEL, Artifact, Tag

pytestmark = pytest.mark.anyio
TEXTS = pd.DataFrame({"designation": ["Piscine gonflable", None], "description": [None, "un roman"]})


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@pytest.fixture
def swapper(tracking, database):
    return Swapper(tracking, database.conninfo(Role.READER))


async def test_before_the_first_champion_there_is_no_model(swapper):
    await swapper.follow()
    assert (swapper.model, swapper.problem) == (None, None)


async def test_the_champion_is_served_and_a_rollback_exchanges_it(
    train, swapper, tracking, database, logged_model
):
    train(2)
    await swapper.follow()
    latest = swapper.model.info
    assert (latest.version, latest.batch) == (2, "week_2")
    served = swapper.model
    await swapper.follow()
    assert swapper.model is served  # nothing has moved, so nothing is loaded

    roll_back(tracking, database.conninfo(Role.TRAINING), None, reason="test", by="somebody")
    await swapper.follow()
    assert (swapper.model.info.version, swapper.model.info.batch) == (1, "week_1")
    assert swapper.model.info.sha256 != latest.sha256
    plain = mlflow.sklearn.load_model(str(logged_model(1)))
    first = [guesses[0] for guesses in swapper.model.guesses(TEXTS)]
    assert [guess.prdtypecode for guess in first] == plain.predict(TEXTS).tolist()
    assert [guess.probability for guess in first] == plain.predict_proba(TEXTS).max(axis=1).tolist()


@pytest.fixture
def attack(tracking, logged_model, as_superuser):
    """What makes version 2 a model that must not be served."""

    def change_file():
        path = logged_model(2) / "MLmodel"
        path.write_bytes(path.read_bytes() + b"\n")

    def add_file():
        (logged_model(2) / "requirements_more.txt").write_text("x")

    def remove_file():
        (logged_model(2) / "conda.yaml").unlink()

    def change_manifest():
        run = tracking.client.get_run(tracking.client.get_model_version(REGISTERED_MODEL, "2").run_id)
        tracking.client.log_text(run.info.run_id, '{"artifacts": {}}', Artifact.MANIFEST)

    def point_elsewhere():
        first, second = (
            tracking.client.get_model_version(REGISTERED_MODEL, version).run_id for version in ("1", "2")
        )
        other = tracking.client.get_run(first).data.tags[Tag.MODEL_URI]
        tracking.client.set_tag(second, Tag.MODEL_URI, other)

    def foreign_version():
        run = tracking.client.get_model_version(REGISTERED_MODEL, "2")
        planted = tracking.client.create_model_version(REGISTERED_MODEL, run.source, run_id=run.run_id)
        tracking.client.set_registered_model_alias(REGISTERED_MODEL, CHAMPION, planted.version)

    def not_recorded():
        with as_superuser() as connection:
            connection.execute("alter table data_loads disable trigger all")
            connection.execute(
                "update data_loads set metadata = metadata #- '{training,result}' where batch_name = 'week_2'"
            )

    return locals()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("change_file", "the files of version 2 are not those that the training stage logged: MLmodel"),
        ("add_file", "are not those that the training stage logged: requirements_more.txt"),
        ("remove_file", "are not those that the training stage logged: conda.yaml"),
        ("change_manifest", "SHA-256"),
        ("point_elsewhere", "are not those that the training stage logged"),
        ("foreign_version", "MLflow's alias champion is on version 3, but the last move"),
        ("not_recorded", "the training stage has not recorded its model yet"),
    ],
)
async def test_another_model_than_the_logged_one_is_refused_and_the_present_one_goes_on(
    train, swapper, attack, name, problem
):
    train(1)
    await swapper.follow()
    present = swapper.model
    train(1)
    attack[name]()
    await swapper.follow()
    assert problem in swapper.problem
    assert swapper.model is present


async def test_while_postgresql_is_away_the_present_model_goes_on(train, swapper, tracking, database):
    train(1)
    await swapper.follow()
    train(1)
    away = Swapper(tracking, "host=127.0.0.1 port=1 dbname=x user=x")
    away.model = present = swapper.model
    await away.follow()
    assert away.model is present
    assert "port 1" in away.problem
    await swapper.follow()
    assert (swapper.model.info.version, swapper.problem) == (2, None)


def test_the_server_s_role_cannot_write(database):
    with connect(database.conninfo(Role.READER), "test") as connection:
        rights = connection.execute(
            "select count(*) from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'"
            " and has_table_privilege(oid, 'insert, update, delete, truncate')"
        )
        assert rights.fetchone() == (0,)
