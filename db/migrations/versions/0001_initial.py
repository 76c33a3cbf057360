"""The tables, the audit trail, the stages' queue, the views and the roles."""

from alembic import op

from db.sql import apply_schema

revision = "0001"
down_revision = None


def upgrade() -> None:
    apply_schema(op.get_bind())


def downgrade() -> None:
    raise RuntimeError("the audit trail is append-only: restore a backup instead of going back")
