"""Let only one database write to MLflow's experiments and registered model.

Several databases may share one MLflow. If two of them wrote to the same names, each would move the other's champion. So the
experiments and the registered model have a tag with the identity of the database that owns them. A second database is refused,
until the setting MLFLOW_NAME_PREFIX gives it names of its own.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import psycopg
from mlflow.exceptions import MlflowException
from psycopg.rows import TupleRow

from listeners.tracking.descriptions import EXPERIMENT_TAGS, REGISTERED_MODEL
from listeners.tracking.runs import Tracking, if_known
from shared.errors import OutageError
from shared.mlflow_names import DATASET_EXPERIMENT, MODEL_EXPERIMENT, Tag

FOREIGN_REMEDY: Final = (
    "give this database names of its own: set MLFLOW_NAME_PREFIX, for example to staging_, for all listeners and commands; "
    "if this database replaces the other one, for example after a restore, run: rakuten db adopt"
)


def own_names(tracking: Tracking, connection: psycopg.Connection[TupleRow]) -> str:
    """Claim the names in MLflow for this database, unless another database owns them. Return this database's identity.

    MLflow creates an experiment or a registered model together with its tag, so of two databases that start at once only one
    becomes the owner. A stage calls this function at the start of each job. So it also finds out that `rakuten db adopt` has
    made another database the owner.

    Raises:
        OutageError: another database owns a name. No batch is at fault, so the stage waits until a person corrects the setting.
    """
    identity = identity_of(connection)
    names = {tracking.full_name(name) for name in (DATASET_EXPERIMENT, MODEL_EXPERIMENT)}
    if owners(tracking) != dict.fromkeys({*names, tracking.registered_model}, identity):
        for name in (DATASET_EXPERIMENT, MODEL_EXPERIMENT):
            tracking.experiment_id(name, {Tag.DATABASE: identity, **EXPERIMENT_TAGS[name]})
        _create_registered_model(tracking, identity)
        _tag(tracking, identity, (name for name, owner in owners(tracking).items() if owner is None))
        require_own(owners(tracking), identity)
    return identity


def adopt_names(tracking: Tracking, connection: psycopg.Connection[TupleRow]) -> list[str]:
    """Make this database the owner of its names in MLflow, even if another database owned them. Return the names."""
    names = list(owners(tracking))
    _tag(tracking, identity_of(connection), names)
    return names


def identity_of(connection: psycopg.Connection[TupleRow]) -> str:
    """Return the identity of the database (db/sql/schema/025_database_identity.sql)."""
    [(identity,)] = connection.execute("select database_identity()").fetchall()
    return str(identity)


def owners(tracking: Tracking) -> dict[str, str | None]:
    """Return the identity of the database that owns each name in MLflow, or None for a name that no database owns.

    Names that do not exist in MLflow are left out.
    """
    found: dict[str, str | None] = {}
    for name in map(tracking.full_name, (DATASET_EXPERIMENT, MODEL_EXPERIMENT)):
        if (experiment := tracking.client.get_experiment_by_name(name)) is not None:
            found[name] = experiment.tags.get(Tag.DATABASE)
    model = if_known(lambda: tracking.client.get_registered_model(tracking.registered_model))
    if model is not None:
        found[tracking.registered_model] = model.tags.get(Tag.DATABASE)
    return found


def require_own(owners: Mapping[str, str | None], identity: str) -> None:
    """Raise OutageError if another database owns one of the names."""
    for name, owner in owners.items():
        if owner not in {None, identity}:
            raise OutageError(
                f"{name} in MLflow belongs to the database {owner}; this database is {identity}",
                remedy=FOREIGN_REMEDY,
            )


def _create_registered_model(tracking: Tracking, identity: str) -> None:
    try:
        tracking.client.create_registered_model(
            tracking.registered_model, {Tag.DATABASE: identity}, REGISTERED_MODEL
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _tag(tracking: Tracking, identity: str, names: Iterable[str]) -> None:
    client = tracking.client
    for name in names:
        if name == tracking.registered_model:
            client.set_registered_model_tag(name, Tag.DATABASE, identity)
        elif (experiment := client.get_experiment_by_name(name)) is not None:
            client.set_experiment_tag(experiment.experiment_id, Tag.DATABASE, identity)
