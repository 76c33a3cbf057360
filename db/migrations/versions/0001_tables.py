"""Create the tables of the pipeline's database, and the indexes of these tables."""

from db.migrations import run_script

revision = "0001"
down_revision = None


def upgrade() -> None:
    run_script("0001_tables.sql")
