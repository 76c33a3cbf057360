"""What the README tells people to type works."""

import re

import pytest
from repository import ROOT

from db.database import Role

README = (ROOT / "README.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"^```sql\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
QUIET = ("waits for the training", "outside any batch")  # rightly empty when all is well


@pytest.mark.parametrize("query", QUERIES, ids=[query.splitlines()[0].strip("- ") for query in QUERIES])
def test_a_query_of_the_cookbook_answers(query, load_weeks, as_role):
    load_weeks(2)
    with as_role(Role.READER) as connection:
        rows = connection.execute(query).fetchall()
    assert rows or any(words in query for words in QUIET)


def test_the_cookbook_holds_ten_queries():
    assert len(QUERIES) == 10


def test_every_make_target_that_is_named_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
