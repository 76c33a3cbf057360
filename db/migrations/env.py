"""Run the migrations on the connection that `db.schema.upgrade` passes in. Alembic starts here."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
