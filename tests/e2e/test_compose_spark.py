"""docker-compose.yml with the profile spark: both listeners work on a cluster of two workers, of which one may die.

`COMPOSE_PROFILES=spark make test-compose` runs it, with a Docker engine. The tests are one story and run in this order. Weeks are
loaded by `rakuten load` instead of Airflow, whose part tests/e2e/test_compose.py tests.
"""

import json
import os
import subprocess
import time
import urllib.request

import pytest
from compose import SECRETS_OF, Stack, why_not
from mlflow import MlflowClient
from repository import ROOT
from run_pages import command_blocks

from db.source.synthetic import generate
from shared.mlflow_names import CHAMPION, REGISTERED_MODEL, Param, Tag

if "TEST_COMPOSE" not in os.environ:  # noqa: TID251
    pytest.skip("run by COMPOSE_PROFILES=spark make test-compose", allow_module_level=True)

pytestmark = pytest.mark.timeout(3600)

LISTENERS = ("snapshot-listener", "training-listener")
CLUSTER = ("spark-master", "spark-worker")
ON_SPARK = (*LISTENERS, *CLUSTER)
BUILD_S = 2400
STAGE_S = 1200  # for two stages of a week, on a machine with two cores
WORKERS = 2
SPARK_CONF = ROOT / "docs/spark/spark.conf"


class SparkStack(Stack):
    """The services that a week needs on Spark, without Airflow."""

    def up(self) -> None:
        services = (*LISTENERS, "model-server", "spark-worker")  # and those on which they depend
        self.compose("up", "--detach", "--wait", "--wait-timeout", "600", *services, timeout_s=660)

    def load(self) -> None:
        login = {
            "POSTGRES_USER": "rakuten_loader",
            "POSTGRES_PASSWORD": self.secrets["RAKUTEN_LOADER_PASSWORD"],
        }
        options = [part for name, value in login.items() for part in ("--env", f"{name}={value}")]
        self.compose("run", "--rm", "--no-deps", "-T", *options, "snapshot-listener", "rakuten", "load")

    def wait_for_week(self, week: int) -> dict:
        name = f"week_{week}"
        self.wait(lambda: self.status().get(name, {}).get("training_state") == "finished", STAGE_S)
        return self.status()[name]

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "--quiet", service).split()

    def inside(self, container: str, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["docker", "exec", container, *command],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done

    def page(self, container: str, address: str) -> str:
        program = f"from urllib.request import urlopen; print(urlopen('http://{address}', timeout=20).read().decode())"
        return self.inside(container, "python", "-c", program).stdout

    def executors(self) -> list[int]:
        """The number of executors that each worker has had so far."""
        pages = [
            json.loads(self.page(container, "127.0.0.1:8081/json/"))
            for container in self.containers("spark-worker")
        ]
        return [len(page["executors"]) + len(page["finishedexecutors"]) for page in pages]

    def master(self) -> dict:
        return self.get_json("spark-master", 8080, "/json/")


@pytest.fixture(scope="module")
def commands() -> list[str]:
    """The commands of the page: copy the file with Spark's settings, turn the event log on, start the history server.

    All but `make env`: the fixture `stack` has done what it does, and it would write into the developer's own .env.
    """
    blocks = command_blocks(ROOT / "docs/how-to/spark.md")
    return [block for block in blocks if "make env" not in block]


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    if reason := why_not():
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("compose")
    generate(directory / "raw", 1200)
    conf = directory / "spark.conf"
    text = SPARK_CONF.read_text().replace("#spark.eventLog", "spark.eventLog")
    conf.write_text(f"{text}spark.eventLog.compress false\n")  # so that a test can look for secrets in it
    stack = SparkStack(directory, directory / "raw", ENGINE="spark", SPARK_CONF=conf)
    stack.compose("build", *LISTENERS, *CLUSTER, "mlflow", "db-upgrade", timeout_s=BUILD_S)
    try:
        started = time.monotonic()
        stack.up()
        print(f"\nhealthy after {time.monotonic() - started:.0f} s")
        yield stack
    finally:
        stack.down()


def test_the_workers_have_joined_the_master(stack):
    stack.wait(lambda: stack.master()["aliveworkers"] == WORKERS)
    assert stack.master()["cores"] == 2 * WORKERS


@pytest.mark.parametrize("service", ON_SPARK)
def test_nobody_is_root_and_the_image_cannot_be_changed(stack, service):
    for container in stack.containers(service):
        assert stack.inside(container, "id", "-u").stdout.strip() == "10001"
        assert stack.inside(container, "touch", "/opt/rakuten/x", check=False).returncode != 0
        [found] = json.loads(stack.docker("inspect", container))
        assert found["HostConfig"]["CapDrop"] == ["ALL"]
        assert found["HostConfig"]["ReadonlyRootfs"] is True


def test_only_loopback_is_published_and_the_workers_are_not(stack):
    services = stack.services()
    for service in services.values():
        assert {port["URL"] for port in service["Publishers"] if port["PublishedPort"]} <= {"127.0.0.1"}
    assert not any(port["PublishedPort"] for port in services["spark-worker"]["Publishers"])
    published = {
        port["TargetPort"] for port in services["spark-master"]["Publishers"] if port["PublishedPort"]
    }
    assert published == {8080}


def test_the_page_says_how_to_copy_the_settings_and_to_turn_the_event_log_on(stack, commands, tmp_path):
    copy, turn_on, _history = commands
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    stack.shell(copy, tmp_path)
    assert (tmp_path / "spark.conf").read_text() == SPARK_CONF.read_text()
    stack.shell(turn_on, tmp_path)


def test_spark_takes_week_1_from_csv_to_a_registered_model(stack):
    started = time.monotonic()
    stack.load()
    row = stack.wait_for_week(1)
    print(f"week_1 on Spark: {time.monotonic() - started:.0f} s")
    client = MlflowClient(stack.mlflow)
    dataset, model = (client.get_run(row[f"{kind}_run_id"]).data for kind in ("dataset", "model"))
    assert dataset.params[Param.ENGINE] == model.params[Param.ENGINE] == "spark"
    assert dataset.tags[Tag.DATASET_URI].startswith("/srv/rakuten/datasets/")
    assert client.get_model_version_by_alias(REGISTERED_MODEL, CHAMPION).run_id == row["model_run_id"]


def test_both_workers_have_had_a_part_of_each_job(stack):
    jobs = stack.master()["completedapps"]
    assert len(jobs) == 2
    assert all(job["state"] == "FINISHED" and job["cores"] <= 2 for job in jobs)
    assert stack.executors() == [len(jobs)] * WORKERS


def test_the_local_engine_builds_the_same_dataset_again(stack):
    said = stack.compose(
        "exec",
        "-T",
        "--env",
        "ENGINE=local",
        "snapshot-listener",
        "rakuten",
        "reproduce",
        "week_1",
        "--json",
        timeout_s=600,
        check=False,
    )
    verdicts = {verdict["step"]: verdict for verdict in json.loads(said)}
    assert verdicts["dataset"]["same"], verdicts


def test_the_model_server_answers_without_java_and_pyspark(stack):
    stack.wait(lambda: stack.predict("Piscine gonflable")["model"]["batch"] == "week_1")
    [server] = stack.containers("model-server")
    assert stack.inside(server, "sh", "-c", "command -v java", check=False).returncode != 0
    assert stack.inside(server, "python", "-c", "import pyspark", check=False).returncode != 0


def test_a_killed_worker_costs_time_and_no_week(stack):
    stack.load()
    stack.wait(lambda: stack.master()["activeapps"] and max(stack.executors()) > 2)
    stack.docker("kill", stack.containers("spark-worker")[0])
    row = stack.wait_for_week(2)
    assert row["snapshot_state"] == "finished"
    stack.up()
    stack.wait(lambda: stack.master()["aliveworkers"] == WORKERS)


def test_a_job_without_the_secret_does_not_run(stack):
    program = """
from pathlib import Path
from listeners.spark.session import spark_session
from shared.config import read_settings
lines = Path("/tmp/spark.conf").read_text().splitlines()
path = Path("/tmp/wrong.conf")
path.write_text("\\n".join("spark.authenticate.secret wrong" if "secret" in line else line for line in lines if line[:1] != "#"))
with spark_session(read_settings(spark_conf=path), "an attacker") as spark:
    print("it runs", spark.range(10).count())
"""
    [listener] = stack.containers("snapshot-listener")
    done = stack.inside(listener, "python", "-c", program, check=False)
    assert "it runs" not in done.stdout
    assert "OutageError: Apache Spark does not start" in done.stderr
    assert "an attacker" not in {job["name"] for job in stack.master()["completedapps"]}


def test_the_history_server_shows_the_jobs_of_both_weeks(stack, commands, tmp_path):
    *_, start = commands
    stack.shell(start, tmp_path)

    def names():
        with urllib.request.urlopen("http://127.0.0.1:18080/api/v1/applications", timeout=10) as answer:
            return {job["name"] for job in json.load(answer)}

    jobs = {f"train_week_{week} ({stage})" for week in (1, 2) for stage in ("snapshot", "training")}
    try:
        stack.wait(lambda: jobs <= names())
    finally:
        stack.docker("stop", "spark-history")


def test_the_secrets_are_in_no_arguments_no_log_and_on_none_of_sparks_pages(stack):
    texts = ["\n".join(stack.lines()), stack.page(stack.containers("spark-master")[0], "127.0.0.1:8080/")]
    processes = "cat /proc/[0-9]*/cmdline 2>/dev/null; true"
    for service in ON_SPARK:
        texts += [stack.inside(each, "sh", "-c", processes).stdout for each in stack.containers(service)]
    for container in stack.containers("spark-worker"):
        texts.append(stack.page(container, "127.0.0.1:8081/"))
        logs = "find /srv/rakuten/scratch -name 'std*' -exec cat {} +"
        texts.append(stack.inside(container, "sh", "-c", f"echo logs; {logs}").stdout)
    [listener] = stack.containers("snapshot-listener")
    events = stack.inside(listener, "sh", "-c", "cat /srv/rakuten/state/spark-events/*/*").stdout
    for text in (*texts, events):
        assert text.strip()
        assert not [name for name, value in stack.secrets.items() if value in text]


@pytest.mark.parametrize("service", ON_SPARK)
def test_each_service_has_its_own_secrets_and_no_others(stack, service):
    text = "\n".join(stack.environment_of(service).values())
    assert {name for name, value in stack.secrets.items() if value in text} == SECRETS_OF[service]


def test_no_secret_is_in_the_image(stack):
    image = "rakuten-listener-spark:test"
    history = stack.docker("history", "--no-trunc", image) + stack.docker("inspect", image)
    assert not [name for name, value in stack.secrets.items() if value in history]


def test_the_cluster_ends_within_its_grace_period(stack):
    stack.compose("stop")
    codes = {service: stack.services()[service]["ExitCode"] for service in ON_SPARK}
    java = 128 + 15  # Java ends so after SIGTERM, and it has not been killed (128 + 9)
    assert codes == dict.fromkeys(LISTENERS, 0) | dict.fromkeys(CLUSTER, java)
