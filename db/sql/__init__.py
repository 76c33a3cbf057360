"""SQL is code: it lives in `.sql` files, read here."""

from collections.abc import Iterator
from functools import cache
from importlib import resources


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
