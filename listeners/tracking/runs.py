"""Runs in MLflow, published once: found if they exist, finished only while the claim stands.

MLflow and PostgreSQL commit separately. A run is FINISHED before its batch is recorded; after a crash in between, the next attempt
adopts that run instead of making another. Runs that a dead attempt left RUNNING are closed.
"""

import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import mlflow
import structlog
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from listeners.tracking.environment import environment
from shared.config import Settings
from shared.errors import FencedError, StageError
from shared.hashing import sha256_of
from shared.mlflow_names import Artifact, Tag

logger = structlog.get_logger()

_T = TypeVar("_T")
_MOST_RUNS = 50_000  # MLflow's limit for one answer: a thousand years of weeks
_DIGEST_LENGTH = 36  # MLflow's limit for the digest of a dataset
_FIGURE_DPI = 100


class Tracking:
    """The MLflow that the settings name: a server, or sqlite and local artifacts under STATE_PATH."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._directory = settings.mlflow_path
        self.uri = settings.tracking_uri
        self._experiment_ids: dict[str, str] = {}
        self._local = settings.mlflow_tracking_uri is None
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_registry_uri(self.uri)
        with self._alone():
            self.client = MlflowClient(self.uri, self.uri)

    def experiment_id(self, name: str) -> str:
        """The experiment of that name, made if it is missing."""
        if name not in self._experiment_ids:
            self._experiment_ids[name] = self._find_or_create(name)
        return self._experiment_ids[name]

    def _find_or_create(self, name: str) -> str:
        experiment = self.client.get_experiment_by_name(name)
        if experiment is not None:
            return str(experiment.experiment_id)
        location = (self._directory / "artifacts").as_uri() if self._local else None
        try:
            return self.client.create_experiment(name, artifact_location=location)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return self._find_or_create(name)  # another worker was faster

    def finished_run(self, experiment: str, run_name: str, **tags: str) -> Run | None:
        """The first finished run of that name with these tags that no later attempt has superseded."""
        found = self._runs(experiment, run_name, "FINISHED", tags)
        return next((run for run in found if Tag.SUPERSEDED not in run.data.tags), None)

    def run(self, run_id: str) -> Run:
        """A run, deleted or not.

        Raises:
            StageError: MLflow has none of that id.
        """
        if (run := self.run_if_any(run_id)) is None:
            raise StageError(
                f"MLflow has no run {run_id}",
                remedy="was it deleted, or is MLFLOW_TRACKING_URI another than the listeners'?",
            )
        return run

    def run_if_any(self, run_id: str) -> Run | None:
        """A run, deleted or not; None where MLflow has none of that id."""
        return if_known(lambda: self.client.get_run(run_id))

    def counting_run(self, run_id: str) -> Run | None:
        """The run, if it is finished and neither deleted nor superseded."""
        run = self.run_if_any(run_id)
        if run is None or run.info.lifecycle_stage != LifecycleStage.ACTIVE or run.info.status != "FINISHED":
            return None
        return None if Tag.SUPERSEDED in run.data.tags else run

    def runs(self, experiment: str, tag: str) -> list[Run]:
        """Every run of an experiment that has this tag, and is running, or finished and not superseded; oldest first."""
        found: list[Run] = []
        if (known := self.client.get_experiment_by_name(experiment)) is None:
            return found
        for status in ("RUNNING", "FINISHED"):
            found += self.client.search_runs(
                [known.experiment_id],
                f"attributes.status = '{status}'",
                max_results=_MOST_RUNS,
                order_by=["attributes.start_time ASC"],
            )
        return [run for run in found if tag in run.data.tags and Tag.SUPERSEDED not in run.data.tags]

    def supersede(self, run_id: str) -> None:
        """Mark a run as one that does not count; the tag comes first, so that no moment shows it as finished and counting."""
        self.client.set_tag(run_id, Tag.SUPERSEDED, "true")
        self.client.set_terminated(run_id, "KILLED")

    def download(self, run: Run, artifact: str, directory: Path) -> Path:
        """One artifact of a run, as a local file.

        Raises:
            StageError: the run has no such artifact.
        """
        try:
            # from where they lie: by the run's id, MLflow would ask its database for the run twice, and for its models
            artifacts = get_artifact_repository(run.info.artifact_uri, self.uri)
            directory.mkdir(parents=True, exist_ok=True)
            return Path(artifacts.download_artifacts(artifact, str(directory)))  # type: ignore[no-untyped-call]
        except (MlflowException, OSError) as error:
            raise StageError(
                f"artifact {artifact} of run {run.info.run_id} cannot be read: {error}"
            ) from error

    @contextmanager
    def publishing(
        self,
        experiment: str,
        run_name: str,
        tags: Mapping[str, str],
        require_claim: Callable[[], None],
        **identity: str,
    ) -> Iterator["Publication"]:
        """A new run, FINISHED at the end of the block if the claim still stands, FAILED if anything is raised.

        Args:
            experiment: its name.
            run_name: as the design says; several runs may carry it, one of them finished.
            tags: of the run.
            require_claim: raises FencedError when another worker has taken over.
            **identity: the tags that make this the same piece of work as an earlier attempt's run.
        """
        self._supersede_leftovers(experiment, run_name, identity)
        run = self.client.create_run(
            self.experiment_id(experiment), tags={**tags, **identity}, run_name=run_name
        )
        with TemporaryDirectory(prefix="rakuten-") as scratch:
            publication = Publication(self.client, run.info.run_id, Path(scratch))
            try:
                publication.json(Artifact.ENVIRONMENT, environment(self._settings))
                yield publication
                publication.json(
                    Artifact.MANIFEST, {"artifacts": dict(sorted(publication.artifacts.items()))}
                )
                require_claim()
            except BaseException:
                with suppress(MlflowException):  # the reason is what matters; a later attempt closes the run
                    self.client.set_terminated(run.info.run_id, "FAILED")
                raise
        self._finish(run.info.run_id)

    def record_of(self, run_id: str) -> dict[str, str]:
        """Digests of a finished run, for PostgreSQL to keep: neither side can then be changed without the other's noticing.

        `record_sha256` covers its params, metrics, tags and inputs, `manifest_sha256` the manifest of its artifacts.
        """
        run = self.client.get_run(run_id)
        with TemporaryDirectory(prefix="rakuten-") as scratch:
            manifest_sha256 = sha256_of(self.download(run, Artifact.MANIFEST, Path(scratch)))
        return {"record_sha256": record_sha256(run), "manifest_sha256": manifest_sha256}

    def _supersede_leftovers(self, experiment: str, run_name: str, identity: Mapping[str, str]) -> None:
        for leftover in self._runs(experiment, run_name, "RUNNING", identity):
            logger.warning("closing the run of a dead attempt", run_id=leftover.info.run_id)
            self.supersede(leftover.info.run_id)
        if self.finished_run(experiment, run_name, **identity):
            raise StageError(f"another attempt has just finished {run_name}; the next one adopts it")

    def _finish(self, run_id: str) -> None:
        """Finish a run, unless a later attempt has superseded it while this one stalled between its last question and here."""
        self.client.set_terminated(run_id, "FINISHED")
        if Tag.SUPERSEDED in self.client.get_run(run_id).data.tags:
            self.client.set_terminated(run_id, "KILLED")
            raise FencedError(f"run {run_id} was superseded by a later attempt")

    def _runs(self, experiment: str, run_name: str, status: str, tags: Mapping[str, str]) -> list[Run]:
        conditions = [f"attributes.run_name = '{run_name}'", f"attributes.status = '{status}'"]
        conditions += [f"tags.{name} = '{value}'" for name, value in tags.items()]
        return list(
            self.client.search_runs(
                [self.experiment_id(experiment)],
                " and ".join(conditions),
                order_by=["attributes.start_time ASC"],
            )
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two processes that open a new sqlite store at once would both create its tables."""
        if not self._local:
            yield
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def if_known(question: Callable[[], _T]) -> _T | None:
    """Ask MLflow for something that has a name or an id; return None if MLflow knows none of it."""
    try:
        return question()
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise


def record_sha256(run: Run) -> str:
    """SHA-256 of a run's name, params, metrics, tags and inputs; the mark `superseded` and a person's note are not part of it."""
    tags = {
        name: value for name, value in run.data.tags.items() if name not in {Tag.SUPERSEDED, MLFLOW_RUN_NOTE}
    }
    used = run.inputs.dataset_inputs if run.inputs else []
    inputs = sorted(json.dumps(one.to_dictionary(), sort_keys=True) for one in used)
    record = [run.info.run_name, run.data.params, run.data.metrics, tags, inputs]
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


class Publication:
    """A run in the making. Files are written to `scratch` and logged from there; `artifacts` has the SHA-256 of each."""

    def __init__(self, client: MlflowClient, run_id: str, scratch: Path) -> None:
        self._client = client
        self.run_id = run_id
        self.scratch = scratch
        self.artifacts: dict[str, str] = {}

    def values(
        self,
        *,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Params, metrics and tags in one call."""
        now_ms = time.time_ns() // 1_000_000
        self._client.log_batch(
            self.run_id,
            metrics=[Metric(name, value, now_ms, 0) for name, value in (metrics or {}).items()],
            params=[Param(name, str(value)) for name, value in (params or {}).items()],
            tags=[RunTag(name, value) for name, value in (tags or {}).items()],
        )

    def file(self, path: Path) -> None:
        self._client.log_artifact(self.run_id, str(path))
        self.artifacts[path.name] = sha256_of(path)

    def logged_model(self, uri: str) -> None:
        """Enter a model into the manifest that was logged by `log_model`, which does not say what it has written."""
        directory = Path(
            mlflow.artifacts.download_artifacts(uri, dst_path=str(self.scratch / Artifact.MODEL))
        )
        for path in sorted(path for path in directory.rglob("*") if path.is_file()):
            self.artifacts[f"{Artifact.MODEL}/{path.relative_to(directory)}"] = sha256_of(path)

    def text(self, name: str, content: str) -> None:
        path = self.scratch / name
        path.write_text(content, encoding="utf-8")
        self.file(path)

    def json(self, name: str, content: object) -> None:
        self.text(name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def figure(self, name: str, figure: Figure) -> None:
        path = self.scratch / name
        figure.savefig(path, dpi=_FIGURE_DPI)
        self.file(path)

    def dataset(self, name: str, digest: str, source: str, context: str, profile: Mapping[str, Any]) -> None:
        """The dataset as an input of the run. The digest is ours: MLflow's own covers a part of the data only."""
        entity = Dataset(
            name=name,
            digest=digest[:_DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": source}),
            profile=json.dumps(profile),
        )
        self._client.log_inputs(
            self.run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", context)])]
        )
