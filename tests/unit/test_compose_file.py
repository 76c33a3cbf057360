"""docker-compose.yml, read as a file: each service is hardened, gets only its own secrets, and is published on loopback only."""

import json
import re
import stat
import subprocess

import pytest
import yaml
from compose import PROFILES, PUBLISHED, SECRETS_OF
from programs import path_of
from repository import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
ONE_SHOT = {"db-upgrade", "airflow-init"}
each_service = pytest.mark.parametrize("name", SERVICES)


def test_the_table_of_secrets_has_every_service():
    assert set(SECRETS_OF) == set(SERVICES)


@each_service
def test_a_service_is_hardened(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "tmpfs", "logging"} <= set(service)
    assert not {"privileged", "cap_add", "network_mode", "pid", "devices"} & set(service)


@each_service
def test_a_service_gets_its_own_secrets_and_no_others(name):
    assert set(re.findall(r"\$\{([A-Z_]+):\?", json.dumps(SERVICES[name]))) == SECRETS_OF[name]


@each_service
def test_a_service_is_published_on_the_address_of_the_settings_only(name):
    # Spark's pages ask for no password
    address = r"127\.0\.0\.1" if name in PROFILES["spark"] else r"\$\{PUBLISHED_ADDRESS:-127\.0\.0\.1\}"
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(rf"{address}:\$\{{[A-Z]+_PUBLISHED_PORT:-\d+\}}:\d+", port)


def test_each_published_port_has_a_setting_of_its_own():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert sorted(re.findall(r"([A-Z]+)_PUBLISHED_PORT", " ".join(ports))) == sorted(PUBLISHED)


@each_service
def test_a_service_that_runs_on_is_checked_and_started_again(name):
    service = SERVICES[name]
    assert ("healthcheck" in service) is (name not in ONE_SHOT)
    assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped")


@each_service
def test_an_image_that_is_not_built_here_has_a_version(name):
    image = SERVICES[name]["image"]
    assert "build" in SERVICES[name] or re.search(r":v?\d+[\d.]*(-\w+)?$", image)


@each_service
def test_the_files_that_a_service_reads_exist_and_cannot_be_changed(name):
    for volume in SERVICES[name].get("volumes", []):
        if isinstance(volume, str) and volume.startswith("./"):
            source, _target, mode = volume.split(":")
            assert (ROOT / source).exists()
            assert mode == "ro"


def test_the_services_of_a_profile_run_only_if_somebody_asks_for_them():
    profiles = {name: service.get("profiles") for name, service in SERVICES.items()}
    for profile, services in PROFILES.items():
        assert {name for name, asked in profiles.items() if asked == [profile]} == services
    assert {name for name, asked in profiles.items() if asked} == set().union(*PROFILES.values())


def test_prometheus_reads_the_services_of_the_compose_file_at_their_ports():
    jobs = yaml.safe_load((ROOT / "docs/monitoring/prometheus.yml").read_text())["scrape_configs"]
    targets = {target for job in jobs for group in job["static_configs"] for target in group["targets"]}
    listeners = {
        name for name, service in SERVICES.items() if "METRICS_PORT" in service.get("environment", {})
    }
    assert listeners == {"snapshot-listener", "training-listener"}
    ports = {SERVICES[name]["environment"]["METRICS_PORT"] for name in listeners}
    assert targets == {f"{name}:{port}" for name in listeners for port in ports} | {"model-server:8000"}
    assert not any("ports" in SERVICES[name] for name in listeners)


def test_grafana_asks_for_a_password_that_make_env_makes():
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_SECURITY_ADMIN_PASSWORD"] == "${GRAFANA_ADMIN_PASSWORD:?run make env}"  # noqa: S105
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == environment["GF_USERS_ALLOW_SIGN_UP"] == "false"


def test_grafana_finds_the_dashboard_and_prometheus_where_they_are():
    folder = ROOT / "docs/monitoring/grafana"
    [source] = yaml.safe_load((folder / "datasource.yml").read_text())["datasources"]
    [provider] = yaml.safe_load((folder / "dashboards.yml").read_text())["providers"]
    target = f"{provider['options']['path']}/dashboard.json"
    assert source["url"] == "http://prometheus:9090"
    assert SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == target
    assert f"./docs/monitoring/dashboard.json:{target}:ro" in SERVICES["grafana"]["volumes"]


def test_the_token_of_the_model_server_is_in_a_file_that_only_prometheus_can_read(tmp_path):
    """The start of the service, with other folders, and with `promtool check config` instead of Prometheus itself."""
    shell, option, script = SERVICES["prometheus"]["entrypoint"]
    assert (shell, option) == ("sh", "-c")
    script = script.replace("$$", "$").replace("/etc/rakuten/", f"{ROOT}/docs/monitoring/")
    script = script.replace("/tmp/", f"{tmp_path}/")  # noqa: S108  the container's
    before, _exec, _command = script.partition("exec prometheus")
    environment = {"PATH": "/usr/bin:/bin", "MODEL_SERVER_TOKEN": "a%s token"}
    subprocess.run([shell, "-ec", before], env=environment, check=True)
    token = tmp_path / "model_server_token"
    assert token.read_text() == "a%s token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    done = subprocess.run(
        [path_of("promtool"), "check", "config", tmp_path / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_alertmanager_tells_nobody_until_somebody_adds_the_receiver_that_its_file_shows(tmp_path):
    text = (ROOT / "docs/monitoring/alertmanager.yml").read_text()
    assert yaml.safe_load(text)["receivers"] == [{"name": "nobody"}]
    receiver = "".join(f"{line[2:]}\n" for line in text.splitlines() if line.startswith("#   "))
    with_receiver = (text + receiver).replace("receiver: nobody", "receiver: team")
    assert [each["name"] for each in yaml.safe_load(with_receiver)["receivers"]] == ["nobody", "team"]
    amtool = path_of("amtool")
    for number, config in enumerate((text, with_receiver)):
        path = tmp_path / f"{number}.yml"
        path.write_text(config)
        done = subprocess.run([amtool, "check-config", path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
