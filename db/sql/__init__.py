"""SQL lives in `.sql` files. This package reads them."""

from collections.abc import Iterator
from functools import cache
from importlib import resources


@cache
def query(name: str) -> str:
    """Return the statement in `queries/{name}.sql`; the name has its topic, as in `load/merge_products`."""
    return resources.files(__name__).joinpath("queries", f"{name}.sql").read_text(encoding="utf-8")


def schema_scripts() -> Iterator[tuple[str, str]]:
    """Return name and text of each script of the schema, in the order in which they run.

    Each can be repeated (`create or replace`, `drop ... if exists`). What that cannot change, such as the columns of a view or the
    signature of a function, a revision drops first.
    """
    scripts = resources.files(__name__).joinpath("schema").iterdir()
    for script in sorted(scripts, key=lambda script: script.name):
        if script.name.endswith(".sql"):
            yield script.name, script.read_text(encoding="utf-8")
