"""The tables, the audit trail, the stages' queue, the views and the roles."""

from alembic import op

from db.sql import schema_scripts

revision = "0001"
down_revision = None


def upgrade() -> None:
    # Straight to the driver: SQLAlchemy would take ':' and '%' in the scripts for parameters.
    driver_connection = op.get_bind().connection.driver_connection
    for _name, script in schema_scripts():
        driver_connection.execute(script)  # type: ignore[union-attr]


def downgrade() -> None:
    raise RuntimeError("the audit trail is append-only: restore a backup instead of going back")
