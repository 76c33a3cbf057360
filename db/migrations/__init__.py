"""Schema versions: Alembic migrations whose SQL lives in `db/sql/schema`."""
