"""The panels about the data, the models, the storage and the model server. panels.py says what a panel is."""

from collections.abc import Mapping
from typing import Final

from panels import HEALTH, LATENCY, LOADING, Panel, quantiles

from shared.categories import CATEGORIES

_DAY: Final = 86_400
_OUTSIDE_OF_TABLES: Final = 'kind!~"current|history|batches"'  # the tables are part of the database
_GROWTH: Final = f"sum(max by (kind, object) (rakuten_storage_bytes_per_week{{{_OUTSIDE_OF_TABLES}}}))"
_SHARE: Final = "max by (prdtypecode) (rakuten_class_share)"
_CLASS_NAMES: Final = {str(code): f"{code} {category.name}" for code, category in CATEGORIES.items()}
_TREND: Final = "min by (stage) (predict_linear(rakuten_disk_free_bytes[7d], {seconds}))"

CLASSES: Final = (
    Panel(
        "How large is each class?",
        "The share of each class in the products of the last dataset, before it is balanced.",
        {"{{prdtypecode}}": _SHARE},
        unit="percentunit",
        kind="area",
        names=_CLASS_NAMES,
        width=16,
    ),
    Panel(
        "Which classes have changed most in four weeks?",
        "The five largest changes of a share, in percentage points.",
        {"{{prdtypecode}}": f"topk(5, abs({_SHARE} - max by (prdtypecode) (rakuten_class_share offset 4w)))"},
        unit="percentunit",
        kind="stat",
        limits=((0.02, "orange"), (0.05, "red")),
        names=_CLASS_NAMES,
        empty="until Prometheus has run for four weeks",
    ),
)
MODELS: Final = (
    Panel(
        "How good are the models?",
        "Weighted F1 on the holdout, of the last model and of the champion, with its 95 % interval.",
        {"{{which}} {{bound}}": "max by (which, bound) (rakuten_model_f1)"},
        unit="none",
        width=12,
    ),
    Panel(
        "Which version is the champion?",
        "The version in MLflow, and the batch that it was trained from.",
        {"{{batch}}": "max by (batch) (rakuten_champion_version)"},
        unit="none",
        kind="stat",
        base="blue",
        width=6,
    ),
    Panel(
        "How many of the last three models are worse?",
        "Models whose whole 95 % interval of F1 is below the champion's F1.",
        {"worse": "max(rakuten_models_worse_than_champion)"},
        kind="stat",
        limits=((1, "orange"), (3, "red")),
        width=6,
    ),
)
DRIFT: Final = (
    Panel(
        "What has drifted?",
        "Features of the last week that differ from week 1 (first) or from the week before by more than chance.",
        {"{{feature}}, against {{reference}}": "max by (feature, reference) (rakuten_drifted)"},
        kind="states",
        limits=((1, "orange"),),
        names={"0": "like before", "1": "drifted"},
        width=24,
        empty="until a batch has another one to compare with",
    ),
)
STORAGE: Final = (
    Panel(
        "How much space does each kind take?",
        "The database, the files in MLflow and the local copies as recorded, and the write-ahead log.",
        {"{{kind}} {{object}}": f"max by (kind, object) (rakuten_storage_bytes{{{_OUTSIDE_OF_TABLES}}})"},
        unit="bytes",
        kind="area",
    ),
    Panel(
        "How large are the tables?",
        "Each table with its indexes. The database includes them.",
        {"{{object}}": 'max by (object) (rakuten_storage_bytes{kind=~"current|history|batches"})'},
        unit="bytes",
        kind="area",
    ),
    Panel(
        "How fast does each kind grow a week?",
        "An estimate: the mean of the last four weeks, of the view storage_growth.",
        {
            "{{kind}} {{object}}": f"max by (kind, object) (rakuten_storage_bytes_per_week{{{_OUTSIDE_OF_TABLES}}})"
        },
        unit="bytes",
        empty="until two weeks are loaded",
    ),
    Panel(
        "For how many days is the disk large enough?",
        "The free bytes of the disk of STATE_PATH, divided by the growth a week. It assumes one load a week, "
        "and that everything lies on this disk.",
        {"days left": f"min(rakuten_disk_free_bytes) / {_GROWTH} * 7"},
        unit="d",
        kind="stat",
        base="red",
        limits=((14, "orange"), (56, "green")),
        width=6,
        empty="until two weeks are loaded",
    ),
    Panel(
        "How much of the disk is used?",
        "The disk of STATE_PATH, as each listener sees it.",
        {
            "{{stage}}": "1 - min by (stage) (rakuten_disk_free_bytes) / min by (stage) (rakuten_disk_size_bytes)"
        },
        unit="percentunit",
        kind="stat",
        limits=((0.8, "orange"), (0.9, "red")),
        width=6,
    ),
    Panel(
        "When will the disk be full?",
        "The free bytes now, and in 14 days if the trend of the last seven days goes on. Other programs count, too.",
        {
            "free, {{stage}}": "min by (stage) (rakuten_disk_free_bytes)",
            "free in 14 days, {{stage}}": _TREND.format(seconds=14 * _DAY),
        },
        unit="bytes",
        width=12,
    ),
)
SERVER: Final = (
    Panel(
        "How many requests are answered?",
        "Requests a second, by the code of the answer and the version of the model.",
        {
            "{{code}}, version {{version}}": "sum by (code, version) (rate(rakuten_server_requests_total[$__rate_interval]))"
        },
        unit="reqps",
    ),
    Panel(
        "How fast are the answers?",
        "From the headers of a request to the end of its answer.",
        quantiles("sum by (le) (rate(rakuten_server_request_seconds_bucket[$__rate_interval]))"),
        unit="s",
        empty="while nobody sends a request",
    ),
    Panel(
        "How sure is the model?",
        "The probability of the class that the model predicts: the middle of its predictions, and the least sure 5 %.",
        {
            "median": "histogram_quantile(0.5, sum by (le) (rate(rakuten_server_confidence_bucket[$__rate_interval])))",
            "5 % are less sure": "histogram_quantile(0.05, sum by (le) (rate(rakuten_server_confidence_bucket[$__rate_interval])))",
        },
        unit="percentunit",
        empty="while nobody sends a request",
    ),
    Panel(
        "Products that wait for a prediction",
        "The queue of each model server.",
        {"{{instance}}": "max by (instance) (rakuten_server_waiting_products)"},
        width=6,
    ),
    Panel(
        "Which version is served?",
        "How many servers answer with each version of the model.",
        {"version {{version}}, {{batch}}": "count by (version, batch) (rakuten_server_model)"},
        kind="stat",
        base="blue",
        width=6,
    ),
    Panel(
        "Model servers",
        "How many are connected to PostgreSQL.",
        {"connected": "max(rakuten_model_servers)"},
        kind="stat",
        base="blue",
        width=6,
    ),
    Panel(
        "Servers that refuse the champion",
        "Such a server keeps the version that it has. `rakuten doctor` says why.",
        {"refuse it": "max(rakuten_model_servers_refusing)"},
        kind="stat",
        limits=((1, "red"),),
        width=6,
    ),
)
VERIFICATION: Final = (
    Panel(
        "Time since the last verification",
        "When `rakuten verify` last compared everything with the hash chain.",
        {"since the last verification": "time() - max(rakuten_verification_timestamp_seconds)"},
        unit="s",
        kind="stat",
        limits=((7 * _DAY, "red"),),
        width=12,
        empty="until rakuten verify has run",
    ),
    Panel(
        "Problems that the last verification found",
        "Any number but 0 means that something was changed after it was recorded.",
        {"problems": "max(rakuten_verification_problems)"},
        kind="stat",
        limits=((1, "red"),),
        width=12,
        empty="until rakuten verify has run",
    ),
)
ROWS: Final[Mapping[str, tuple[Panel, ...]]] = {
    "Is it healthy?": HEALTH,
    "Loading progress": LOADING,
    "Latency": LATENCY,
    "Class shares": CLASSES,
    "Models": MODELS,
    "Drift": DRIFT,
    "Storage": STORAGE,
    "Model server": SERVER,
    "Verification": VERIFICATION,
}
