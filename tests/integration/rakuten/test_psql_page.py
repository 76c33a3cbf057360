"""The queries of docs/how-to/psql.md work as they are written there."""

import re
from contextlib import ExitStack

import pytest
from repository import ROOT

from db.connect import connect
from db.database import Role
from shared.events import Stage

PAGE = (ROOT / "docs/how-to/psql.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"^```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("query", QUERIES, ids=[query.splitlines()[0].strip("- ") for query in QUERIES])
def test_a_query_returns_rows_after_the_first_week(query, load_weeks, as_role):
    load_weeks(1)
    with as_role(Role.READER) as connection:
        assert connection.execute(query).fetchall()


def test_the_page_says_that_nothing_is_wrong(load_weeks, database):
    load_weeks(1)
    [query] = [query for query in QUERIES if "pipeline_doctor" in query]
    with ExitStack() as listeners:
        for stage in Stage:
            name = f"rakuten {stage} listen"
            listeners.enter_context(connect(database.conninfo(Role[stage.upper()]), name, autocommit=True))
        reader = listeners.enter_context(connect(database.conninfo(Role.READER), "test"))
        assert [row[0] for row in reader.execute(query)] == ["nothing is wrong"]


def test_the_page_has_thirteen_queries():
    assert len(QUERIES) == 13
