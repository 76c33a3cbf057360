"""Write db/sql/schema/028_categories.sql: the view `categories`, made from shared/categories.py. `make schema` runs this."""

from typing import Final

from repository import ROOT

from shared.categories import CATEGORIES

PATH: Final = ROOT / "db/sql/schema/028_categories.sql"
_HEADER: Final = """\
-- The name of each product class. `make schema` writes this file from shared/categories.py: change the names there.
create or replace view categories as
select prdtypecode, name
from (
    values
"""
_FOOTER: Final = """
) as named (prdtypecode, name);
"""


def as_sql() -> str:
    """Return the script that creates the view `categories`."""
    rows = (f"        ({code}, '{category.name}')" for code, category in sorted(CATEGORIES.items()))
    return _HEADER + ",\n".join(rows) + _FOOTER


if __name__ == "__main__":
    PATH.write_text(as_sql(), encoding="utf-8")
