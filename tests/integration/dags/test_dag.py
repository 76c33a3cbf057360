"""The DAG in a real Airflow, on a real PostgreSQL. Airflow runs in a process of its own (tests/support/airflow_runner.py)."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest
from psycopg.conninfo import conninfo_to_dict
from repository import ROOT

from db.batches import listening_application
from db.connect import connect
from db.database import Role
from shared.events import BatchCompleted, parse

TASKS = ["check_current_state", "load_increment", "validate_data_load", "complete_batch", "send_notification"]
NOWHERE = {"POSTGRES_HOST": "127.0.0.1", "POSTGRES_PORT": "1", "POSTGRES_USER": "nobody"}
# Raising in these fails each task of the DAG in turn.
STEPS = [
    "db.load.steps.check_current_state",
    "db.load.steps.load_increment",
    "db.load.steps.validate_data_load",
    "db.load.steps.complete_batch",
    "db.batches.pipeline_status",
]


@dataclass(frozen=True)
class Run:
    """What Airflow recorded of a run, and what its tasks logged."""

    state: str
    tasks: dict[str, list[Any]]
    values: dict[str, Any]
    asset_events: list[Any]
    log: str

    @property
    def states(self) -> list[str]:
        return [self.tasks[task][0] for task in TASKS]

    @property
    def tries(self) -> list[int]:
        return [self.tasks[task][1] for task in TASKS]


class Airflow:
    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self.process = process
        self.log = log

    def describe(self, environment: dict[str, str]) -> dict[str, Any]:
        return self._ask({"environment": environment})

    def run(self, environment: dict[str, str], **run: Any) -> Run:
        logged = self.log.stat().st_size
        answer = self._ask({"environment": environment, "run": run})
        return Run(**answer, log=self.log.read_bytes()[logged:].decode())

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        answer = stdout.readline()
        assert answer, f"Airflow died:\n{self.log.read_text()[-5000:]}"
        return json.loads(answer)


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    home = tmp_path_factory.mktemp("airflow")
    environment = {
        "PATH": os.defpath,
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
    }
    log = home / "log"
    file: IO[bytes]
    with (
        log.open("wb") as file,
        subprocess.Popen(
            [sys.executable, ROOT / "tests" / "support" / "airflow_runner.py"],
            cwd=home,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        ) as process,
    ):
        yield Airflow(process, log)
        process.stdin.close()
        assert process.wait(timeout=30) == 0


@pytest.fixture
def raw(settings, tmp_path):
    """The source files of this test, which it may change."""
    directory = tmp_path / "raw"
    shutil.copytree(settings.data_path, directory)
    return directory


@pytest.fixture
def environment(database, raw):
    """What the containers of Airflow are given: the loader's login and the source files."""
    login = conninfo_to_dict(database.conninfo(Role.LOADER))
    return {
        "POSTGRES_HOST": str(login["host"]),
        "POSTGRES_PORT": str(login["port"]),
        "POSTGRES_DB": str(login["dbname"]),
        "POSTGRES_USER": str(login["user"]),
        "POSTGRES_PASSWORD": str(login["password"]),
        "DATA_PATH": str(raw),
    }


@pytest.fixture
def run(airflow, environment):
    """Run the DAG once: `run(week=2)`, `run(faults={...})`, `run(marked="load_increment")`, `run(MAX_PERCENTAGE="40")`."""

    def run_dag(*, week=None, faults=None, marked=None, **settings) -> Run:
        conf = {} if week is None else {"week": week}
        result = airflow.run(environment | settings, conf=conf, faults=faults or {}, marked=marked)
        assert environment["POSTGRES_PASSWORD"] not in result.log
        return result

    return run_dag


@pytest.fixture
def rows(as_role):
    def rows_of(statement: str) -> list[tuple]:
        with as_role(Role.READER) as connection:
            return connection.execute(statement).fetchall()

    return rows_of


@pytest.fixture
def batches(rows):
    return lambda: rows("select id, batch_name, total_rows, status from data_loads order by id")


@pytest.fixture
def history(rows):
    """Of each table: history entries by operation and batch, and how many products they are about."""
    return lambda: [
        rows(
            f"select operation_type, load_batch_id, count(*), count(distinct productid) from {table}"
            " group by 1, 2 order by 2, 1"
        )
        for table in ("products_history", "labels_history")
    ]


def all_skipped(run: Run) -> bool:
    return run.state == "success" and set(run.states) == {"skipped"}


# ---- as parsed


@pytest.fixture(scope="module")
def dag(airflow):
    return airflow.describe(NOWHERE | {"AIRFLOW_SCHEDULE": "30 6 * * 2", "POSTGRES_PASSWORD": "hush"})


def test_the_dag_loads_without_errors(dag):
    assert dag["import_errors"] == []
    assert dag["dag_id"] == "weekly_ml_pipeline"


def test_the_tasks_follow_one_another(dag):
    assert list(dag["tasks"]) == TASKS
    assert [task["downstream"] for task in dag["tasks"].values()] == [*([task] for task in TASKS[1:]), []]


def test_one_run_at_a_time_on_the_schedule_of_the_settings_without_catching_up(airflow, dag):
    assert dag["schedule"] == "30 6 * * 2"
    assert airflow.describe(NOWHERE)["schedule"] == "0 0 * * 1"
    assert (dag["catchup"], dag["max_active_runs"]) == (False, 1)
    assert dag["start_date"] == "2026-01-05T00:00:00+00:00"


def test_every_task_retries_with_a_growing_delay_but_never_on_bad_input_nor_for_ever(dag):
    for task in dag["tasks"].values():
        assert (task["retries"], task["retry_delay_s"], task["backoff"]) == (3, 30, 2)
        assert (task["max_retry_delay_s"], task["timeout_s"]) == (600, 3600)
        assert task["never_retried"] == ["shared.errors.BadInputError"]


def test_a_week_can_be_asked_for(airflow, dag):
    (week,) = dag["params"].values()
    assert week["default"] is None
    assert (week["type"], week["minimum"], week["maximum"]) == (["null", "integer"], 1, 21)
    assert "next week" in week["description"]
    assert airflow.describe(NOWHERE | {"MAX_PERCENTAGE": "46"})["params"]["week"]["maximum"] == 3


def test_the_loaded_products_are_an_asset_without_credentials(dag):
    outlets = {name: task["outlets"] for name, task in dag["tasks"].items() if task["outlets"]}
    assert outlets == {
        "complete_batch": [["rakuten_products", "postgres://127.0.0.1:1/rakuten_db/public/products"]]
    }


def test_the_ui_explains_the_dag_and_each_task(dag):
    assert "Un-pausing loads one week immediately" in dag["doc_md"]
    assert dag["description"]
    assert dag["tags"]
    for task in dag["tasks"].values():
        assert task["owner"] == "rakuten"
        assert task["display_name"]
        assert task["doc_md"]
        assert "\n    " not in task["doc_md"]  # Markdown would take it for code


def test_parsing_imports_nothing_that_only_a_task_needs(dag):
    assert not {"db", "psycopg", "pyarrow", "alembic"} & set(dag["imported"])


def test_malformed_settings_are_an_import_error_that_names_them(airflow):
    (error,) = airflow.describe(NOWHERE | {"INITIAL_PERCENTAGE": "200"})["import_errors"]
    assert "INITIAL_PERCENTAGE: Input should be less than or equal to 100" in error


# ---- as run


def test_each_run_loads_the_next_week_and_wakes_the_listener(database, run, batches, history):
    application = listening_application("snapshot")
    with connect(database.conninfo(Role.SNAPSHOT), application, autocommit=True) as ears:
        ears.execute("listen batch_completed")
        first, second = run(), run()
        heard = [parse(note.channel, note.payload) for note in ears.notifies(timeout=10, stop_after=2)]
    assert heard == [BatchCompleted(v=1, batch_id=1), BatchCompleted(v=1, batch_id=2)]
    assert (first.state, second.state) == ("success", "success")
    assert batches() == [(1, "week_1", 240, "completed"), (2, "week_2", 258, "completed")]
    assert history() == [[("INSERT", 1, 240, 240), ("INSERT", 2, 18, 18)]] * 2

    assert second.asset_events == [
        [
            "rakuten_products",
            {"batch_id": 2, "week": 2, "percentage": 43.0, "new_rows": 18, "total_rows": 258},
        ]
    ]
    assert second.values["send_notification"] == {
        "batch_id": 2,
        "listening": ["snapshot"],
        "pending": {"snapshot": ["week_1", "week_2"], "training": []},
    }
    for said in (
        "week_2 is next: its 18 new rows raise the total from 240 to 258 of 600 training rows (43 %)",
        "batch 2 (week_2): 18 rows sent, 18 products and 18 labels written in ",
        "batch 2 (week_2) is valid: of the 258 rows up to this week, 258 are in products",
        "batch 2 (week_2) is complete: 18 new rows, products has 258 rows, 43 % of the training rows",
        "PostgreSQL sent the notification batch_completed for batch 2 at ",
        "state of the snapshot stage: waiting, of the training stage: waiting",
        "batches waiting for the snapshot listener: 2 (week_1, week_2)",
        "batches waiting for the training listener: 0 (none)",
        "the snapshot listener is connected",
        "[warning  ] no training listener is connected",
    ):
        assert said in second.log


def test_the_audit_trail_names_the_task_that_wrote(run, rows):
    run()
    assert rows("select distinct changed_by, application from products_history") == [
        ("rakuten_loader", "airflow load_increment")
    ]


def test_a_week_asked_for_is_loaded_when_it_is_next_skipped_when_complete_and_refused_when_later(
    run, batches
):
    assert run(week=1).state == "success"
    loaded = batches()

    again = run(week=1)
    assert all_skipped(again)
    assert "nothing to load: week 1 is complete, week 2 is next" in again.log

    later = run(week=3)
    assert (later.state, later.states[0], later.tries[0]) == ("failed", "failed", 1)
    assert "week 3 cannot be loaded yet: week 2 is next" in later.log
    assert batches() == loaded == [(1, "week_1", 240, "completed")]


def test_a_run_skips_when_everything_is_loaded(run, batches):
    assert run(MAX_PERCENTAGE="40").state == "success"
    after = run(MAX_PERCENTAGE="40")
    assert all_skipped(after)
    assert "nothing to load: PostgreSQL holds 40 % of 600 training rows, and week 1 was the last" in after.log
    assert batches() == [(1, "week_1", 240, "completed")]


# ---- as failed


def test_retries_end_right_when_every_task_fails_before_and_after_its_work(run, batches, history):
    retried = run(faults={step: ["before", "after"] for step in STEPS})
    assert (retried.state, retried.tries) == ("success", [3] * 5)
    assert retried.log.count("RuntimeError: injected") >= 2 * len(STEPS)
    assert batches() == [(1, "week_1", 240, "completed")]
    assert history() == [[("INSERT", 1, 240, 240)]] * 2
    assert len(retried.asset_events) == 1
    assert run().state == "success"
    assert [batch[1:] for batch in batches()[1:]] == [("week_2", 258, "completed")]


@pytest.mark.parametrize(
    ("step", "left_behind"),
    [
        ("load_increment", (1, "week_1", 0, "running")),
        ("validate_data_load", (1, "week_1", 0, "running")),
        ("complete_batch", (1, "week_1", 240, "completed")),
    ],
)
def test_a_task_that_keeps_failing_leaves_what_the_next_run_takes_up(
    run, batches, history, step, left_behind
):
    given_up = run(faults={f"db.load.steps.{step}": ["after"] * 4})
    assert given_up.state == "failed"
    assert given_up.tasks[step] == ["failed", 4]
    assert batches() == [left_behind]
    assert run(week=1).state == "success"  # loaded or, where it is complete, skipped
    assert batches() == [(1, "week_1", 240, "completed")]
    assert history() == [[("INSERT", 1, 240, 240)]] * 2


def test_a_database_that_is_away_is_waited_for(run):
    away = run(POSTGRES_PORT="1")
    assert (away.state, away.tries[0]) == ("failed", 4)
    assert "PostgreSQL does not answer at rakuten_loader@" in away.log


def test_malformed_source_files_are_refused_without_a_retry_and_nothing_is_written(run, raw, rows):
    with (raw / "X_train.csv").open("a") as file:
        file.write("600,a product,,not a number,1\n")
    refused = run()
    assert (refused.state, refused.states[0], refused.tries[0]) == ("failed", "failed", 1)
    assert "X_train.csv:" in refused.log
    assert "productid is not a whole number" in refused.log
    assert rows("select count(*) from data_loads union all select count(*) from products_history") == [
        (0,),
        (0,),
    ]


def test_changed_source_files_are_refused_without_a_retry(run, raw, batches):
    run()
    with (raw / "X_test.csv").open("a") as file:
        file.write("999999,one more,,9999999,9999999\n")
    refused = run()
    assert (refused.state, refused.states[0], refused.tries[0]) == ("failed", "failed", 1)
    assert "X_test.csv has changed since the first load" in refused.log
    assert batches() == [(1, "week_1", 240, "completed")]


def test_a_batch_that_is_not_as_promised_fails_at_once_and_is_taken_up_when_put_right(run, as_role, batches):
    with as_role(Role.OWNER) as owner:
        owner.execute("insert into products (productid, sample_rank) values (1, 500)")
    failed = run()
    assert failed.state == "failed"
    assert failed.states == ["success", "success", "failed", "upstream_failed", "upstream_failed"]
    assert failed.tasks["validate_data_load"] == ["failed", 1]
    assert "the table products has 1 products of a later week" in failed.log
    assert "clear load_increment with its downstream tasks" in failed.log
    assert batches() == [(1, "week_1", 0, "failed")]

    with as_role(Role.OWNER) as owner:
        owner.execute("delete from products where productid = 1")
    assert run().state == "success"
    assert batches() == [(1, "week_1", 240, "completed")]


def test_a_run_that_is_overtaken_skips_what_is_left(run, batches):
    overtaken = run(faults={"db.load.steps.validate_data_load": ["overtaken"]})
    assert overtaken.states == ["success", "success", "skipped", "skipped", "skipped"]
    assert "nothing to do: week_1 is complete" in overtaken.log
    assert batches() == [(1, "week_1", 240, "completed")]


@pytest.mark.parametrize("task", TASKS[:-1])
def test_the_task_after_one_that_was_marked_as_successful_by_hand_says_so_without_a_retry(run, task):
    marked = run(marked=task)
    following = TASKS[TASKS.index(task) + 1]
    assert marked.tasks[following] == ["failed", 1]
    assert f"the task {task} was marked as successful by hand" in marked.log
    assert f"clear {task} with its downstream tasks" in marked.log
    assert "TypeError" not in marked.log
