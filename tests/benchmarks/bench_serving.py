"""The model server beside `mlflow models serve` of the same model, and what an exchange of the model takes.

Two weeks are loaded, and both stages train a model on each, so that two versions exist. `rakuten serve` follows the champion in a real
PostgreSQL and a real MLflow; MLflow's server has the champion's files. Both run on the same two cores, and answer in turns. MLflow
returns a class for each product; ours returns three classes with their probabilities.
"""

import itertools
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path

import mlflow.artifacts
import mlflow.sklearn
import numpy as np
import pandas as pd
from bench_ground import Ground, finish_load, prepared_ground
from bench_measure import MEBIBYTE, ChildRun, Report, Task, alternate, in_child
from bench_serving_client import Answer, Product, prepare_client
from bench_serving_servers import Server, champion_server, mlflow_server
from bench_serving_swaps import Swap, measure_swaps, model_mb
from stage_work import work_on

from db.connect import connect
from db.database import Database, Role, prepare_embedded
from db.embedded import EmbeddedPostgres
from db.load import steps
from listeners.tracking import registry
from listeners.tracking.runs import Tracking
from listeners.training.text import TEXT_COLUMNS
from shared.logs import configure_logs
from shared.mlflow_names import Tag

STAGE = "serving"
ROUNDS = 5
CLIENTS = 32
MANY = 1_000  # products in one request
MOVES = 10
_REQUESTS = {"ours": 400, "MLflow": 100}  # of one client in a round
_CONCURRENT_REQUESTS = {"ours": 3_200, "MLflow": 320}  # of all clients in a round; both take seconds
_FIRST_WEEK = Decimal(97)  # of the rows; the second week brings the rest


@dataclass(frozen=True)
class Site:
    """A database with two versions of the model, the champion's files, and products that no model has seen."""

    database: Database
    model: Path
    products: list[Product]
    idle_bytes: int  # what our server holds before there is a champion


def run(rows: int) -> Report:
    """Measure all with models that are trained on that many rows."""
    report = Report()
    configure_logs("auto", "WARNING")
    with (
        prepared_ground(rows, initial_percentage=_FIRST_WEEK) as ground,
        _site(ground) as site,
        champion_server(site.database) as ours,
    ):
        megabytes = sum(path.stat().st_size for path in site.model.rglob("*")) / MEBIBYTE
        report.add(STAGE, f"files of the model of {rows:,} rows", megabytes, "MB")
        with mlflow_server(site.database, site.model) as theirs:
            servers = {"ours": ours, "MLflow": theirs}
            _measure_one_client(report, servers, site.products)
            _measure_many_clients(report, servers, site.products)
        _measure_many_products(report, ours, site)
        _measure_swaps(report, ours, site)
    return report


@contextmanager
def _site(ground: Ground) -> Iterator[Site]:
    bindir = ground.settings.pg_bindir
    with EmbeddedPostgres(ground.directory / "postgres", bindir=bindir, durable=False) as server:
        database = Database(ground.settings, server)
        prepare_embedded(database.settings, server)
        Tracking(database.settings)  # makes the tables of MLflow
        with champion_server(database, path="/healthz") as idle:
            idle_bytes = idle.rss_bytes()
        for _ in range(2):
            work_on(database, database.settings, _load_week(ground, database))
        tracking = Tracking(database.settings)
        champion = registry.champion(tracking)
        assert champion is not None
        uri = tracking.run(champion.run_id).data.tags[Tag.MODEL_URI]
        model = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(ground.directory / "model")))
        holdout = ground.training_set.holdout().select(list(TEXT_COLUMNS)).to_pylist()
        products = list(itertools.islice(itertools.cycle(holdout), MANY))
        yield Site(database, model, products, idle_bytes)


def _load_week(ground: Ground, database: Database) -> int:
    with connect(database.conninfo(Role.LOADER), "benchmark load") as connection:
        plan = steps.check_current_state(connection, ground.settings, ground.training_set)
        assert plan is not None
        result = steps.load_increment(connection, plan, ground.training_set)
        finish_load(connection, result)
        return result.batch_id


def _clients(
    servers: dict[str, Server], products: list[Product], counts: dict[str, int], connections: int
) -> dict[str, Callable[[], ChildRun]]:
    return {
        name: partial(
            in_child,
            prepare_client,
            server.endpoint.port,
            [server.endpoint.request([product]) for product in products],
            counts[name],
            connections,
        )
        for name, server in servers.items()
    }


def _measure_one_client(report: Report, servers: dict[str, Server], products: list[Product]) -> None:
    runs = alternate(_clients(servers, products, _REQUESTS, 1), ROUNDS)
    p50_ms = {name: tuple(_quantile_ms(run.result, 0.5) for run in of) for name, of in runs.items()}
    for name, of in runs.items():
        report.add(STAGE, f"one product, one client: {name}, p50", p50_ms[name], "ms")
        p99_ms = tuple(_quantile_ms(run.result, 0.99) for run in of)
        report.add(STAGE, f"one product, one client: {name}, p99", p99_ms, "ms")
    ratio = _ratios(p50_ms["ours"], p50_ms["MLflow"])
    report.add(STAGE, "one product, one client, p50: ours / MLflow", ratio, "x", at_most=0.25)


def _measure_many_clients(report: Report, servers: dict[str, Server], products: list[Product]) -> None:
    runs = alternate(_clients(servers, products, _CONCURRENT_REQUESTS, CLIENTS), ROUNDS)
    rates = {name: tuple(_per_second(run.result) for run in of) for name, of in runs.items()}
    for name, of in runs.items():
        report.add(STAGE, f"{CLIENTS} clients: {name}, answers a second", rates[name], "/s")
        p99_ms = tuple(_quantile_ms(run.result, 0.99) for run in of)
        report.add(STAGE, f"{CLIENTS} clients: {name}, p99", p99_ms, "ms")
    ratio = _ratios(rates["ours"], rates["MLflow"])
    report.add(STAGE, f"{CLIENTS} clients, answers a second: ours / MLflow", ratio, "x", at_least=4)
    cost_ms = tuple(1e3 * run.sample.cpu_s / len(run.result) for run in runs["ours"])
    report.add(STAGE, "CPU of the client itself for a request", cost_ms, "ms")


def _measure_many_products(report: Report, ours: Server, site: Site) -> None:
    """A request with many products beside the model's own `predict` of them, in a process of its own."""
    request = ours.endpoint.request(site.products)
    runs = alternate(
        {
            "ours": partial(in_child, prepare_client, ours.endpoint.port, [request], 3, 1),
            "predict": partial(in_child, prepare_predict, site.model, site.products),
        },
        ROUNDS,
    )
    ours_ms = tuple(_quantile_ms(run.result, 0.5) for run in runs["ours"])
    predict_ms = tuple(1e3 * run.sample.wall_s / _PREDICTIONS for run in runs["predict"])
    report.add(STAGE, f"{MANY:,} products: our request", ours_ms, "ms")
    report.add(STAGE, f"{MANY:,} products: the model's own predict", predict_ms, "ms")
    ratio = _ratios(ours_ms, predict_ms)
    report.add(STAGE, f"{MANY:,} products: our request / the model's own predict", ratio, "x", at_most=1.1)


_PREDICTIONS = 3


def prepare_predict(folder: Path, products: list[Product]) -> Task:
    """In a child: the model is loaded and has predicted once, as in the server."""
    model = mlflow.sklearn.load_model(str(folder))
    frame = pd.DataFrame(products, columns=list(TEXT_COLUMNS))
    model.predict(frame)
    return Task(lambda: [model.predict(frame) for _ in range(_PREDICTIONS)])


def _measure_swaps(report: Report, ours: Server, site: Site) -> None:
    _clients({"ours": ours}, site.products, _CONCURRENT_REQUESTS, CLIENTS)["ours"]()
    model = model_mb(site.model)
    before = ours.rss_bytes() / MEBIBYTE
    swaps = measure_swaps(site.database, ours, ours.endpoint.request(site.products[:1]), MOVES)
    _report_times(report, swaps)
    report.add(STAGE, "memory of a model", model, "MB")
    report.add(STAGE, "memory of the server before the first champion", site.idle_bytes / MEBIBYTE, "MB")
    report.add(STAGE, "memory of the server with a model", before, "MB")
    peaks = tuple(swap.peak_mb for swap in swaps)
    report.add(STAGE, "peak of the server in a swap", peaks, "MB")
    # the server without a model is what it holds with one, less the model
    extra = tuple(peak - (before - model) - 2 * model for peak in peaks)
    report.add(STAGE, "peak of a swap, above the server and two models", extra, "MB", at_most=100)
    afterwards = tuple(swap.afterwards_mb for swap in swaps)
    report.add(STAGE, "memory of the server after a swap", afterwards, "MB")
    # It goes up and down from swap to swap. If the models before stayed, it would be many times the memory of a model.
    growth = statistics.median(afterwards[-3:]) - before
    report.add(STAGE, f"memory after {MOVES} swaps, less that before", growth, "MB", at_most=round(model))


def _report_times(report: Report, swaps: list[Swap]) -> None:
    answered = tuple(swap.answered_s for swap in swaps)
    loading = tuple(swap.loading_s for swap in swaps)
    beyond = tuple(one - other for one, other in zip(answered, loading, strict=True))
    report.add(STAGE, "commit of a move to the first answer by the new version", answered, "s")
    report.add(STAGE, "of that, check, load and first prediction of the model", loading, "s")
    report.add(STAGE, "of that, everything else", beyond, "s", at_most=1)
    slowest = tuple(swap.slowest_ms for swap in swaps)
    report.add(STAGE, "slowest answer to one client in a swap", slowest, "ms")


def _quantile_ms(answers: list[Answer], quantile: float) -> float:
    return float(np.quantile([answer.ms for answer in answers], quantile))


def _per_second(answers: list[Answer]) -> float:
    seconds = (max(one.received_ns for one in answers) - min(one.sent_ns for one in answers)) / 1e9
    return len(answers) / seconds


def _ratios(ours: tuple[float, ...], theirs: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(one / other for one, other in zip(ours, theirs, strict=True))
