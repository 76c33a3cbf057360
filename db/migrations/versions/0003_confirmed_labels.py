"""Remember the labels that a person has confirmed, so that nobody is asked about them again."""

from db.migrations import run_script

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    run_script("0003_confirmed_labels.sql")
