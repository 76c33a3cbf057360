"""What bench_chain gives to another waiting child: the work of a stage alone, once more, without MLflow and its files."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from db.connect import connect, connect_arrow
from listeners.job import Job
from shared.events import Stage


def handle(job: Job):
    work = {Stage.SNAPSHOT: _snapshot, Stage.TRAINING: _training}[job.stage]
    return {"wall_s": work(job)}


def _snapshot(job: Job) -> float:
    from listeners.snapshot.earlier import find_earlier_dataset  # noqa: PLC0415
    from listeners.snapshot.local import build  # noqa: PLC0415

    started = time.perf_counter()
    with (
        TemporaryDirectory() as scratch,
        connect(job.conninfo, "benchmark work", autocommit=True) as connection,
        connect_arrow(job.conninfo, "benchmark read") as reader,
    ):
        copies = job.settings.state_path / "training_snapshots"
        earlier = find_earlier_dataset(connection, job.batch.id, copies)
        build(reader, job.batch.id, job.settings.random_seed, Path(scratch) / "work.parquet", earlier)
    return time.perf_counter() - started


def _training(job: Job) -> float:
    from listeners.training import model  # noqa: PLC0415
    from listeners.training.dataset import read_frame, read_training_data  # noqa: PLC0415
    from listeners.training.evaluate import report  # noqa: PLC0415
    from listeners.training.scores import score_holdout  # noqa: PLC0415

    seed = job.settings.random_seed
    datasets = job.settings.state_path / "mlflow" / "artifacts"
    paths = [
        next(datasets.rglob(name))
        for name in (f"train_{job.batch.name}.parquet", "holdout_df.parquet", "test_df.parquet")
    ]
    started = time.perf_counter()
    data, holdout, test = read_training_data(paths[0]), read_frame(paths[1]), read_frame(paths[2])
    trained = model.fit(data.products, data.labels, data.multiplicities, seed=seed)
    scores = score_holdout(trained, data.labels, holdout, seed=seed)
    report(scores.truth, scores.prediction)
    trained.pipeline.predict(test)
    return time.perf_counter() - started
