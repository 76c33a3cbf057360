"""One batch, and a listener that is killed with SIGKILL at one step boundary after the other.

These are the boundaries around what a stage publishes. `make chaos` kills at every boundary, but each time another batch.
"""

import sys
from pathlib import Path

import breakpoints
import pausable_listener
import pytest
from breakpoints import Boundary, breakpoint_at
from listener_processes import Listeners

from listeners.tracking.runs import Tracking
from shared.events import Stage
from shared.mlflow_names import DATASET_EXPERIMENT, MODEL_EXPERIMENT

BOUNDARIES = {
    Stage.SNAPSHOT: [Boundary.AFTER_CLAIM, Boundary.LOGGED, Boundary.BEFORE_COMMIT, Boundary.AFTER_COMMIT],
    Stage.TRAINING: [Boundary.LOGGED, Boundary.REGISTERED, Boundary.BEFORE_COMMIT, Boundary.AFTER_COMMIT],
}
RUNS = {
    Stage.SNAPSHOT: (DATASET_EXPERIMENT, "train_week_1"),
    Stage.TRAINING: (MODEL_EXPERIMENT, "model_week_1"),
}


@pytest.fixture
def listeners(database, settings):
    running = Listeners(database, settings)
    yield running
    running.kill()


def killed_at_each_boundary(listeners, stage: Stage, directory: Path) -> None:
    for boundary in BOUNDARIES[stage]:
        with breakpoint_at(directory, stage, boundary) as breakpoint_:
            process = listeners.run(
                stage,
                [sys.executable, Path(pausable_listener.__file__), stage],
                **{breakpoints.DIRECTORY: str(directory)},
            )
            listeners.processes[stage] = process
            breakpoint_.wait()
            process.kill()
            process.wait()
        del listeners.processes[stage]


def test_a_batch_ends_with_one_dataset_and_one_model_whenever_its_listeners_are_killed(
    listeners, load_weeks, settings, tmp_path
):
    [batch_id] = load_weeks(1)
    killed_at_each_boundary(listeners, Stage.SNAPSHOT, tmp_path)
    killed_at_each_boundary(listeners, Stage.TRAINING, tmp_path)

    [row] = listeners.status()
    assert (row["snapshot_state"], row["training_state"]) == ("finished", "finished")
    # no failure is counted for a death, however many there were; every claim drew a number
    assert (row["snapshot_attempts"], row["training_attempts"]) == (4, 4)
    tracking = Tracking(settings)
    for experiment, name in RUNS.values():
        runs = tracking.client.search_runs(
            [tracking.experiment_id(experiment)], f"attributes.run_name = '{name}'"
        )
        assert [run.info.status for run in runs].count("FINISHED") == 1
        assert "RUNNING" not in [run.info.status for run in runs]
        [finished] = [run for run in runs if run.info.status == "FINISHED"]
        assert finished.data.tags["batch_id"] == str(batch_id)
    assert len(tracking.client.search_model_versions("name = 'rakuten_classifier'")) == 1
    assert tracking.client.get_model_version_by_alias("rakuten_classifier", "champion").version == 1
