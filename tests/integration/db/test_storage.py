"""The view `storage` measures what PostgreSQL holds, and shows what the stages recorded about the files of MLflow."""

from pathlib import Path

import pytest
from psycopg.types.json import Jsonb
from stage_work import work_on

from db.database import Role
from listeners.tracking.runs import Tracking
from shared.mlflow_names import DATASET_EXPERIMENT, MODEL_EXPERIMENT, Tag


def storage(connection):
    rows = connection.execute("select object, bytes, runs_without_size from storage").fetchall()
    return {name: (size, missing) for name, size, missing in rows}


def size_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def test_tables_are_measured_with_their_indexes(reader, load_weeks):
    load_weeks(1)
    [database] = reader.execute("select pg_database_size(current_database())").fetchone()
    rows = reader.execute(
        "select object, bytes, index_bytes from storage where is_part_of_database"
    ).fetchall()
    assert {name for name, _, _ in rows} == {
        "products",
        "labels",
        "products_history",
        "labels_history",
        "data_loads",
    }
    assert all(size > index_size > 0 for _, size, index_size in rows)
    assert sum(size for _, size, _ in rows) < database
    assert storage(reader)[reader.info.dbname][0] == database  # nothing has changed in between


def test_files_are_as_large_as_the_stages_recorded(reader, database, settings, load_weeks):
    for batch_id in load_weeks(2):
        work_on(database, settings, batch_id)
    tracking = Tracking(settings)
    shown = storage(reader)
    folders = {
        name: [
            Path(run.info.artifact_uri.removeprefix("file://"))
            for run in tracking.runs(experiment, Tag.BATCH_ID)
        ]
        for name, experiment in (("datasets", DATASET_EXPERIMENT), ("models", MODEL_EXPERIMENT))
    }
    assert [len(runs) for runs in folders.values()] == [2, 2]
    assert shown["datasets"] == (sum(map(size_of, folders["datasets"])), 0)
    assert shown["training_snapshots"] == (size_of(settings.snapshots_path), 0)
    in_sets = [shown[name] for name in ("holdout_df", "test_df")]
    assert all(size > 0 and missing == 0 for size, missing in in_sets)
    # MLflow keeps the model beside the files of its run, and adds files of its own, such as the promotion's record
    size, missing = shown["models"]
    assert (
        0.9 * size_of(settings.mlflow_path / "artifacts")
        < size + shown["datasets"][0] + sum(size for size, _ in in_sets)
        <= size_of(settings.mlflow_path / "artifacts")
    )
    assert missing == 0


@pytest.mark.parametrize(
    "sizes", [None, "x", {"a": "x"}, {"a": {"b": 1}}, [1], {"train_week_1.parquet": None}], ids=str
)
def test_a_record_without_a_usable_size_is_counted_and_breaks_nothing(reader, load_weeks, as_role, sizes):
    [batch_id] = load_weeks(1)
    result = {"run_id": "r", "dataset": "train_week_1", "fixed_sets": "none"}
    if sizes is not None:
        result["artifact_bytes"] = sizes
    with as_role(Role.SNAPSHOT) as snapshot:
        snapshot.execute("select claim_stage(%s, 'snapshot', 'w', 'start', '0')", [batch_id])
        snapshot.execute("select finish_stage(%s, 'snapshot', 1, %s)", [batch_id, Jsonb(result)])
    shown = storage(reader)
    assert shown["datasets"] == (0, 1)
    assert shown["training_snapshots"] == (0, 1)
