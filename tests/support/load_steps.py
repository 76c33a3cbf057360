"""The steps of the weekly load, as the DAG takes them."""

from db.load import steps
from db.source.training_set import TrainingSet, read_training_set


def read(settings) -> TrainingSet:
    return read_training_set(settings.data_path, settings.random_seed, settings.holdout_percentage)


def plan_of(connection, settings, training_set=None) -> steps.LoadPlan | None:
    return steps.check_current_state(connection, settings, training_set or read(settings))


def load_next(connection, settings, training_set=None) -> int:
    """The first two of the four steps; returns the batch."""
    training_set = training_set or read(settings)
    return steps.load_increment(
        connection, plan_of(connection, settings, training_set), training_set
    ).batch_id


def finish(connection, batch_id: int) -> None:
    steps.validate_data_load(connection, batch_id)
    steps.complete_batch(connection, batch_id)
