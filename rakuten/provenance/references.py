"""Find the batch, dataset, model, product or file that a name on the command line means.

Examples of names: week_7, train_week_7, rakuten_classifier@champion, a run id, a productid, the path of a file.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from mlflow import MlflowClient
from mlflow.entities import Run

from db.batches import Connection, find_batch, read_batch
from db.sql import query
from listeners.tracking.registry import versions_of
from listeners.tracking.runs import Tracking, if_known
from shared.batch import Batch
from shared.errors import BadInputError, StageError
from shared.hashing import sha256_of
from shared.mlflow_names import DATASET_EXPERIMENT, MODEL_EXPERIMENT, REGISTERED_MODEL, Artifact, Tag

_PRODUCT: Final = re.compile(r"product:([0-9]{1,18})")
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_NAME: Final = re.compile(r"(train_|model_|)(?:week|correction)_[0-9]+")
_LOGGED_MODEL: Final = re.compile(r"models:/(m-[0-9a-f]+)")
_VERSION: Final = re.compile(
    rf"(?:models:/([^/@]+)|([A-Za-z0-9_-]*{REGISTERED_MODEL}))(?:/([0-9]+)|@([\w.-]+))"
)
_RUN: Final = re.compile(r"(?:runs:/)?([0-9a-f]{32})(?:/.*)?")

_KNOWN: Final = (
    "week_7, correction_1, train_week_7, model_week_7, models:/rakuten_classifier/3, rakuten_classifier@champion, "
    "a run id, product:123, or a file that a run has logged"
)


class ReferenceKind(StrEnum):
    """The kinds of things that `rakuten lineage` can explain."""

    BATCH = "batch"
    DATASET = "dataset"
    MODEL = "model"
    PRODUCT = "product"
    FILE = "file"


@dataclass(frozen=True)
class Reference:
    """The batch, dataset, model, product or file that a name means.

    A dataset, model or file belongs to one batch. A product can belong to several batches.

    Attributes:
        text: the name, as the user typed it.
        kind: the kind of the thing.
        batch_id: id of the thing's batch. None for a product, and for a run of a batch that this database does not know.
        batch_name: name of the thing's batch. None in the same cases as `batch_id`.
        dataset_run_id: run of the batch's dataset. None until the dataset is built.
        model_run_id: run of the batch's model. None until the model is trained.
        model_version: version of the model in the registry. None until the model is registered.
        productid: productid of a product. None for every other kind.
        run_id: the MLflow run that was named, or that logged the file. PostgreSQL may have recorded another run for the batch.
        artifact: path of the file among the artifacts of that run. None for every other kind.
        sha256: SHA-256 of the file. None for every other kind.
        also_in: ids of the other runs that logged a file with the same bytes.
    """

    text: str
    kind: ReferenceKind
    batch_id: int | None = None
    batch_name: str | None = None
    dataset_run_id: str | None = None
    model_run_id: str | None = None
    model_version: int | None = None
    productid: int | None = None
    run_id: str | None = None
    artifact: str | None = None
    sha256: str | None = None
    also_in: tuple[str, ...] = ()


def resolve(text: str, connection: Connection, tracking: Tracking) -> Reference:
    """Return a reference to the batch, dataset, model, product or file that `text` names.

    A number alone is a week if that week is loaded, and a productid otherwise. `product:7` is always a product. Other names
    have priority over files: `week_7` is a batch, and `./week_7` is a file.

    Args:
        text: a name, as a person types it.
        connection: connection with a role that may read the history of the products.
        tracking: MLflow. It is queried only for a model's URI, a run id or a file, because PostgreSQL cannot look these up.

    Raises:
        BadInputError: nothing has this name.
    """
    if found := _PRODUCT.fullmatch(text):
        return _product(text, int(found[1]), connection)
    if _NUMBER.fullmatch(text):
        return _number(text, connection)
    if found := _NAME.fullmatch(text):
        kind = {"train_": ReferenceKind.DATASET, "model_": ReferenceKind.MODEL}.get(
            found[1], ReferenceKind.BATCH
        )
        return _with_batch(Reference(text, kind), find_batch(connection, text))
    if (run := _named_run(text, tracking)) is not None:
        return _reference_to_run(text, run, connection, tracking)
    return _file(text, connection, tracking)


def _product(text: str, productid: int, connection: Connection) -> Reference:
    known = connection.execute("select from products_history where productid = %s limit 1", [productid])
    if known.fetchone() is None:
        raise BadInputError(
            f"no product {productid} was ever loaded", remedy="choose a productid from X_train.csv"
        )
    return Reference(text, ReferenceKind.PRODUCT, productid=productid)


def _number(text: str, connection: Connection) -> Reference:
    try:
        return _with_batch(Reference(text, ReferenceKind.BATCH), find_batch(connection, text))
    except BadInputError as no_week:
        try:
            return _product(text, int(text), connection)
        except BadInputError:
            raise BadInputError(
                f"{text} is neither a week that is loaded nor a productid: {no_week.message}",
                remedy=no_week.remedy,
            ) from None


def _with_batch(reference: Reference, batch: Batch) -> Reference:
    """Return a copy of the reference in which this batch, its dataset run and its model run are filled in."""
    dataset, model = batch.result_of("snapshot"), batch.result_of("training")
    return replace(
        reference,
        batch_id=batch.id,
        batch_name=batch.name,
        dataset_run_id=dataset.get("run_id"),
        model_run_id=model.get("run_id"),
        model_version=model.get("model_version"),
    )


def _reference_to_run(text: str, run: Run, connection: Connection, tracking: Tracking) -> Reference:
    """Return a reference to the dataset or model that an MLflow run logged.

    The reference names this run, even if PostgreSQL has recorded another run for the run's batch.
    """
    tags, run_id = run.data.tags, run.info.run_id
    batch = _batch_of(run, connection)
    if batch is None and Tag.BATCH_ID not in tags:
        raise BadInputError(
            f"run {run_id} ({run.info.run_name}) belongs to no batch: it was built from the source files alone",
            remedy=f"choose {_KNOWN}",
        )
    reference = Reference(text, ReferenceKind.DATASET, run_id=run_id)
    if batch is not None:
        reference = _with_batch(reference, batch)
    if Tag.DATASET_RUN_ID not in tags and run_id != reference.model_run_id:
        return replace(reference, dataset_run_id=run_id)
    return replace(
        reference,
        kind=ReferenceKind.MODEL,
        dataset_run_id=tags.get(Tag.DATASET_RUN_ID, reference.dataset_run_id),
        model_run_id=run_id,
        model_version=min((int(one.version) for one in versions_of(tracking, run_id)), default=None),
    )


def _batch_of(run: Run, connection: Connection) -> Batch | None:
    """Return the batch that has recorded the run, or else the batch whose seal the run has as a tag.

    The batch's id is not enough, because ids begin at 1 in every database.
    """
    row = connection.execute(
        query("provenance/batch_of_run"),
        {"run_id": run.info.run_id, "seal": run.data.tags.get(Tag.BATCH_SEAL)},
    ).fetchone()
    return None if row is None else read_batch(connection, row[0])


def _named_run(text: str, tracking: Tracking) -> Run | None:
    """Return the MLflow run that `text` names, if `text` is a run id or a model's URI. Otherwise, return None."""
    request = _run_request(text, tracking.client)
    if request is None:
        return None
    if (run := if_known(request)) is None:
        raise BadInputError(
            f"MLflow does not know {text}: it has no such run or model",
            remedy="find the runs with rakuten status --json; set MLFLOW_TRACKING_URI to the value that the listeners use",
        )
    return run


def _run_request(text: str, client: MlflowClient) -> Callable[[], Run] | None:
    """Return a function that reads from MLflow the run that `text` names, or None if `text` is no run id or model URI."""
    if found := _LOGGED_MODEL.fullmatch(text):
        model_id = found[1]
        return lambda: client.get_run(str(client.get_logged_model(model_id).source_run_id))
    if found := _RUN.fullmatch(text):
        return partial(client.get_run, found[1])
    if (found := _VERSION.fullmatch(text)) is None:
        return None
    name, version, alias = found[1] or found[2], found[3], found[4]
    if version:
        return lambda: client.get_run(str(client.get_model_version(name, version).run_id))
    return lambda: client.get_run(str(client.get_model_version_by_alias(name, alias).run_id))


def _file(text: str, connection: Connection, tracking: Tracking) -> Reference:
    path = Path(text).expanduser()
    if not path.is_file():
        raise BadInputError(f"{text!r} is no known name and no existing file", remedy=f"choose {_KNOWN}")
    sha256 = sha256_of(path)
    found = sorted(_runs_that_logged(sha256, tracking), key=lambda entry: _order_of(entry[0]))
    if not found:
        raise BadInputError(
            f"no run has logged {path.name} with these bytes (SHA-256 {sha256})",
            remedy="give an unchanged copy of a logged file; set MLFLOW_TRACKING_URI to the value that the listeners use",
        )
    run, artifact = found[-1]
    return replace(
        _reference_to_run(text, run, connection, tracking),
        kind=ReferenceKind.FILE,
        artifact=artifact,
        sha256=sha256,
        also_in=tuple(run.info.run_id for run, _ in found[:-1]),
    )


def _order_of(run: Run) -> tuple[int, ...]:
    """Return the number of the run's batch in the hash chain and of the run's attempt. Clocks may give another order."""
    return tuple(int(run.data.tags.get(tag, 0)) for tag in (Tag.BATCH_NUMBER, Tag.ATTEMPT))


def _runs_that_logged(sha256: str, tracking: Tracking) -> Iterator[tuple[Run, str]]:
    """Yield each finished run whose manifest lists a file with this SHA-256, and the path of that file."""
    runs = (
        run for kind in (MODEL_EXPERIMENT, DATASET_EXPERIMENT) for run in tracking.runs(kind, Tag.BATCH_ID)
    )
    for run in runs:
        if run.info.status != "FINISHED":
            continue
        with TemporaryDirectory(prefix="rakuten-") as scratch:
            try:
                manifest = tracking.download(run, Artifact.MANIFEST, Path(scratch)).read_bytes()
            except StageError:
                continue  # the run has no manifest (its list of files) any more; `rakuten verify` reports such a run
        digests = json.loads(manifest)["artifacts"]
        artifact = next((path for path, digest in digests.items() if digest == sha256), None)
        if artifact is not None:
            yield run, artifact
