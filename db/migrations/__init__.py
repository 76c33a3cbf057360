"""Alembic revisions, which change tables and their rows. Functions, views, triggers and grants are in db/sql/schema."""

from importlib import resources

from alembic import op


def run_script(name: str) -> None:
    """Run the SQL file `name` from the folder `versions`. The Alembic revision that calls this is in the same folder."""
    script = resources.files(__name__).joinpath("versions", name).read_text(encoding="utf-8")
    # Pass the script directly to the database driver: SQLAlchemy would read ':' and '%' in the script as parameters.
    op.get_bind().connection.driver_connection.execute(script)  # type: ignore[union-attr]
