"""Outages that are waited out, stages that are opened again, the wake ledger, a doctor that knows a deaf listener."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("drop function if exists pipeline_doctor(interval)")  # it has a further argument now


def downgrade() -> None:
    raise RuntimeError("the audit trail is append-only: restore a backup instead of going back")
