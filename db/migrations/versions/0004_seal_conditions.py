"""The trigger that seals a batch has become several, each with its condition; claims are planned once."""

from alembic import op

from db.sql import apply_schema

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("drop function if exists claim_next(text, text, text, interval, jsonb)")  # it returns more now
    op.execute("drop trigger if exists _100_seal on data_loads")
    apply_schema(op.get_bind())


def downgrade() -> None:
    raise RuntimeError("the audit trail is append-only: restore a backup instead of going back")
