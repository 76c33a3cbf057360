"""Build the pipeline's OpenLineage events with the classes of OpenLineage's client, and connect to an OpenLineage server.

Only the background threads that write and send the events import this module, because the import of
OpenLineage's client takes half a second.
"""

import importlib.metadata
from functools import cache
from typing import Any, Final

from openlineage.client import constants
from openlineage.client.event_v2 import Job, Run, RunEvent, RunState, set_producer
from openlineage.client.facet_v2 import (
    error_message_run,
    job_type_job,
    parent_run,
    processing_engine_run,
)
from openlineage.client.serde import Serde
from openlineage.client.transport.http import HttpConfig, HttpTransport
from openlineage.client.uuid import generate_static_uuid

from shared.batch import Batch
from shared.config import Settings
from shared.logs import censor
from shared.openlineage import datasets
from shared.openlineage.emitter import JobName, Transition

_PACKAGE: Final = "rakuten-pipeline"
# Each event names its producer, the program that made it. OpenLineage requires a URI, here a package URL.
set_producer(f"pkg:generic/{_PACKAGE}@{importlib.metadata.version(_PACKAGE)}")

_BATCH_JOB: Final = "batch"  # name of the OpenLineage job that is the parent of load, snapshot and training
_DATASETS_OF: Final = {
    JobName.LOAD: datasets.of_load,
    JobName.SNAPSHOT: datasets.of_snapshot,
    JobName.TRAINING: datasets.of_training,
}


def run_event(transition: Transition, settings: Settings) -> RunEvent:
    """Return the OpenLineage event for a transition of a job, such as its start or its end.

    The event contains everything known so far about the job's run, inputs and outputs.
    """
    inputs, outputs = _DATASETS_OF[transition.job](transition, settings)
    return RunEvent(
        eventTime=transition.at.isoformat(),
        eventType=RunState[transition.state],
        run=Run(run_id(transition, settings), _run_facets(transition, settings)),
        job=Job(
            settings.openlineage_namespace,
            str(transition.job),
            {"jobType": job_type_job.JobTypeJobFacet("BATCH", "RAKUTEN", "JOB")},
        ),
        inputs=inputs,
        outputs=outputs,
    )


def run_id(transition: Transition, settings: Settings) -> str:
    """Return the OpenLineage run id of an attempt at a job. Every event of the attempt has this id, in every process.

    The id depends only on the settings and on values in the database. It is a UUIDv7, as OpenLineage's specification advises.
    Its first part is a time: the `started_at` of the batch. Its second part is a hash of the namespace, job, batch id and
    attempt. The hash distinguishes the runs of one batch, which all have the same time.
    """
    return _uuid(settings, transition.job, transition.batch, transition.attempt)


def as_json(event: RunEvent) -> str:
    """Return the event as JSON on one line."""
    return Serde.to_json(event)


def transport(settings: Settings, timeout_s: float) -> HttpTransport:
    """Return the HTTP transport to the OpenLineage server. The transport never retries, because a file has every event, too."""
    url = str(settings.openlineage_url)
    config: dict[str, Any] = {
        # Without the final slash, the client would replace the last part of the URL's path with the path of its endpoint.
        "url": url if url.endswith("/") else f"{url}/",
        "timeout": timeout_s,
        "retry": {"total": 0, "connect": 0, "read": 0},
    }
    if settings.openlineage_api_key is not None:
        config["auth"] = {"type": "api_key", "apiKey": settings.openlineage_api_key.get_secret_value()}
    return HttpTransport(HttpConfig.from_dict(config))


def _uuid(settings: Settings, job: str, batch: Batch, attempt: int) -> str:
    what = f"{settings.openlineage_namespace}.{job}.{batch.id}.{attempt}"
    return str(generate_static_uuid(batch.started_at, what.encode()))


def _run_facets(transition: Transition, settings: Settings) -> dict[str, Any]:
    facets: dict[str, Any] = {
        "parent": parent_run.ParentRunFacet(
            parent_run.Run(_uuid(settings, _BATCH_JOB, transition.batch, 1)),
            parent_run.Job(settings.openlineage_namespace, _BATCH_JOB),
        ),
        "processing_engine": _engine(transition),
    }
    if transition.error is not None:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(censor(transition.error), "PYTHON")
    return facets


def _engine(transition: Transition) -> processing_engine_run.ProcessingEngineRunFacet:
    """Return the facet with the name and version of the program that does the heavy work, for example PostgreSQL for a load."""
    match transition.job:
        case JobName.LOAD:
            name, version = "PostgreSQL", transition.server_version
        case JobName.SNAPSHOT:
            name, version = "pyarrow", _installed("pyarrow")
        case JobName.TRAINING:
            name, version = "scikit-learn", _installed("scikit-learn")
    return processing_engine_run.ProcessingEngineRunFacet(version, name, constants.__version__)


@cache
def _installed(distribution: str) -> str:
    return importlib.metadata.version(distribution)
