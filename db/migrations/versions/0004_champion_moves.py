"""Record each move of the alias `champion` in PostgreSQL, too, so that PostgreSQL can notify the model server."""

from db.migrations import run_script

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_script("0004_champion_moves.sql")
