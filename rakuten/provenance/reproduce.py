"""Rebuild a batch's dataset and model, and compare them with what the MLflow runs of the batch recorded.

The comparison covers the bytes of the dataset, and the metrics and parameters of the model. The rows of the dataset come from
the history in PostgreSQL. MLflow gives the random seed, and the holdout set for the metrics. Nothing is published.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from mlflow.entities import Run

from db.connect import connect, connect_arrow
from listeners.datasets.manifest import complete_folder
from listeners.datasets.store import Store
from listeners.outages import outage_of
from listeners.snapshot.dataset_digest import identity_of
from listeners.snapshot.local import build
from listeners.tracking.environment import differences, environment
from listeners.tracking.runs import Tracking
from listeners.training.dataset import fetch, find_dataset, read_frame
from listeners.training.engine import Request, engine_of
from listeners.training.scores import score_holdout, score_test_set
from rakuten.provenance.verify_database import verify_batches
from shared.config import Settings
from shared.errors import StageError
from shared.hashing import sha256_of
from shared.mlflow_names import (
    HOLDOUT_SET,
    TEST_SET,
    Artifact,
    Param,
    Tag,
    dataset_name,
    model_run_name,
    parquet_name,
)

_CHANGED: Final = "data: changed in MLflow; rakuten verify lists the changes"
_APPLICATION: Final = "rakuten reproduce"
_DIFFERENCES_SHOWN: Final = 8


@dataclass(frozen=True)
class Verdict:
    """The result of one step of a rebuild.

    Attributes:
        step: what the step checks, for example "dataset" or "metrics".
        same: True if the step found what was recorded.
        detail: what was compared, or what differs.
        cause: the likely cause of a difference; None if there is no difference.
    """

    step: str
    same: bool
    detail: str
    cause: str | None = None


class Reproduction:
    """One rebuild of a batch's dataset and model. Its files are in `directory`; those in DATASET_STORE go when `stack` closes."""

    def __init__(
        self,
        conninfo: str,
        tracking: Tracking,
        settings: Settings,
        batch: tuple[int, str],
        directory: Path,
        *,
        stack: ExitStack,
    ) -> None:
        self._conninfo = conninfo
        self._tracking = tracking
        self._settings = settings
        self._batch_id, self._batch_name = batch
        self._directory, self._stack = directory, stack
        self._sealed = True
        # `dataset` sets these: the rebuilt file or folder of files, its SHA-256 (of a folder: of its manifest), its folder in
        # DATASET_STORE if Spark has built it, and whether it is the recorded dataset. It counts as that if the run lacks the digest.
        self._rebuilt, self._sha256 = directory, ""
        self._uri: str | None = None
        self.is_rebuilt = False

    def dataset(self, run: Run) -> Iterator[Verdict]:
        """Check the audit trail up to the batch, then rebuild the batch's dataset. Yield a verdict after each step.

        `run` is the MLflow run that recorded the dataset. The rebuilt and the recorded dataset are compared by their SHA-256.
        """
        yield self._seals()
        try:
            self._rebuild(run)
        except StageError as error:
            yield Verdict("dataset", False, error.message, self._cause(run))
            return
        digest = identity_of(self._rebuilt).digest
        by_spark = self._uri is not None or Tag.DATASET_URI in run.data.tags
        # Spark writes other files with the same content, so only the digest of the content can be compared then.
        tag, now = (Tag.DATASET_DIGEST, digest) if by_spark else (Tag.DATASET_SHA256, self._sha256)
        self.is_rebuilt = run.data.tags.get(tag) in {None, now}
        what = f"{_bytes_of(self._rebuilt):,} bytes" + (f", content digest {digest[:8]}" if by_spark else "")
        yield self._check_tag("dataset", run, tag, now, what)
        yield self._logged_files(run)

    def model(self, dataset: Run, run: Run) -> Iterator[Verdict]:
        """Train a model from the rebuilt dataset. Compare its metrics and parameters with those that `run` recorded."""
        seed, trainer = self._seed(run), run.data.params.get(Param.TRAINER, self._settings.trainer)
        fit = engine_of(run.data.params.get(Param.ENGINE, "local"), trainer)
        fitted = fit(
            Request(
                settings=self._settings,
                name=model_run_name(self._batch_name),
                trainer=trainer,
                seed=seed,
                fetch=lambda: self._rebuilt,
                uri=self._uri,
                sha256=self._sha256,
                sample={},
            )
        )
        model = fitted.model
        try:
            holdout, test = (
                read_frame(self._fixed_set(name, dataset, run)) for name in (HOLDOUT_SET, TEST_SET)
            )
        except StageError as error:
            yield _unreadable("metrics", error)
        else:
            metrics = score_holdout(model, fitted.data.labels, holdout, seed=seed).metrics
            metrics |= score_test_set(model, test)[1] | dict(model.metrics)
            what = f"{len(metrics)} of them, F1 {metrics['f1_score']:.4f}"
            yield self._compared("metrics", run, metrics, model.tolerance, what)
        if model.digest is None:
            what = f"no two trainings are equal bit for bit; metrics may differ by {model.tolerance:g}"
            yield Verdict("parameters", True, what)
        else:
            yield self._check_tag("parameters", run, Tag.MODEL_SHA256, model.digest, "all that was learned")

    def _rebuild(self, run: Run) -> None:
        """Build the dataset with the engine that the setting ENGINE names. Set what describes it."""
        name, seed = dataset_name(self._batch_name), self._seed(run)
        if self._settings.engine == "spark":
            from listeners.snapshot.spark.engine import rebuild_dataset  # noqa: PLC0415  only ENGINE=spark needs it

            source = (self._conninfo, self._batch_id, name)
            written = self._stack.enter_context(rebuild_dataset(self._settings, *source, seed))
            self._uri, self._sha256 = written.folder.uri, written.manifest.sha256
            self._rebuilt = self._scratch("rebuilt") / name
            self._rebuilt.mkdir()
            written.manifest.write(Store(str(self._rebuilt)))
            complete_folder(self._rebuilt, written.folder, self._sha256)
            return
        self._rebuilt = self._scratch("rebuilt") / parquet_name(name)
        with connect_arrow(self._conninfo, _APPLICATION) as connection:
            build(connection, self._batch_id, seed, self._rebuilt)
        self._sha256 = sha256_of(self._rebuilt)

    def _seals(self) -> Verdict:
        """Check the seals of this batch and of all earlier batches, because a dataset has rows of all of them.

        A seal is a digest of a batch that also covers the seal of the batch before it.
        """
        with connect(self._conninfo, _APPLICATION, autocommit=True) as connection:
            checks = verify_batches(connection)
        names = [check.batch_name for check in checks]
        checks = checks[: names.index(self._batch_name) + 1]
        broken = next((check for check in checks if check.problem is not None), None)
        self._sealed = broken is None
        if broken is None:
            return Verdict("audit trail", True, f"every seal up to {self._batch_name}")
        return Verdict("audit trail", False, f"{broken.batch_name}: {broken.problem}", "data")

    def _logged_files(self, run: Run) -> Verdict:
        """Compare the SHA-256 of the dataset's files in MLflow with the recorded one. If it differs, somebody changed a file."""
        step = "file in MLflow" if Tag.DATASET_URI not in run.data.tags else "files"
        try:
            return Verdict(step, True, fetch(self._tracking, run, self._scratch("logged")).name)
        except StageError as error:
            return _unreadable(step, error)

    def _fixed_set(self, name: str, dataset: Run, run: Run) -> Path:
        source = run.data.tags.get(Tag.SOURCE_SHA256) or dataset.data.tags.get(Tag.SOURCE_SHA256)
        if source is None:
            raise StageError(
                f"the batch's MLflow runs have no tag {Tag.SOURCE_SHA256}, so their {name} is unknown"
            )
        found = find_dataset(self._tracking, name, **{Tag.SOURCE_SHA256: source})
        return fetch(self._tracking, found, self._scratch(name))

    def _seed(self, run: Run) -> int:
        """Return the seed in the run's params. If somebody removed or damaged that param, return the seed in the settings."""
        with suppress(KeyError, ValueError):
            return int(run.data.params[Param.RANDOM_SEED])
        return self._settings.random_seed

    def _check_tag(self, step: str, run: Run, tag: str, now: str, what: str) -> Verdict:
        """Compare `now`, the SHA-256 of the rebuilt dataset or model, with the SHA-256 in the tag `tag` of `run`."""
        if (then := run.data.tags.get(tag)) is None:
            return Verdict(step, False, f"its run has no tag {tag} to compare with", _CHANGED)
        if then == now:
            return Verdict(step, True, what)
        return Verdict(step, False, f"SHA-256 was {then}, is {now}", self._cause(run))

    def _compared(self, step: str, run: Run, now: dict[str, float], tolerance: float, what: str) -> Verdict:
        """Compare the metrics of a rebuilt model with those of the run. They may differ by `tolerance`."""
        then = run.data.metrics
        differing = sorted(
            name
            for name in then.keys() | now.keys()
            if name not in then or name not in now or abs(then[name] - now[name]) > tolerance
        )
        if not differing:
            return Verdict(step, True, what)
        shown = ", ".join(f"{name} was {then.get(name)}, is {now.get(name)}" for name in differing[:3])
        return Verdict(step, False, f"{len(differing)} differ: {shown}", self._cause(run))

    def _cause(self, run: Run) -> str:
        """Return the likely cause of a difference: what changed since `run`, for example data, code or a library."""
        if not self._sealed:
            return "data: the audit trail was changed"
        try:
            path = self._tracking.download(run, Artifact.ENVIRONMENT, self._scratch("environment"))
            then = json.loads(path.read_text(encoding="utf-8"))
        except (StageError, ValueError):
            return "unknown: the run has no readable record of its environment"
        param, recorded = run.data.params.get(Param.RANDOM_SEED), then.get("settings", {}).get("random_seed")
        if recorded is not None and param != str(recorded):
            return f"data: the run's param random_seed is {param}, its {Artifact.ENVIRONMENT} says {recorded}"
        now = json.loads(json.dumps(environment(self._settings)))
        changed = differences(then, now)
        if not changed:
            return "unknown: code, libraries, seed and platform are the same as recorded"
        more = len(changed) - _DIFFERENCES_SHOWN
        return "; ".join(changed[:_DIFFERENCES_SHOWN] + ([f"and {more} more"] if more > 0 else []))

    def _scratch(self, name: str) -> Path:
        directory = self._directory / name
        directory.mkdir(exist_ok=True)
        return directory


def _bytes_of(path: Path) -> int:
    return sum(file.stat().st_size for file in (path.glob("*.parquet") if path.is_dir() else [path]))


def _unreadable(step: str, error: StageError) -> Verdict:
    """Return the verdict for a file that is missing or damaged in MLflow. If MLflow is unavailable, raise `error` again."""
    if outage_of(error) is not None:
        raise error
    return Verdict(step, False, error.message, _CHANGED)


def reproduce(
    conninfo: str,
    tracking: Tracking,
    settings: Settings,
    batch: tuple[int, str],
    runs: tuple[Run, Run | None],
) -> Iterator[Verdict]:
    """Rebuild a batch's dataset and its model, if it has one, in a temporary directory. Yield a verdict after each step.

    Args:
        conninfo: connection string of a role that may read the history.
        tracking: MLflow, which is only read.
        settings: present settings. Their random_seed is used only if the MLflow run has no valid param `random_seed`.
        batch: id and name of the batch.
        runs: recorded run of the dataset, and recorded run of the model (None if the batch has no model).
    """
    dataset, trained = runs
    with TemporaryDirectory(prefix="rakuten-") as scratch, ExitStack() as stack:
        reproduction = Reproduction(conninfo, tracking, settings, batch, Path(scratch), stack=stack)
        yield from reproduction.dataset(dataset)
        if trained is not None and reproduction.is_rebuilt:
            yield from reproduction.model(dataset, trained)
        elif trained is not None:
            yield Verdict("model", False, "not trained: the rebuilt dataset differs", "its dataset")
