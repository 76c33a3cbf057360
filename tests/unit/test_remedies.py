"""No remedy is only a text: each is in a list, with the test that follows it, or with the reason why no test can."""

import ast
import tomllib

from remedies import remedies
from repository import ROOT

LISTED = tomllib.loads((ROOT / "tests" / "unit" / "remedies.toml").read_text())
FOLLOWED, NOT_FOLLOWED = LISTED["followed"], LISTED["not_followed"]


def test_every_remedy_has_a_test_that_follows_it_or_a_reason_why_none_can():
    found = remedies()
    unlisted = {text: file for text, file in found.items() if text not in FOLLOWED | NOT_FOLLOWED}
    assert not unlisted, "add these to tests/unit/remedies.toml, with a test that follows them"


def test_no_remedy_is_listed_that_the_code_does_not_give():
    assert sorted((FOLLOWED | NOT_FOLLOWED).keys() - remedies().keys()) == []
    assert sorted(FOLLOWED.keys() & NOT_FOLLOWED.keys()) == []


def test_every_test_that_is_named_exists():
    for place in set(FOLLOWED.values()):
        file, _, name = place.partition("::")
        tree = ast.parse((ROOT / file).read_text())
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        assert name in {function.name for function in functions}, place


def test_every_kind_of_remedy_is_found():
    found = remedies()
    for text in (
        "remove it",  # by position
        "unset POSTGRES_HOST to use the embedded PostgreSQL",  # by name
        "the database has no schema, or an older one: rakuten db upgrade",  # in a table of meanings
        "delete line 1",  # in a table of constants
        "restart the listener: it closes the run",  # in a dictionary
        "insert it, or remove the row",  # in a variable
        "correct the value, or remove the row",  # for all problems of a file
        "choose --weeks from 1 to {}",  # with a value
    ):
        assert text in found
