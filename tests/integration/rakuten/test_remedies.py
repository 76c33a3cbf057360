"""A user who does what the remedy of a command says gets further."""

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from db.database import Role
from rakuten.cli import _message_for


@pytest.fixture
def rakuten(database, settings, rakuten_as):
    return rakuten_as(database.conninfo(Role.OWNER), settings)


def test_a_week_of_the_range_is_loaded(rakuten):
    assert "choose a week from 1 to 21" in str(rakuten("load", "--week", 22).exception)
    assert rakuten("load", "--week", 1).exit_code == 0


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        (("retry", "--batch", "week_1"), "rakuten status shows the state of each batch"),
        (("reproduce", "week_1"), "rakuten status shows which batches have one"),
        (("prove", "--product", 1, "--dataset", "week_1"), "rakuten status shows what the batch waits for"),
    ],
)
def test_the_status_shows_what_a_remedy_says_that_it_shows(rakuten, load_weeks, command, remedy):
    load_weeks(1)
    assert remedy in str(rakuten(*command).exception)
    assert "waiting" in rakuten("status", "--json").output


def test_a_database_without_a_schema_works_after_the_upgrade(server, settings, rakuten_as, monkeypatch):
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute("create database without_schema")
    rakuten = rakuten_as(make_conninfo(server.conninfo(), dbname="without_schema"), settings)
    monkeypatch.setenv("POSTGRES_DB", "without_schema")
    refused = rakuten("status").exception
    assert isinstance(refused, psycopg.errors.UndefinedTable)
    assert "or an older one: rakuten db upgrade" in str(_message_for(refused))
    assert rakuten("db", "upgrade").exit_code == 0
    assert rakuten("status").exit_code == 0
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute("drop database without_schema with (force)")


def test_a_stage_that_was_given_up_waits_again_after_the_retry(rakuten, load_weeks, as_role):
    load_weeks(1)
    with as_role(Role.SNAPSHOT) as connection:
        connection.execute("select claim_stage(1, 'snapshot', 'host:1', 'notify', '0 s')")
        connection.execute("select fail_stage(1, 'snapshot', 1, 'no space left', null)")
    assert rakuten("retry", "--batch", "week_1").exit_code == 0
    assert "waiting" in rakuten("status", "--json").output


def test_a_member_of_the_role_may_do_what_another_may_not(database, settings, rakuten_as):
    refused = rakuten_as(database.conninfo(Role.READER), settings)("load")
    assert refused.exit_code == 1
    assert rakuten_as(database.conninfo(Role.LOADER), settings)("load").exit_code == 0
