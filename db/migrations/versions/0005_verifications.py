"""Remember when `rakuten verify` last ran and what it found, so that an alert can say that it found a change, or did not run."""

from db.migrations import run_script

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    run_script("0005_verifications.sql")
