"""Move the functions that only the code of the pipeline calls to the schema `internal`."""

from db.migrations import run_script

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run_script("0002_internal_schema.sql")
