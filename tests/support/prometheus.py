"""A real Prometheus (the Debian package, or none) with our configuration and alerts, whose durations are scaled down."""

import json
import re
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml
from programs import path_of
from repository import ROOT
from waiting import eventually

MONITORING = ROOT / "docs/monitoring"
# What a test cannot wait for, in the expressions of alerts.yml, and what it waits for instead. `for` becomes a second.
SCALED = {
    "> 1800": "> 3",  # a batch that waits
    "> 30": "> 4",  # a listener that is silent
    "> 8 * 86400": "> 15",  # no load
    "> 7 * 86400": "> 15",  # no verification
    "[1h]": "[8s]",  # errors of the model server
    "[5m]": "[4s]",
}
INTERVAL = "500ms"


def rules() -> list[dict]:
    """The alerts as alerts.yml has them."""
    [group] = yaml.safe_load((MONITORING / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return group["rules"]


def _scaled(rule: dict, unused: set[str]) -> dict:
    expression = rule["expr"]
    for old, new in SCALED.items():
        if old in expression:
            unused.discard(old)
            expression = expression.replace(old, new)
    return rule | {"expr": expression, "for": "1s"}


class Prometheus:
    """Reads the listeners and servers at these addresses. Use as a context manager.

    Args:
        directory: for its configuration and data.
        listeners: host and port of each listener.
        servers: host and port of each model server.
        token: what the model servers ask for.
    """

    def __init__(self, directory: Path, listeners: list[str], servers: list[str], token: str):
        directory.mkdir(parents=True)
        unused = set(SCALED)
        scaled = [_scaled(rule, unused) for rule in rules()]
        assert not unused, "alerts.yml has other durations now"
        (directory / "alerts.yml").write_text(
            yaml.safe_dump({"groups": [{"name": "rakuten", "rules": scaled}]})
        )
        (directory / "model_server_token").write_text(token)
        config = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))
        config["global"] = {
            "scrape_interval": INTERVAL,
            "scrape_timeout": INTERVAL,
            "evaluation_interval": INTERVAL,
        }
        del config["alerting"]
        for job, targets in zip(config["scrape_configs"], (listeners, servers), strict=True):
            job["static_configs"] = [{"targets": targets}]
        self._config, self._data = directory / "prometheus.yml", directory / "data"
        self._config.write_text(yaml.safe_dump(config))
        self._log = directory / "prometheus.log"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._address = f"127.0.0.1:{free.getsockname()[1]}"

    def __enter__(self):
        subprocess.run(
            [path_of("promtool"), "check", "config", self._config], check=True, capture_output=True
        )
        command = [
            path_of("prometheus"),
            f"--config.file={self._config}",
            f"--storage.tsdb.path={self._data}",
            f"--web.listen-address={self._address}",
        ]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        eventually(self._is_ready, report=self._log.read_text)
        return self

    def __exit__(self, *_error):
        self._process.terminate()
        self._process.wait(30)

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        return {alert["labels"]["alertname"] for alert in self.alerts() if alert["state"] == "firing"}

    def alerts(self) -> list[dict]:
        return self._ask("alerts")["alerts"]

    def query(self, expression: str) -> list[dict]:
        return self._ask("query", query=expression)["result"]

    def _ask(self, what: str, **parameters: str) -> dict:
        with urlopen(f"http://{self._address}/api/v1/{what}?{urlencode(parameters)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def _is_ready(self):
        with suppress(OSError), urlopen(f"http://{self._address}/-/ready", timeout=5) as answer:
            return answer.status == 200


def metric_names(expression: str) -> set[str]:
    """The metrics that an expression of PromQL reads."""
    return set(re.findall(r"\brakuten_\w+", expression))
