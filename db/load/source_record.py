"""Check that the source files, and the settings that choose the rows, are still those that the first load recorded."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from db.load.writing import Connection, translate_errors
from db.source.file_names import find_source_file
from db.source.training_set import TrainingSet, fingerprints
from db.sql import query
from shared.config import Settings
from shared.errors import SourceChangedError


def recorded_source(connection: Connection) -> dict[str, Any] | None:
    """Return what the first load recorded about the source files and settings, or None before the first load.

    The keys are `files` (the SHA-256 of each file, by name), `total_rows`, `random_seed` and `holdout_percentage`.
    """
    _name, _percentage, recorded = last_batch(connection)
    return recorded


def last_batch(connection: Connection) -> tuple[str | None, Decimal | None, dict[str, Any] | None]:
    with translate_errors("reading data_loads"):
        row = connection.execute(query("load/last_batch")).fetchone()
        connection.commit()
    return (row[0], row[1], row[2]) if row else (None, None, None)


def source_record(settings: Settings, training_set: TrainingSet) -> dict[str, Any]:
    return {
        "files": fingerprints(settings.data_path),
        "total_rows": training_set.total_rows,
        "random_seed": settings.random_seed,
        "holdout_percentage": settings.holdout_percentage,
    }


def require_unchanged_source(
    recorded: Mapping[str, Any], settings: Settings, training_set: TrainingSet
) -> dict[str, Any]:
    """Raise an error if the source files or settings differ from those of the first load. If not, return their record.

    Args:
        recorded: the result of `recorded_source`.
        settings: the current settings.
        training_set: the training set, read from the files in DATA_PATH.

    Raises:
        SourceChangedError: a file, or a setting that chooses the rows, differs. The message names the file or setting.
    """
    require_unchanged_settings(recorded, settings)
    current = source_record(settings, training_set)
    for name in sorted(recorded["files"] | current["files"]):
        then, now = recorded["files"].get(name), current["files"].get(name)
        if then != now:
            file = find_source_file(settings.data_path, name).name  # the name may have a suffix
            change = "is missing" if now is None else "has appeared" if then is None else "has changed"
            raise SourceChangedError(
                f"{file} {change} since the first load: SHA-256 was {then or '(no file)'}, is {now or '(no file)'}",
                remedy="source files are immutable: restore the original, or start afresh with another STATE_PATH or database",
            )
    return current


def require_unchanged_settings(recorded: Mapping[str, Any], settings: Settings) -> None:
    """Raise an error if `settings` would choose other rows than the settings of the first load did.

    Raises:
        SourceChangedError: RANDOM_SEED or HOLDOUT_PERCENTAGE differs.
    """
    for setting in ("random_seed", "holdout_percentage"):
        then, now = recorded[setting], getattr(settings, setting)
        if then != now:
            raise SourceChangedError(
                f"{setting.upper()} was {then} at the first load and is {now} now",
                remedy=f"this setting decides which rows are loaded and which are held out: set {setting.upper()}={then}",
            )
