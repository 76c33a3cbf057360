"""The steps of the weekly load, as the DAG takes them."""

from db import load, source


def read(settings) -> source.TrainingSet:
    return source.read_training_set(settings.data_path, settings.random_seed, settings.holdout_percentage)


def plan_of(connection, settings, training_set=None) -> load.LoadPlan | None:
    return load.check_current_state(connection, settings, training_set or read(settings))


def load_next(connection, settings, training_set=None) -> int:
    """The first two of the four steps; returns the batch."""
    training_set = training_set or read(settings)
    return load.load_increment(connection, plan_of(connection, settings, training_set), training_set).batch_id


def finish(connection, batch_id: int) -> None:
    load.validate_data_load(connection, batch_id)
    load.complete_batch(connection, batch_id)
