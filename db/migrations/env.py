"""Run the Alembic migrations on the connection that `db.schema.upgrade` passes in. Alembic runs this file."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
