"""Schema revisions: what happens to tables and their rows. Functions, views, triggers and grants are in db/sql/schema."""

from importlib import resources

from alembic import op


def run_script(name: str) -> None:
    """Run a revision's SQL file, which lies beside it."""
    script = resources.files(__name__).joinpath("versions", name).read_text(encoding="utf-8")
    # Straight to the driver: SQLAlchemy would take ':' and '%' in the script for parameters.
    op.get_bind().connection.driver_connection.execute(script)  # type: ignore[union-attr]
