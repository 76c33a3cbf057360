"""Facts for the report that no database has: `facts_of(batches=loaded("week_1"))`."""

from datetime import UTC, datetime
from pathlib import Path

from rakuten.report.tables import TABLES, Facts, Table
from rakuten.storage import Place, Storage
from shared.disk import Disk

BATCHES = ["week_1", "week_2", "correction_1", "week_3"]
PLACES = [
    Place("database", "rakuten_db", 3 * 2**20, bytes_per_week=2**20),
    Place("current", "products", 2**20, bytes_per_week=2**20, is_part_of_database=True),
    Place("files", "mlflow.db", 2**20),
]
DISK = Disk(Path("/data"), 2**30, 3 * 2**20)


def scores(*values: float, width: float = 0.02) -> list[dict]:
    return [
        {
            "batch_name": name,
            "model_version": version,
            "f1": f1,
            "f1_low": f1 - width,
            "f1_high": f1 + width,
            "f1_macro": f1,
            "accuracy": f1,
            "became_champion": True,
        }
        for version, (name, f1) in enumerate(zip(BATCHES, values, strict=False), 1)
    ]


def facts_of(*, at_rest: bool = False, weeks_to_come: int = 1, **rows: list[dict]) -> Facts:
    tables = {name: Table(name, f"-- {name}", rows.get(name, []), ()) for name in TABLES}
    storage = Storage(PLACES, DISK, weeks_to_come)
    return Facts(datetime(2026, 1, 5, tzinfo=UTC), "rakuten_db", tables, storage, at_rest)


def loaded(*names: str) -> list[dict]:
    return [
        {
            "batch_name": name,
            "kind": name.partition("_")[0],
            "percentage": 40.0,
            "total_rows": 50,
            "file_rows": 100,
        }
        for name in names
    ]


def built(*names: str) -> list[dict]:
    return [{"batch_name": name, "stage": "snapshot", "state": "finished"} for name in names]


def champion_of(version: int | None, batch_name: str | None, f1: float | None) -> dict:
    columns = (
        "chain_number completed_at total_rows seal dataset_run_id dataset_sha256 dataset_digest dataset_rows model_run_id "
        "manifest_sha256 f1_low f1_high moved_at moved_by kind reason"
    )
    return {**dict.fromkeys(columns.split()), "version": version, "batch_name": batch_name, "f1": f1}
