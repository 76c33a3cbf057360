"""SQL is code: it lives in `.sql` files, read here."""

from collections.abc import Iterator
from functools import cache
from importlib import resources

import sqlalchemy


@cache
def query(name: str) -> str:
    """The statement in `queries/{name}.sql`."""
    return resources.files(__name__).joinpath("queries", f"{name}.sql").read_text(encoding="utf-8")


def schema_scripts() -> Iterator[tuple[str, str]]:
    """Name and text of each script of the schema, in the order in which they apply."""
    scripts = resources.files(__name__).joinpath("schema").iterdir()
    for script in sorted(scripts, key=lambda script: script.name):
        if script.name.endswith(".sql"):
            yield script.name, script.read_text(encoding="utf-8")


def apply_schema(connection: sqlalchemy.Connection) -> None:
    """Run every script of the schema.

    They are written to be repeated (`create or replace`, `if not exists`): a revision changes what that cannot change, a column
    or a signature, and then applies them all. So there is one place to read what a function does. The price: earlier revisions
    apply today's scripts, too, and have to drop what a later one changes.
    """
    # Straight to the driver: SQLAlchemy would take ':' and '%' in the scripts for parameters.
    driver_connection = connection.connection.driver_connection
    for _name, script in schema_scripts():
        driver_connection.execute(script)  # type: ignore[union-attr]
