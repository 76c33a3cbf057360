"""`rakuten verify` leaves a record of its run, from which an alert is made."""

import pytest

from db.database import Role

LAST = "select verified_by, checks, problems from verifications order by id desc limit 1"


@pytest.fixture
def rakuten(rakuten_as, database, settings):
    return rakuten_as(database.conninfo(Role.READER), settings)


def test_each_run_is_recorded_with_the_changes_that_it_found(rakuten, load_weeks, as_superuser):
    load_weeks(1)
    assert rakuten("verify").exit_code == 0
    with as_superuser(autocommit=True) as connection:
        login, checks, problems = connection.execute(LAST).fetchone()
        assert (login, problems) == (Role.READER, 0)
        assert checks > 0
        connection.execute("alter table products disable trigger _100_audit_update")
        connection.execute("update products set designation = 'forged' where id = 1")
        assert rakuten("verify").exit_code == 1
        _login, _checks, problems = connection.execute(LAST).fetchone()
        assert problems == 2  # the product, and the trigger
    assert rakuten("verify", "--json").exit_code == 1
    with as_superuser() as connection:
        assert connection.execute("select count(*) from verifications").fetchone() == (3,)


def test_a_standby_that_cannot_record_the_run_still_verifies(rakuten, load_weeks, as_superuser, database):
    load_weeks(1)
    with as_superuser(autocommit=True) as connection:
        connection.execute("alter role rakuten_reader set default_transaction_read_only = on")
        try:
            verified = rakuten("verify")
        finally:
            connection.execute("alter role rakuten_reader reset default_transaction_read_only")
    assert verified.exit_code == 0
    assert "does not record that the checks were made: cannot execute" in verified.output


def test_a_login_that_may_not_record_the_run_still_verifies(rakuten_as, load_weeks, database, settings):
    load_weeks(1)
    verified = rakuten_as(database.conninfo(Role.LOADER), settings)("verify")
    assert verified.exit_code == 0
    assert "does not record that the checks were made: permission denied" in verified.output
