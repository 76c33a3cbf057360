"""The cluster of docker-compose.yml, read as a file: it has one image with the listeners, one store, and a secret that nobody sees."""

import stat
import subprocess

import pytest
import yaml
from repository import ROOT

from listeners.spark.session import read_properties

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
LISTENERS = ("snapshot-listener", "training-listener")
CLUSTER = ("spark-master", "spark-worker")
CONF = ROOT / "docs/spark/spark.conf"


def mounted(name: str) -> dict[str, str]:
    """The folders and files of a service, by the path at which it sees them."""
    volumes = SERVICES[name]["volumes"]
    pairs = (
        each.split(":")[:2] if isinstance(each, str) else (each["source"], each["target"]) for each in volumes
    )
    return {target: source for source, target in pairs}


def test_the_driver_and_the_workers_have_one_image():
    names = {SERVICES[name]["image"] for name in LISTENERS}
    targets = {SERVICES[name]["build"]["target"] for name in LISTENERS}
    assert names == {"rakuten-listener${ENGINE:+-$ENGINE}:${TAG:-latest}"}
    assert targets == {"listener${ENGINE:+-$ENGINE}"}
    for name in CLUSTER:
        assert SERVICES[name]["image"] == "rakuten-listener-spark:${TAG:-latest}"
        assert SERVICES[name]["build"]["target"] == "listener-spark"
    stages = (ROOT / "listeners/Dockerfile").read_text()
    assert all(f" AS {target}\n" in stages for target in ("listener", "listener-local", "listener-spark"))


def test_listeners_and_workers_reach_the_datasets_at_one_path():
    for name in (*LISTENERS, "spark-worker"):
        assert mounted(name)["/srv/rakuten/datasets"] == "datasets"
    for name in LISTENERS:
        assert SERVICES[name]["environment"]["DATASET_STORE"] == "${DATASET_STORE:-/srv/rakuten/datasets}"


def test_the_cluster_uses_the_settings_of_one_file():
    for name in (*LISTENERS, *CLUSTER):
        assert mounted(name)["/etc/rakuten/spark.conf"] == "${SPARK_CONF:-./docs/spark/spark.conf}"
    assert {SERVICES[name]["environment"]["SPARK_CONF"] for name in LISTENERS} == {"/tmp/spark.conf"}  # noqa: S108


def test_nobody_uses_the_cluster_without_its_secret():
    settings = read_properties(CONF)
    assert settings["spark.authenticate"] == settings["spark.network.crypto.enabled"] == "true"
    assert settings["spark.master.rest.enabled"] == settings["spark.ui.killEnabled"] == "false"
    assert "spark.authenticate.secret" not in settings


def test_the_jobs_of_two_listeners_fit_into_the_cluster_at_the_same_time():
    settings = read_properties(CONF)
    workers, cores = 2, 2
    assert SERVICES["spark-worker"]["deploy"] == {"replicas": f"${{SPARK_WORKERS:-{workers}}}"}
    assert (
        SERVICES["spark-worker"]["environment"]["SPARK_WORKER_CORES"] == f"${{SPARK_WORKER_CORES:-{cores}}}"
    )
    assert 2 * int(settings["spark.cores.max"]) <= workers * cores
    # a worker has a core of each of the two jobs, and so one executor of each
    assert SERVICES["spark-worker"]["environment"]["SPARK_WORKER_MEMORY"] == "${SPARK_WORKER_MEMORY:-2g}"
    assert settings["spark.executor.memory"] == "1g"


@pytest.mark.parametrize("name", [*LISTENERS, *CLUSTER])
def test_the_secret_is_in_a_file_that_only_its_container_can_read(name, tmp_path):
    """The start of the service, with other folders, and with `env` as the program that it starts."""
    shell, option, script, zeroth = SERVICES[name]["entrypoint"]
    script = script.replace("$$", "$").replace("/etc/rakuten/spark.conf", str(CONF))
    script = script.replace("/tmp/", f"{tmp_path}/")  # noqa: S108  the container's
    done = subprocess.run(
        [shell, option, script, zeroth, "env"],
        env={"PATH": "/usr/bin:/bin", "SPARK_SECRET": "a%s secret"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert "a%s secret" not in done.stdout
    written = tmp_path / "spark.conf"
    assert read_properties(written) == read_properties(CONF) | {"spark.authenticate.secret": "a%s secret"}
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
