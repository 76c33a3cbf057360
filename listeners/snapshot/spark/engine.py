"""Build a batch's dataset on Apache Spark: a folder of parquet files under DATASET_STORE (ENGINE=spark)."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import structlog

from db.sql import query
from listeners.datasets.manifest import MANIFEST
from listeners.datasets.store import Store, dataset_store
from listeners.snapshot.engine import Built, Request
from listeners.snapshot.spark.build import Order, WrittenDataset, build
from listeners.snapshot.spark.read import Source
from listeners.snapshot.spark.rows import collect_sample, summarise
from listeners.spark.session import describe, spark_session
from listeners.tracking.runs import Publication
from shared.config import Settings

logger = structlog.get_logger()


def build_dataset(request: Request) -> Built:
    """Build a dataset as a folder of parquet files, and log its manifest; log its files, too, if they are small enough.

    The folder is complete when it has a manifest. See `build` for what it raises.
    """
    job, settings = request.job, request.job.settings
    order = Order(
        dataset=request.name,
        batch_id=job.batch.id,
        random_seed=settings.random_seed,
        source=Source(job.conninfo, settings.spark_postgres_connections),
        folder=_store_of(request).folder(request.name),
        attempt=job.attempt,
        require_claim=job.require_claim,
    )
    with spark_session(settings, f"{request.name} (snapshot)") as spark:
        written = build(spark, order)
        collect_sample(spark, written, request.sample)
        rows, built_by = summarise(spark, written), describe(spark)
    _log(request.run, request.name, written, settings.dataset_upload_limit)
    return Built(
        stats=written.stats,
        sha256=written.manifest.sha256,
        digest=written.manifest.dataset_digest,
        rows=rows,
        file=request.name,
        uri=written.folder.uri,
        built_by=built_by,
    )


def _store_of(request: Request) -> Store:
    """Return the folder of a database in DATASET_STORE. It must exist if it had the earlier dataset: else, its disk is not mounted."""
    store = dataset_store(request.job.settings).folder(request.database)
    row = request.connection.execute(
        query("snapshot/earlier_folder"), {"batch_id": request.job.batch.id}
    ).fetchone()
    if row is not None and row[0].startswith(f"{store.uri}/"):
        store.require_folder()
    return store


@contextmanager
def rebuild_dataset(
    settings: Settings, conninfo: str, batch_id: int, name: str, random_seed: int
) -> Iterator[WrittenDataset]:
    """Build a dataset again, in a folder of its own under DATASET_STORE that is removed at the end, and publish nothing."""
    folder = dataset_store(settings).folder("reproduced").folder(uuid4().hex)
    order = Order(
        dataset=name,
        batch_id=batch_id,
        random_seed=random_seed,
        source=Source(conninfo, settings.spark_postgres_connections),
        folder=folder,
        attempt=1,
        require_claim=lambda: None,
        use_earlier=False,
    )
    try:
        with spark_session(settings, f"{name} (reproduce)") as spark:
            written = build(spark, order)
        yield written
    finally:
        folder.remove()


def _log(run: Publication, name: str, written: WrittenDataset, limit: int) -> None:
    manifest = written.manifest
    path = run.scratch / MANIFEST
    path.write_bytes(manifest.content)
    run.file(path, name)
    if manifest.size > limit:
        logger.info(
            "the dataset is larger than DATASET_UPLOAD_LIMIT, so MLflow gets its manifest only",
            bytes=manifest.size,
        )
        return
    for part in manifest.parts:
        with written.folder.reading(part.name) as file:
            run.file(file, name)
