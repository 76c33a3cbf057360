"""Seals: a digest of each batch's history, chained to the batch before. Batches that are complete already are sealed now."""

from alembic import op

from db.sql import apply_schema, query

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute(
        "drop index if exists products_history_product, labels_history_label"
    )  # they include columns now
    op.execute("drop function if exists claim_next(text, text, text, interval, jsonb)")  # it returns more now
    op.execute("drop trigger if exists _100_seal on data_loads")  # it has become several
    apply_schema(op.get_bind())
    op.get_bind().connection.driver_connection.execute(query("seal_completed_batches"))  # type: ignore[union-attr]


def downgrade() -> None:
    raise RuntimeError("the audit trail is append-only: restore a backup instead of going back")
