"""Read the SQL statements (db/sql/queries) and the schema scripts (db/sql/schema) from their `.sql` files."""

from collections.abc import Iterator
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable


@cache
def query(name: str) -> str:
    """Return the SQL statement in `queries/{name}.sql`. `name` includes a folder, for example `load/merge_products`."""
    return resources.files(__name__).joinpath("queries", f"{name}.sql").read_text(encoding="utf-8")


def schema_scripts() -> Iterator[tuple[str, str]]:
    """Return the file name and the text of each script in db/sql/schema, in the order in which the scripts run.

    Every script can run again (`create or replace`, `drop ... if exists`). `create or replace` cannot change the columns of a
    view or the signature of a function. To change these, the script or an Alembic revision must first drop the
    view or function.
    """
    yield from _scripts(resources.files(__name__).joinpath("schema"))


def migrations() -> Iterator[tuple[str, str]]:
    """Return the file name and the text of the SQL of each migration in db/migrations/versions, in their order."""
    yield from _scripts(resources.files("db").joinpath("migrations", "versions"))


def _scripts(folder: Traversable) -> Iterator[tuple[str, str]]:
    for script in sorted(folder.iterdir(), key=lambda script: script.name):
        if script.name.endswith(".sql"):
            yield script.name, script.read_text(encoding="utf-8")
