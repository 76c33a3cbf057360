"""docker-compose.yml as a team would run it: Airflow loads, two listeners do the rest, and whatever is killed catches up.

`make test-compose` runs it, with a Docker engine. The tests are one story and run in this order.
"""

import json
import os
import time
from urllib.error import HTTPError
from urllib.parse import quote

import pytest
from compose import PROFILES, ROOT, SECRETS_OF, Stack, is_asked_for, why_not
from mlflow import MlflowClient
from run_pages import command_blocks

from db.source.synthetic import generate
from shared.events import Stage
from shared.mlflow_names import CHAMPION, DATASET_EXPERIMENT, MODEL_EXPERIMENT, REGISTERED_MODEL

if "TEST_COMPOSE" not in os.environ:  # noqa: TID251
    pytest.skip("run by make test-compose", allow_module_level=True)

pytestmark = pytest.mark.timeout(3600)

DAG = "weekly_ml_pipeline"
WEEKS = range(1, 8)
BUILD_S = 1800
MEMORY_BYTES = 3 * 2**30
LISTENERS = tuple(f"{stage}-listener" for stage in Stage)
ONE_SHOT = {"db-upgrade", "airflow-init"}
SCREENSHOTS = ROOT / "build" / "screenshots"
RUNNING = set(SECRETS_OF) - set().union(
    *(services for profile, services in PROFILES.items() if not is_asked_for(profile))
)
with_monitoring = pytest.mark.skipif(
    not is_asked_for("monitoring"), reason="run by COMPOSE_PROFILES=monitoring make test-compose"
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    if reason := why_not():
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("compose")
    generate(directory / "raw", 3000)
    # seven weeks, and no moment that the scheduler could find missed: the tests trigger every run
    stack = Stack(directory, directory / "raw", INCREMENT_PERCENTAGE=10, AIRFLOW_SCHEDULE="0 0 29 2 *")
    stack.compose("build", timeout_s=BUILD_S)
    try:
        started = time.monotonic()
        stack.up()
        print(f"\nhealthy after {time.monotonic() - started:.0f} s")
        yield stack
    finally:
        stack.down()


def test_every_service_is_healthy_within_its_memory(stack):
    services = stack.services()
    assert set(services) == RUNNING
    for name, service in services.items():
        expected = ("exited", "") if name in ONE_SHOT else ("running", "healthy")
        assert (service["State"], service["Health"]) == expected, name
    used = stack.memory_bytes()
    print({name: f"{size / 2**20:.0f} MiB" for name, size in used.items()})
    print(f"{sum(used.values()) / 2**20:.0f} MiB in all")
    assert sum(used.values()) < MEMORY_BYTES


def test_only_loopback_is_published(stack):
    for service in stack.services().values():
        assert {port["URL"] for port in service["Publishers"] if port["PublishedPort"]} <= {"127.0.0.1"}


@pytest.mark.parametrize("service", [*LISTENERS, "model-server", "airflow-scheduler"])
def test_what_is_installed_is_ours_and_nobody_is_root(stack, service):
    program = """
import importlib, importlib.metadata, json, os
owners = importlib.metadata.packages_distributions()
names = ("db", "listeners", "shared")
inside = all("site-packages" in importlib.import_module(name).__file__ for name in names)
print(json.dumps([{name: owners[name] for name in names}, inside, os.getuid()]))
"""
    owners, inside, uid = json.loads(stack.compose("exec", "-T", service, "python", "-c", program))
    assert owners == {name: ["rakuten-pipeline"] for name in ("db", "listeners", "shared")}
    assert inside
    assert uid != 0


def test_each_service_has_its_own_secrets_and_no_others(stack):
    for service in RUNNING:
        wanted = SECRETS_OF[service]
        text = "\n".join(stack.environment_of(service).values())
        assert {name for name, value in stack.secrets.items() if value in text} == wanted, service


def test_no_secret_is_in_an_image(stack):
    for image in ("rakuten-listener:test", "rakuten-mlflow:test", "rakuten-airflow:test"):
        history = stack.docker("history", "--no-trunc", image) + stack.docker("inspect", image)
        assert not [name for name, value in stack.secrets.items() if value in history]


def test_a_role_reaches_its_own_database_only(stack):
    for role, database in [
        ("mlflow", "rakuten_db"),
        ("airflow", "mlflow_db"),
        ("rakuten_training", "airflow_db"),
    ]:
        question = f"select has_database_privilege('{role}', '{database}', 'connect') as may"
        assert stack.query(question) == [{"may": False}]


def test_a_triggered_run_takes_week_1_from_csv_to_a_registered_model(stack):
    stack.api("PATCH", f"/api/v2/dags/{DAG}", {"is_paused": False})
    assert stack.ended(stack.trigger(DAG)) == "success"
    wait_for_model(stack, 1)
    row = stack.status()["week_1"]
    assert (row["snapshot_wake"], row["training_wake"]) == ("notify", "notify")
    client = MlflowClient(stack.mlflow)
    assert client.get_model_version_by_alias(REGISTERED_MODEL, CHAMPION).run_id == row["model_run_id"]


def test_the_model_server_serves_week_1_to_those_who_have_its_token(stack):
    stack.wait(lambda: stack.predict("Piscine gonflable")["model"]["batch"] == "week_1")
    with pytest.raises(HTTPError, match="401"):
        stack.predict("Piscine gonflable", token="wrong")  # noqa: S106  not a secret
    shown = "select version, refused_version from model_servers"  # from the server's next ping on
    stack.wait(lambda: stack.query(shown) == [{"version": 1, "refused_version": None}])


def test_week_2_survives_restarts_of_postgres_and_both_listeners(stack):
    run = stack.trigger(DAG)
    stack.wait(lambda: stack.status().get("week_2", {}).get("status") == "completed")
    stack.compose("restart", "postgres", *LISTENERS)
    wait_for_model(stack, 2)
    assert stack.ended(run) == "success"


def test_a_killed_listener_catches_up_with_week_3(stack):
    stack.compose("kill", "training-listener")
    run = stack.trigger(DAG)
    stack.wait(lambda: stack.status().get("week_3", {}).get("snapshot_state") == "finished")
    assert stack.status()["week_3"]["training_state"] == "waiting"
    stack.up()
    wait_for_model(stack, 3)
    assert stack.status()["week_3"]["training_wake"] == "start"
    assert stack.ended(run) == "success"


@pytest.mark.parametrize(
    ("week", "service", "moment"),
    [
        (4, "airflow-scheduler", lambda _: True),
        (5, "postgres", lambda row: row["snapshot_state"] == "running"),
        (6, "snapshot-listener", lambda row: row["snapshot_state"] == "running"),
        (7, "mlflow", lambda row: row["training_state"] == "running"),
    ],
)
def test_a_service_killed_at_work_and_brought_up_again_loses_no_week(stack, week, service, moment):
    run, name = stack.trigger(DAG), f"week_{week}"
    stack.wait(lambda: name in stack.status() and moment(stack.status()[name]))
    stack.compose("kill", service)
    stack.up()
    wait_for_model(stack, week)
    assert stack.ended(run) == "success"


def test_the_model_server_serves_the_champion_of_the_last_week(stack):
    [champion] = stack.query("select version, batch_name as batch from champion")
    stack.wait(lambda: champion.items() <= stack.predict("Piscine gonflable")["model"].items())


def test_every_batch_has_one_dataset_run_and_one_model_run(stack):
    client = MlflowClient(stack.mlflow)
    for row in stack.status().values():
        for experiment, recorded in [
            (DATASET_EXPERIMENT, row["dataset_run_id"]),
            (MODEL_EXPERIMENT, row["model_run_id"]),
        ]:
            found = client.search_runs(
                [client.get_experiment_by_name(experiment).experiment_id],
                f"tags.batch_id = '{row['batch_id']}' and attributes.status = 'FINISHED'",
            )
            assert [run.info.run_id for run in found] == [recorded]


def test_at_100_percent_a_run_skips(stack):
    run = stack.trigger(DAG)
    assert stack.ended(run) == "success"
    states = {
        task["task_id"]: task["state"] for task in stack.api("GET", f"{run}/taskInstances")["task_instances"]
    }
    assert set(states.values()) == {"skipped"}, states
    assert set(stack.status()) == {f"week_{week}" for week in WEEKS}


def test_the_listeners_log_one_json_line_an_event(stack):
    events = [json.loads(line) for line in stack.lines(*LISTENERS)]
    assert all({"event", "level", "timestamp"} <= event.keys() for event in events)
    done = [event for event in events if event["event"] == "finished"]
    assert all({"batch_id", "stage", "wake", "duration_s", "attempt"} <= event.keys() for event in done)
    assert {(event["stage"], event["batch"]) for event in done} == {
        (stage, f"week_{week}") for stage in Stage for week in WEEKS
    }


def test_no_secret_is_in_a_log(stack):
    text = "\n".join(stack.lines())
    assert not [name for name, value in stack.secrets.items() if value in text]


def test_replicas_can_be_raised(stack):
    stack.compose(
        "up", "--detach", "--no-recreate", "--wait", "--scale", "training-listener=2", "training-listener"
    )
    stack.compose(
        "up", "--detach", "--no-recreate", "--wait", "--scale", "training-listener=1", "training-listener"
    )


@pytest.mark.parametrize("page", ["compose", "backup"])
def test_each_command_of_a_page_works(stack, page, tmp_path_factory):
    """All but `make env`: the fixture has done what it does, and it would write into the developer's own .env."""
    before, folder = stack.status().keys(), tmp_path_factory.mktemp(page)
    blocks = command_blocks(ROOT / f"docs/how-to/{page}.md")
    assert len(blocks) >= 3
    for block in blocks:
        if "make env" not in block:
            stack.shell(block, folder)
    stack.up()
    assert stack.status().keys() == before
    found = json.loads(
        stack.compose("exec", "-T", "snapshot-listener", "rakuten", "doctor", "--json", check=False)
    )
    assert [finding for finding in found if finding["severity"] == "error"] == []


def test_the_uis_open_in_a_browser(stack, browser):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(stack.airflow)
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", stack.secrets["AIRFLOW_ADMIN_PASSWORD"])
    page.press("input[name=password]", "Enter")
    page.wait_for_url("**/")
    page.goto(f"{stack.airflow}/dags/{DAG}")
    page.get_by_text("Complete the batch").first.wait_for()
    page.screenshot(path=SCREENSHOTS / "airflow_grid.png")
    # what a reader chooses once, at the top left: model training, and no assistant
    page.add_init_script(
        "localStorage.setItem('mlflow.workflowType_v1', '\"machine_learning\"');"
        "localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false')"
    )
    first, newest = (stack.status()[week]["model_run_id"] for week in ("week_1", "week_3"))
    experiment = MlflowClient(stack.mlflow).get_run(newest).info.experiment_id
    compared = quote(json.dumps([first, newest]))
    for name, address, text in (
        ("run", f"experiments/{experiment}/runs/{newest}", REGISTERED_MODEL),
        ("runs", f"experiments/{experiment}/runs", "model_week_3"),
        ("model", f"models/{REGISTERED_MODEL}", "champion"),
        (
            "compared",
            f"compare-runs?runs={compared}&experiments={quote(json.dumps([experiment]))}",
            "model_week_1",
        ),
    ):
        page.goto("about:blank")  # another fragment alone would not load the page again
        page.goto(f"{stack.mlflow}/#/{address}")
        page.get_by_text(text).first.wait_for()
        page.screenshot(path=SCREENSHOTS / f"mlflow_{name}.png")


@with_monitoring
def test_prometheus_reads_every_listener_and_the_model_server(stack):
    def up():
        answer = stack.get_json("prometheus", 9090, "/api/v1/query?query=up")
        return {result["metric"]["instance"]: result["value"][1] for result in answer["data"]["result"]}

    targets = {"snapshot-listener:9100", "training-listener:9100", "model-server:8000"}
    stack.wait(lambda: up() == dict.fromkeys(targets, "1"))
    alertmanagers = stack.get_json("prometheus", 9090, "/api/v1/alertmanagers")["data"]["activeAlertmanagers"]
    assert [each["url"] for each in alertmanagers] == ["http://alertmanager:9093/api/v2/alerts"]


@with_monitoring
def test_grafana_shows_the_dashboard_to_its_administrator_only(stack):
    path = "/api/dashboards/uid/rakuten-pipeline"
    with pytest.raises(HTTPError, match="401"):
        stack.get_json("grafana", 3000, path)
    shown = stack.get_json("grafana", 3000, path, ("admin", stack.secrets["GRAFANA_ADMIN_PASSWORD"]))
    ours = json.loads((ROOT / "docs/monitoring/dashboard.json").read_text())
    assert [panel["title"] for panel in shown["dashboard"]["panels"]] == [
        panel["title"] for panel in ours["panels"]
    ]


def test_everything_ends_with_0_within_its_grace_period(stack):
    stack.compose("stop")
    assert {name: service["ExitCode"] for name, service in stack.services().items()} == dict.fromkeys(
        RUNNING, 0
    )


def wait_for_model(stack: Stack, week: int) -> None:
    # Airflow notices only after 300 s that a task's scheduler was killed, and then tries the task again.
    stack.wait(
        lambda: stack.status().get(f"week_{week}", {}).get("training_state") == "finished", deadline_s=600
    )
