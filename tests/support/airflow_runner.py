"""A real Airflow in a process of its own: reads requests from stdin, runs the DAG, writes what happened to stdout.

One JSON object a line, both ways. A request names the environment the DAG sees, the run's conf, and faults: by dotted name of
a function, what happens at its first calls ("before" or "after" its work it raises; before "overtaken" work, another loader
completes the batch).
Airflow's metadata database is made here, in AIRFLOW_HOME.
"""

import importlib
import json
import os
import sys
from contextlib import ExitStack
from datetime import timedelta
from unittest.mock import patch

from airflow.dag_processing.dagbag import DagBag
from airflow.models.asset import AssetActive, AssetEvent
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from repository import ROOT
from sqlalchemy import delete, select

DAG_FILE = ROOT / "dags" / "weekly_ml_pipeline_dag.py"
DAG_ID = "weekly_ml_pipeline"


def faulty(function, faults):
    left = list(faults)

    def call(*args, **kwargs):
        fault = left.pop(0) if left else None
        if fault == "before":
            raise RuntimeError(f"injected before {function.__name__}")
        if fault == "overtaken":
            importlib.import_module("db.load.steps").complete_batch(*args)
        result = function(*args, **kwargs)
        if fault == "after":
            raise RuntimeError(f"injected after {function.__name__}")
        return result

    return call


def parse():
    bag = DagBag(dag_folder=DAG_FILE)
    return bag.import_errors, bag.dags.get(DAG_ID)


def describe():
    before = set(sys.modules)
    import_errors, dag = parse()
    if dag is None:
        return {"import_errors": list(import_errors.values())}
    return {
        "import_errors": list(import_errors.values()),
        "imported": sorted({name.partition(".")[0] for name in set(sys.modules) - before}),
        "dag_id": dag.dag_id,
        "schedule": dag.timetable.expression,
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "start_date": dag.start_date.isoformat(),
        "params": {
            name: param.schema | {"default": param.value, "description": param.description}
            for name, param in dag.params.items()
        },
        "tags": sorted(dag.tags),
        "description": dag.description,
        "doc_md": dag.doc_md,
        "tasks": {
            task.task_id: {
                "downstream": sorted(task.downstream_task_ids),
                "retries": task.retries,
                "retry_delay_s": task.retry_delay.total_seconds(),
                "max_retry_delay_s": task.max_retry_delay.total_seconds(),
                "backoff": task.retry_exponential_backoff,
                "never_retried": [rule.exception_path for rule in task.retry_policy.rules],
                "timeout_s": task.execution_timeout.total_seconds(),
                "owner": task.owner,
                "doc_md": task.doc_md,
                "display_name": task.task_display_name,
                "outlets": [[asset.name, asset.uri] for asset in task.outlets],
            }
            for task in dag.topological_sort()
        },
    }


def run(conf, faults, marked=None):
    import_errors, dag = parse()
    if dag is None:
        raise RuntimeError(import_errors)
    for task in dag.tasks:
        task.retry_delay = timedelta(0)
        task.retry_exponential_backoff = 0
    forget_other_databases(dag)
    with ExitStack() as stack:
        for name, kinds in faults.items():
            module, function = name.rsplit(".", 1)
            original = getattr(importlib.import_module(module), function)
            stack.enter_context(patch(name, faulty(original, kinds)))
        dag_run = dag.test(run_conf=conf, mark_success_pattern=marked)
    return {"state": dag_run.state, **recorded(dag_run)}


def forget_other_databases(dag):
    """An asset's name has one active URI: the scheduler sees to it, and none runs here."""
    uris = [asset.uri for task in dag.tasks for asset in task.outlets]
    with create_session() as session:
        session.execute(delete(AssetActive).where(AssetActive.uri.not_in(uris)))


def recorded(dag_run):
    """What the metadata database holds of a run."""
    with create_session() as session:
        instances = session.scalars(select(TaskInstance).where(TaskInstance.run_id == dag_run.run_id)).all()
        values = session.scalars(
            select(XComModel).where(XComModel.run_id == dag_run.run_id, XComModel.key == "return_value")
        ).all()
        events = session.scalars(
            select(AssetEvent).where(AssetEvent.source_run_id == dag_run.run_id).order_by(AssetEvent.id)
        ).all()
        return {
            "tasks": {instance.task_id: [instance.state, instance.try_number] for instance in instances},
            "values": {value.task_id: XComModel.deserialize_value(value) for value in values},
            "asset_events": [[event.asset.name, event.extra] for event in events],
        }


def serve(results):
    initdb()
    for line in sys.stdin:
        request = json.loads(line)
        with patch.dict("os.environ", request["environment"]):
            answer = run(**request["run"]) if "run" in request else describe()
        print(json.dumps(answer), file=results, flush=True)


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever Airflow prints goes to the log
    serve(answers)
