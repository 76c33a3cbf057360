"""What each error of PostgreSQL means: who can end the trouble."""

import psycopg
import pytest
from psycopg import errors

from db.sqlstates import Kind, meaning_of


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("40001", Kind.CONFLICT),
        ("40P01", Kind.CONFLICT),
        ("55P03", Kind.CONFLICT),
        ("08006", Kind.OUTAGE),
        ("53100", Kind.OUTAGE),
        ("53300", Kind.OUTAGE),
        ("57P01", Kind.OUTAGE),
        ("57P03", Kind.OUTAGE),
        ("57P05", Kind.OUTAGE),
        ("58030", Kind.OUTAGE),
        ("25006", Kind.OUTAGE),
        ("25P03", Kind.OUTAGE),
        ("57014", Kind.SETTING),
        ("25P04", Kind.SETTING),
        ("42501", Kind.SETTING),
        ("28000", Kind.SETTING),
        ("28P01", Kind.SETTING),
        ("0P000", Kind.SETTING),
        ("3D000", Kind.SETTING),
        ("3F000", Kind.SETTING),
        ("42P01", Kind.SETTING),
        ("42883", Kind.SETTING),
        ("XX001", Kind.SETTING),
        ("23505", Kind.DEFECT),
        ("22P05", Kind.DEFECT),
        ("42601", Kind.DEFECT),
        ("54000", Kind.DEFECT),
        ("55000", Kind.DEFECT),
        ("P0001", Kind.DEFECT),
        ("XX000", Kind.DEFECT),
    ],
)
def test_each_class_of_errors_has_a_meaning_and_a_remedy(sqlstate, kind):
    try:
        error = errors.lookup(sqlstate)("said by the server")
    except KeyError:  # psycopg does not know the SQLSTATEs of every version
        error = psycopg.DatabaseError("said by the server")
        error.sqlstate = sqlstate
    meaning = meaning_of(error)
    assert meaning.kind is kind
    assert meaning.remedy


def test_an_error_of_the_connection_has_no_sqlstate_and_is_an_outage():
    assert meaning_of(psycopg.OperationalError("the connection is lost")).kind is Kind.OUTAGE
    assert meaning_of(psycopg.InterfaceError("misused")).kind is Kind.DEFECT
