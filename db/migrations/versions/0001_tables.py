"""Create the tables and their indexes."""

from db.migrations import run_script

revision = "0001"
down_revision = None


def upgrade() -> None:
    run_script("0001_tables.sql")
