"""Each alert can be understood and acted on: it has a section in the runbook, and reads only metrics that are exported."""

import re
import subprocess

import prometheus
import pytest
import yaml
from programs import path_of
from repository import ROOT

from listeners.monitoring import facts
from listeners.monitoring.exporter import COUNTERS, GAUGES
from listeners.serving.metrics import Metrics

RULES = prometheus.rules()
PAGE = ROOT / "docs/how-to/monitoring.md"


def exported() -> set[str]:
    """The name of each sample that a listener or a model server can answer."""
    families = Metrics(lambda: None, lambda: None, lambda: 0)._registry.collect()
    of_server = {family.name for family in families}
    plain = {*facts.GAUGES, *GAUGES, *of_server}
    histograms = {
        f"{name}_{part}" for name in (*facts.HISTOGRAMS, *of_server) for part in ("bucket", "count", "sum")
    }
    return plain | histograms | {f"{name}_total" for name in (*COUNTERS, *of_server)}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_reads_only_exported_metrics_and_says_what_to_do(rule):
    assert prometheus.metric_names(rule["expr"]) <= exported()
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["for"]
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    page, anchor = rule["annotations"]["runbook_url"].split("#")
    assert ROOT / page == PAGE
    assert anchor == rule["alert"].lower()


def test_the_runbook_has_a_section_for_each_alert_and_no_other():
    runbook = PAGE.read_text(encoding="utf-8").split("## What to do at an alert\n")[1]
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", runbook, re.MULTILINE | re.DOTALL))
    assert list(sections) == [rule["alert"] for rule in RULES]
    for text in sections.values():
        assert "- **Look**: " in text
        assert "- **Do**: " in text


def test_the_page_names_only_exported_metrics():
    families = {re.sub(r"_(bucket|count|sum|total)$", "", name) for name in exported()} | exported()
    assert prometheus.metric_names(PAGE.read_text(encoding="utf-8")) <= families


def test_each_alert_has_a_test_of_its_rule():
    tests = yaml.safe_load((prometheus.MONITORING / "alerts_test.yml").read_text(encoding="utf-8"))["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == {rule["alert"] for rule in RULES}


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "alerts.yml"),
        (
            "check",
            "config",
            "--syntax-only",
            "prometheus.yml",
        ),  # a checkout has no file with the server's token
        ("test", "rules", "alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_finds_no_problem(arguments):
    command = [path_of("promtool"), *arguments]
    checked = subprocess.run(command, cwd=prometheus.MONITORING, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
