"""Publish each run to MLflow once, even if an earlier attempt was interrupted, and read published runs.

MLflow and PostgreSQL commit separately. A run becomes FINISHED in MLflow before PostgreSQL records its id. If the process
crashes in between, the next attempt uses the finished run and makes no second one. The next attempt also closes the runs that a
crashed attempt left RUNNING. A worker may finish a run only while the worker holds the claim on the run's batch.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import mlflow
import structlog
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from listeners.cards.document import Card
from listeners.tracking import artifacts
from listeners.tracking.environment import environment, source_tags
from listeners.tracking.experiments import active_experiment
from listeners.tracking.manifest import Manifest, manifest_record, record_sha256
from shared.config import Settings
from shared.errors import FencedError, OutageError, StageError
from shared.file_lock import file_lock
from shared.mlflow_names import REGISTERED_MODEL, Artifact, Tag

if TYPE_CHECKING:  # commands that draw nothing start faster without Matplotlib
    from matplotlib.figure import Figure

logger = structlog.get_logger()

_T = TypeVar("_T")
_SEARCH_LIMIT = 50_000  # MLflow's maximum for one search: enough for 900 years of weekly runs
_DIGEST_LENGTH = 36  # the most characters that MLflow accepts for the digest of a dataset
_FIGURE_DPI = 100
# Longer than the default STALL_TIMEOUT_S, after which a frozen child is killed. Its end releases the lock.
_INIT_LOCK_TIMEOUT_S = 90.0


class Tracking:
    """Access to MLflow: the server that the settings name, or else a sqlite store with local artifacts under STATE_PATH."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._directory = settings.mlflow_path
        self.uri = settings.tracking_uri
        self.registered_model = self.full_name(REGISTERED_MODEL)
        self._experiment_ids: dict[str, str] = {}
        self._local = settings.mlflow_tracking_uri is None
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_registry_uri(self.uri)
        with self._sqlite_init_lock():
            self.client = MlflowClient(self.uri, self.uri)

    def full_name(self, name: str) -> str:
        """Return the name in MLflow of an experiment or of the registered model: MLFLOW_NAME_PREFIX followed by `name`."""
        return self._settings.mlflow_name_prefix + name

    def experiment_id(self, name: str, tags: dict[str, str] | None = None) -> str:
        """Return the id of the experiment with this name. If the experiment is missing, create it with these tags."""
        if name not in self._experiment_ids:
            self._experiment_ids[name] = self._find_or_create(self.full_name(name), tags)
        return self._experiment_ids[name]

    def _find_or_create(self, full_name: str, tags: dict[str, str] | None) -> str:
        if (experiment := active_experiment(self.client, full_name)) is not None:
            return str(experiment.experiment_id)
        location = (self._directory / "artifacts").as_uri() if self._local else None
        try:
            return self.client.create_experiment(full_name, location, tags)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return self._find_or_create(full_name, tags)  # another worker has just created the experiment

    def finished_run(self, experiment: str, run_name: str, **tags: str) -> Run | None:
        """Return the finished run of the first attempt with this name and these tags, or None. Ignore superseded runs."""
        found = self._runs(experiment, run_name, "FINISHED", tags)
        return next((run for run in found if Tag.SUPERSEDED not in run.data.tags), None)

    def run(self, run_id: str) -> Run:
        """Return a run by its id, even if the run was deleted; raise StageError if MLflow has no run with this id."""
        if (run := self.run_if_any(run_id)) is None:
            raise StageError(
                f"MLflow has no run {run_id}",
                remedy="check that MLFLOW_TRACKING_URI is the one the listeners use; if so, the run was purged from MLflow",
            )
        return run

    def run_if_any(self, run_id: str) -> Run | None:
        """Return a run by its id, even if the run was deleted, or None if MLflow has no run with this id."""
        return if_known(lambda: self.client.get_run(run_id))

    def valid_run(self, run_id: str) -> Run | None:
        """Return the run with this id, or None if the run is missing, deleted, unfinished or tagged as superseded."""
        run = self.run_if_any(run_id)
        if run is None or run.info.lifecycle_stage != LifecycleStage.ACTIVE or run.info.status != "FINISHED":
            return None
        return None if Tag.SUPERSEDED in run.data.tags else run

    def runs(self, experiment: str, tag: str) -> list[Run]:
        """Return the runs with this tag that are not superseded: first the RUNNING runs, then the FINISHED runs."""
        found: list[Run] = []
        if (known := active_experiment(self.client, self.full_name(experiment))) is None:
            return found
        for status in ("RUNNING", "FINISHED"):
            condition = f"attributes.status = '{status}'"
            found += self.client.search_runs([known.experiment_id], condition, max_results=_SEARCH_LIMIT)
        return [run for run in found if tag in run.data.tags and Tag.SUPERSEDED not in run.data.tags]

    def supersede(self, run_id: str) -> None:
        """Tag a run as superseded (no longer valid), then end it. In this order, it never appears as finished and valid."""
        self.client.set_tag(run_id, Tag.SUPERSEDED, "true")
        self.client.set_terminated(run_id, "KILLED")

    def download(self, run: Run, artifact: str, directory: Path) -> Path:
        """Download one artifact of a run and return its local path.

        Raises:
            StageError: the run has no such artifact, or the artifact cannot be read.
        """
        try:
            # Use the artifact URI. With the run id, MLflow would first send further requests for the run and its models.
            return artifacts.download(run.info.artifact_uri, artifact, directory, self.uri)
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
        """Open a new run. After the block, mark it FINISHED, or FAILED if the block or `require_claim` raises an error.

        Args:
            experiment: name of the experiment.
            run_name: name of the run. Several runs may have this name; only one is finished and not superseded.
            tags: tags of the run, besides those in `identity`.
            require_claim: raises FencedError if another worker has taken over the batch.
            **identity: the tags that all attempts to publish this run share. They identify the runs of earlier attempts.
        """
        self._supersede_abandoned_runs(experiment, run_name, identity)
        run = self.client.create_run(
            self.experiment_id(experiment),
            tags={**source_tags(self._settings), **tags, **identity},
            run_name=run_name,
        )
        with TemporaryDirectory(prefix="rakuten-") as scratch:
            publication = Publication(self.client, run.info.run_id, Path(scratch))
            try:
                publication.json(Artifact.ENVIRONMENT, environment(self._settings))
                yield publication
                publication.json(Artifact.MANIFEST, publication.manifest.as_json())
                require_claim()
            except BaseException as error:
                with suppress(MlflowException):  # if MLflow fails here too, still raise the first error
                    self.client.set_terminated(run.info.run_id, "FAILED")
                if not publication.scratch.exists():
                    raise OutageError(f"the temporary folder {scratch} was removed meanwhile") from error
                raise
        self._finish(run.info.run_id)

    def record_of(self, run_id: str) -> dict[str, Any]:
        """Return what PostgreSQL stores about a finished run: two digests, which detect later changes, and the files' sizes.

        `record_sha256` covers the run's name, params, metrics, tags and inputs; `manifest_sha256` covers manifest.json.
        """
        run = self.client.get_run(run_id)
        with TemporaryDirectory(prefix="rakuten-") as scratch:
            recorded = manifest_record(self.download(run, Artifact.MANIFEST, Path(scratch)))
        return {"record_sha256": record_sha256(run), **recorded}

    def _supersede_abandoned_runs(self, experiment: str, run_name: str, identity: Mapping[str, str]) -> None:
        for abandoned in self._runs(experiment, run_name, "RUNNING", identity):
            logger.warning("closing an earlier attempt's unfinished MLflow run", run_id=abandoned.info.run_id)
            self.supersede(abandoned.info.run_id)
        if self.finished_run(experiment, run_name, **identity):
            raise StageError(f"another attempt finished the MLflow run {run_name}; the next attempt uses it")

    def _finish(self, run_id: str) -> None:
        """Mark a run FINISHED. If a later attempt has tagged it as superseded, mark it KILLED and raise FencedError."""
        self.client.set_terminated(run_id, "FINISHED")
        if Tag.SUPERSEDED in self.client.get_run(run_id).data.tags:
            self.client.set_terminated(run_id, "KILLED")
            raise FencedError(f"a later attempt at the same batch superseded the MLflow run {run_id}")

    def _runs(self, experiment: str, run_name: str, status: str, tags: Mapping[str, str]) -> list[Run]:
        conditions = [f"attributes.run_name = '{run_name}'", f"attributes.status = '{status}'"]
        conditions += [f"tags.{name} = '{value}'" for name, value in tags.items()]
        found = self.client.search_runs([self.experiment_id(experiment)], " and ".join(conditions))
        return sorted(found, key=lambda run: int(run.data.tags.get(Tag.ATTEMPT, 0)))

    def _sqlite_init_lock(self) -> AbstractContextManager[None]:
        """Hold a file lock while the sqlite store is created, so that two processes do not both create its tables."""
        if not self._local:
            return nullcontext()
        self._directory.mkdir(parents=True, exist_ok=True)
        return file_lock(self._directory / ".lock", timeout_s=_INIT_LOCK_TIMEOUT_S)


def if_known(request: Callable[[], _T]) -> _T | None:
    """Return MLflow's answer to a request, or None if MLflow does not know the name or the id in the request."""
    try:
        return request()
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise


class Publication:
    """An unfinished MLflow run. `scratch` is a folder for files to log. `manifest` lists each file that was logged."""

    def __init__(self, client: MlflowClient, run_id: str, scratch: Path) -> None:
        self._client = client
        self.run_id = run_id
        self.scratch = scratch
        self.manifest = Manifest()

    def values(
        self,
        *,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        step: int | None = None,
    ) -> None:
        """Log params, metrics and tags in one call. With `step`, the week, MLflow draws metrics of several runs as a trend."""
        now_ms = time.time_ns() // 1_000_000
        self._client.log_batch(
            self.run_id,
            metrics=[Metric(name, value, now_ms, step or 0) for name, value in (metrics or {}).items()],
            params=[Param(name, str(value)) for name, value in (params or {}).items()],
            tags=[RunTag(name, value) for name, value in (tags or {}).items()],
        )

    def card(self, card: Card) -> None:
        """Log a card as the page card.html, and set it as the description that MLflow's page of the run shows."""
        self.text(Artifact.CARD, card.html())
        self.values(tags={MLFLOW_RUN_NOTE: card.markdown()})

    def file(self, path: Path, folder: str | None = None) -> None:
        """Log a file under its name, in a folder of the run's artifacts or in none."""
        self._client.log_artifact(self.run_id, str(path), folder)
        self.manifest.add(f"{folder}/{path.name}" if folder else path.name, path)

    def logged_model(self, uri: str) -> None:
        """Download a logged model and add its files to `manifest`: MLflow's `log_model` does not say which files it wrote."""
        directory = artifacts.download(uri, "", self.scratch / Artifact.MODEL, self._client.tracking_uri)
        for path in sorted(path for path in directory.rglob("*") if path.is_file()):
            self.manifest.add(f"{Artifact.MODEL}/{path.relative_to(directory)}", path)

    def text(self, name: str, content: str) -> None:
        path = self.scratch / name
        path.write_text(content, encoding="utf-8")
        self.file(path)

    def json(self, name: str, content: object) -> None:
        self.text(name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def figure(self, name: str, figure: "Figure") -> None:
        path = self.scratch / name
        figure.savefig(path, dpi=_FIGURE_DPI)
        self.file(path)

    def dataset(self, name: str, digest: str, source: str, context: str, profile: Mapping[str, Any]) -> None:
        """Log a dataset as an input of the run. `digest` covers all data; MLflow's own digest would cover only a part."""
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
