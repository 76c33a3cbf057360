"""Every completed batch is sealed, and a change anywhere behind a seal is found where it was made."""

import pytest

from db.database import Role


@pytest.fixture
def problems(as_role):
    def look() -> dict[str, str]:
        with as_role(Role.READER) as connection:
            rows = connection.execute("select batch_name, problem from verify_seals()").fetchall()
        return {name: problem for name, problem in rows if problem is not None}

    return look


@pytest.fixture
def tamper(as_superuser):
    """Change something as nobody may: with the triggers that guard it switched off."""

    def change(table: str, statement: str) -> None:
        with as_superuser() as connection:
            connection.execute(f"alter table {table} disable trigger all")
            assert connection.execute(statement).rowcount == 1
            connection.execute(f"alter table {table} enable trigger all")

    return change


def seals(as_role) -> list[str]:
    with as_role(Role.READER) as connection:
        return [row[0] for row in connection.execute("select seal from verify_seals()")]


def test_each_batch_is_sealed_and_chained_to_the_one_before(load_weeks, problems, as_role):
    load_weeks(3)
    assert problems() == {}
    assert len(set(seals(as_role))) == 3
    with as_role(Role.READER) as connection:
        chain = connection.execute(
            "select metadata #> '{audit,number}' from data_loads order by id"
        ).fetchall()
    assert [number for (number,) in chain] == [1, 2, 3]


@pytest.mark.parametrize(
    ("table", "statement", "problem"),
    [
        (
            "products_history",
            "update products_history set description = coalesce(description, '') || '.' where history_id = {entry}",
            "products_history was changed",
        ),
        (
            "products_history",
            "update products_history set operation_date = operation_date + '1 us' where history_id = {entry}",
            "products_history was changed",
        ),
        (
            "products_history",
            "update products_history set changed_by = 'somebody' where history_id = {entry}",
            "products_history was changed",
        ),
        (
            "products_history",
            "delete from products_history where history_id = {entry}",
            "products_history was changed",
        ),
        (
            "labels_history",
            "update labels_history set prdtypecode = prdtypecode + 1 where history_id = {entry}",
            "labels_history was changed",
        ),
        (
            "data_loads",
            "update data_loads set completed_at = completed_at - interval '1 day' where batch_name = 'week_2'",
            "data_loads was changed: this batch, or the seal of the one before",
        ),
    ],
)
def test_a_change_behind_a_seal_points_at_its_batch(
    load_weeks, problems, tamper, as_role, table, statement, problem
):
    load_weeks(3)
    with as_role(Role.READER) as connection:
        of_week_2 = "select max(history_id) from products_history where load_batch_id = 2"
        [entry] = connection.execute(of_week_2).fetchone()
    tamper(table, statement.format(entry=entry))
    assert problems() == {"week_2": problem}


def test_a_forged_seal_breaks_the_chain_at_the_next_batch(load_weeks, problems, tamper):
    load_weeks(3)
    tamper(
        "data_loads",
        "update data_loads set metadata = jsonb_set(metadata, '{audit,seal}', '\"forged\"') where batch_name = 'week_2'",
    )
    assert list(problems()) == ["week_2", "week_3"]


def test_the_order_of_rows_and_the_session_s_settings_change_no_seal(load_weeks, as_role, as_superuser):
    load_weeks(2)
    before = seals(as_role)
    with as_superuser(autocommit=True) as connection:
        connection.execute("cluster products_history using products_history_product")
        connection.execute("set timezone = 'Asia/Kathmandu'")
        connection.execute("set datestyle = 'German'")
        connection.execute("set extra_float_digits = 0")
        rows = connection.execute("select seal, problem from verify_seals()").fetchall()
    assert rows == [(seal, None) for seal in before]


def test_a_batch_that_completes_after_a_later_one_follows_it_in_the_chain(as_superuser, problems):
    with as_superuser() as connection:
        connection.execute(
            "insert into data_loads (batch_name, percentage, status) values ('week_1', 40, 'failed')"
        )
        connection.execute(
            "insert into data_loads (batch_name, percentage, status) values ('correction_1', 40, 'completed')"
        )
        connection.execute("update data_loads set status = 'completed' where batch_name = 'week_1'")
        chain = connection.execute(
            "select id, metadata #> '{audit,number}' from data_loads order by id"
        ).fetchall()
    assert chain == [(1, 2), (2, 1)]
    assert problems() == {}
