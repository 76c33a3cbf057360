"""The panels of the Grafana dashboard: what each one asks, how it is drawn, and from which values on it warns.

make_dashboard.py writes the dashboard from this list. Both listeners export the same numbers of the pipeline, so a query takes the
maximum of the two: then it has an answer while one of them lives.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Limits = tuple[tuple[float, str], ...]

_DAY: Final = 86_400


@dataclass(frozen=True)
class Panel:
    """A panel of the dashboard.

    Attributes:
        title: a question, or what is shown.
        description: what the values mean, for the reader who points at the panel.
        queries: each query in PromQL, by its legend.
        unit: Grafana's name of the unit.
        kind: stat shows the last values, graph and area their course, states a course of yes and no.
        limits: (value, colour) from the lowest value on; below the first value the colour is `base`.
        base: the colour of the lowest values.
        width: columns, of 24.
        empty: when the panel shows nothing, if that is no fault.
        names: what is shown for a value (states), or for a legend (all other kinds).
    """

    title: str
    description: str
    queries: Mapping[str, str]
    unit: str = "short"
    kind: Literal["stat", "graph", "area", "states"] = "graph"
    limits: Limits = ()
    base: str = "green"
    width: int = 8
    empty: str = ""
    names: Mapping[str, str] = field(default_factory=dict)


def quantiles(buckets: str) -> dict[str, str]:
    """Return the queries for the median and the 95th percentile of a histogram, whose buckets `buckets` selects."""
    return {
        "half of them are faster (p50)": f"histogram_quantile(0.5, {buckets})",
        "95 % are faster (p95)": f"histogram_quantile(0.95, {buckets})",
    }


def _latency(title: str, name: str, description: str) -> Panel:
    buckets = f"max by (le) ({name}_bucket)"
    return Panel(title, f"{description} Over all batches.", quantiles(buckets), unit="s")


HEALTH: Final = (
    Panel(
        "How long does the oldest batch wait?",
        "The age of the oldest batch that a stage has not finished. This number shows most faults: look here first.",
        {"{{stage}}": "max by (stage) (rakuten_oldest_waiting_seconds)"},
        unit="s",
        kind="stat",
        limits=((900, "orange"), (1800, "red")),
        width=6,
    ),
    Panel(
        "Listeners that are connected",
        "Each stage needs at least one.",
        {"{{stage}}": "max by (stage) (rakuten_listeners)"},
        kind="stat",
        base="red",
        limits=((1, "green"),),
        width=6,
    ),
    Panel(
        "Batches that were given up",
        "A stage gives a batch up after MAX_ATTEMPTS failures. It waits for `rakuten retry`.",
        {"{{stage}}": 'max by (stage) (rakuten_batches{state="failed"})'},
        kind="stat",
        limits=((1, "red"),),
        width=6,
    ),
    Panel(
        "How long does the outage last?",
        "The time since MLflow, PostgreSQL or the disk became unavailable for a stage. 0: there is no outage.",
        {"{{stage}}": "max by (stage) (rakuten_outage_seconds)"},
        unit="s",
        kind="stat",
        limits=((60, "orange"), (900, "red")),
        width=6,
    ),
    Panel(
        "Which alerts fire?",
        "The alerts of docs/monitoring/alerts.yml. Their runbooks are in docs/how-to/monitoring.md.",
        {
            "{{alertname}} {{stage}}": 'max by (alertname, stage) (ALERTS{alertname=~"Rakuten.*", alertstate="firing"})'
        },
        kind="states",
        base="transparent",
        limits=((1, "red"),),
        names={"1": "fires"},
        width=12,
        empty="while no alert fires",
    ),
    Panel(
        "Which processes answer Prometheus?",
        "Whether Prometheus could read the page /metrics of each listener and model server.",
        {"{{job}} {{instance}}": 'up{job=~"rakuten-.*"}'},
        kind="states",
        base="red",
        limits=((1, "green"),),
        names={"0": "no answer", "1": "answers"},
        width=12,
    ),
    Panel(
        "How long is each listener silent?",
        "The time since the last ping of the listener's connection, as PostgreSQL sees it.",
        {"{{stage}}": "max by (stage) (rakuten_listener_silent_seconds)"},
        unit="s",
        limits=((30, "red"),),
    ),
    Panel(
        "Does the work make progress?",
        "The time since the last sign of life of the process that works on a batch. 0: no batch is worked on.",
        {"{{stage}}": "max by (stage) (rakuten_child_progress_age_seconds)"},
        unit="s",
        limits=((60, "red"),),
    ),
    Panel(
        "Attempts, failures and outages",
        "Sums over all batches, from the ledger in PostgreSQL. They survive a restart.",
        {
            "{{stage}} attempts": "max by (stage) (rakuten_attempts)",
            "{{stage}} failures": "max by (stage) (rakuten_failures)",
            "{{stage}} outages": "max by (stage) (rakuten_outages)",
        },
    ),
    Panel(
        "Lost connections and lost claims",
        "How often a listener had to connect again, and how often it lost the claim on its batch, since it started.",
        {
            "{{stage}} reconnects": "max by (stage) (rakuten_listener_reconnects_total)",
            "{{stage}} lost claims": "max by (stage) (rakuten_fenced_total)",
        },
    ),
    Panel(
        "Does PostgreSQL answer?",
        "Whether PostgreSQL answered when Prometheus asked the listener for the numbers of the pipeline.",
        {"{{stage}}": "max by (stage) (rakuten_database_up)"},
        kind="states",
        base="red",
        limits=((1, "green"),),
        names={"0": "no answer", "1": "answers"},
    ),
    Panel(
        "How full is the queue of notifications?",
        "The used share of PostgreSQL's queue. It fills if a session listens and never ends its transaction.",
        {"used": "max(rakuten_notification_queue_ratio)"},
        unit="percentunit",
        limits=((0.25, "orange"), (0.5, "red")),
    ),
)
LOADING: Final = (
    Panel(
        "How much is loaded?",
        "The loaded rows of the training file, of those that MAX_PERCENTAGE allows.",
        {"loaded": "max(rakuten_rows) / max(rakuten_target_rows)"},
        unit="percentunit",
        kind="stat",
        base="blue",
        width=6,
    ),
    Panel(
        "Time since the last load",
        "A week loads every seven days, until all rows are loaded.",
        {"since the last load": "time() - max(rakuten_last_load_timestamp_seconds)"},
        unit="s",
        kind="stat",
        limits=((7.5 * _DAY, "orange"), (8 * _DAY, "red")),
        width=6,
    ),
    Panel(
        "Rows",
        "The loaded rows of the training file, and how many will be loaded in the end.",
        {"loaded": "max(rakuten_rows)", "in the end": "max(rakuten_target_rows)"},
        width=6,
    ),
    Panel(
        "Batches by state",
        "A batch is a week or a correction. Each has a dataset (snapshot) and a model (training).",
        {"{{stage}} {{state}}": "max by (stage, state) (rakuten_batches)"},
        width=6,
    ),
)
LATENCY: Final = (
    _latency(
        "How fast does the listener wake?",
        "rakuten_commit_to_wake_seconds",
        "From the commit of a load to the wake-up of the snapshot listener.",
    ),
    _latency(
        "How fast is the dataset ready?",
        "rakuten_commit_to_dataset_seconds",
        "From the commit of a load to the dataset in MLflow.",
    ),
    _latency(
        "How fast is the model ready?",
        "rakuten_commit_to_model_seconds",
        "From the commit of a load to the registered model.",
    ),
)
