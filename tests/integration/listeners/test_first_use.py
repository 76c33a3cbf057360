"""A wake-up pays no import: whatever a stage uses, the fork server has imported before."""

import asyncio
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest
import watched_handler
from jobs import claim_of
from mlflow_server import MlflowServer
from psycopg.types.json import Jsonb

from db.connect import connect
from db.database import Role
from listeners.child import Children, warm_up
from listeners.job import Task, handler_module
from shared.config import configure_third_parties
from shared.events import Stage

WEEKS = 2
MIGRATIONS = "mlflow.store.db.trace_"  # of MLflow's database: read again by whoever opens it


@pytest.fixture(params=["local", "server"])
def tracking_uri(request, tmp_path):
    """Of MLflow's own files under STATE_PATH, or of a server."""
    if request.param == "local":
        yield None
        return
    with MlflowServer(tmp_path / "server") as server:
        yield server.url


@pytest.fixture
def imported_by_stage(tracking_uri, database, settings, load_weeks):
    """The modules that each stage imports in its children, after the first week, which makes MLflow's tables."""
    batch_ids = load_weeks(WEEKS)
    settings = settings.model_copy(update={"mlflow_tracking_uri": tracking_uri})
    tasks = [
        Task(stage, database.conninfo(Role(f"rakuten_{stage}")), settings, handler_module(stage))
        for stage in Stage
    ]
    # a process of its own has a fork server of its own, which no other test has filled
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(imported_by, tasks, batch_ids).result()


def imported_by(tasks, batch_ids):
    configure_third_parties()
    imported = {task.stage: asyncio.run(_imported_by(task, batch_ids)) for task in tasks}
    return {
        stage: {module for module in modules if not module.startswith(MIGRATIONS)}
        for stage, modules in imported.items()
    }


async def _imported_by(task, batch_ids):
    await warm_up(task.handler)
    imported = set()
    with connect(task.conninfo, "test", autocommit=True) as connection:
        async with Children(task) as children:
            for week, batch_id in enumerate(batch_ids, start=1):
                statement = "select claim_stage(%s, %s, 'test', 'notify', '0 s')"
                [attempt] = connection.execute(statement, [batch_id, task.stage]).fetchone()
                claim = claim_of(task.conninfo, batch_id, attempt)
                async with children.at_work(watched_handler.__name__, claim) as child:
                    outcome = await child.result()
                result = Jsonb(outcome["result"])
                connection.execute(
                    "select finish_stage(%s, %s, %s, %s)", [batch_id, task.stage, attempt, result]
                )
                if week > 1:
                    imported.update(outcome["imported"])
    return imported


def test_a_stage_imports_nothing_on_the_wake_up_s_path(imported_by_stage):
    assert imported_by_stage == {Stage.SNAPSHOT: set(), Stage.TRAINING: set()}
