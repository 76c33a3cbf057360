"""A correction is a batch of its own, between the weeks, and one after the other."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from corrections import entries, product, some
from table_rows import rows_of

from db.database import Role
from db.embedded.waiting import poll
from db.load import steps
from db.load.correction import correct
from shared.errors import BadInputError
from shared.events import BatchCompleted, parse

DEADLINE_S = 30


def test_history_says_who_and_in_which_batch(loader, load_weeks, apply):
    load_weeks(1)
    updated, deleted = some(loader, "train", 2)
    header = "productid,operation,designation,prdtypecode"
    apply(header, (updated, "update", "Zyx-Lampe 77", 10), (deleted, "delete", "", ""))
    entry = ("correction_1", "rakuten_loader", "test")
    for table in ("products", "labels"):
        assert entries(loader, updated, table) == [("UPDATE", *entry)]
        assert entries(loader, deleted, table) == [("DELETE", *entry)]


def test_a_correction_is_recorded_sealed_and_announced(loader, load_weeks, apply, as_role):
    load_weeks(1)
    (productid,) = some(loader, "train")
    with as_role(Role.READER, autocommit=True) as ears:
        ears.execute("listen batch_completed")
        result = apply("productid,prdtypecode", (productid, 10), reason="wrong on the label")
        ears.execute("select 1")  # whatever was committed before has been delivered with the answer
        assert [parse(note.channel, note.payload) for note in ears.notifies(timeout=0)] == [
            BatchCompleted(v=1, batch_id=result.batch_id)
        ]
        [(metadata,)] = rows_of(ears, "select metadata from data_loads where batch_name = 'correction_1'")
        assert metadata["source"]["reason"] == "wrong on the label"
        assert list(metadata["source"]["files"]) == ["correction.csv"]
        recorded = {key: value for key, value in metadata["load"].items() if key != "seconds"}
        counts = {"rows": 1, "inserted": 0, "updated": 0, "deleted": 0, "labels": 1, "held_out": 0}
        assert recorded == counts
        assert rows_of(ears, "select batch_name from verify_seals() where problem is null") == [
            ("week_1",),
            ("correction_1",),
        ]
        status = "select batch_name, status, new_rows, snapshot_state from pipeline_status"
        assert rows_of(ears, status)[-1] == ("correction_1", "completed", 1, "waiting")
        assert rows_of(ears, "select batch_name from pending_batches('snapshot')") == [
            ("week_1",),
            ("correction_1",),
        ]


def test_weeks_go_on_after_corrections_as_if_there_were_none(
    loader, load_weeks, apply, settings, training_set
):
    load_weeks(1)
    for code in (10, 40):
        apply("productid,prdtypecode", (some(loader, "train")[0], code))
    plan = steps.check_current_state(loader, settings, training_set)
    assert (plan.week, plan.first_rank, plan.percentage) == (2, 240, 43)
    load_weeks(1)
    apply("productid,prdtypecode", (some(loader, "train")[0], 50))
    names = rows_of(loader, "select batch_name, percentage from data_loads order by id")
    assert names == [
        ("week_1", 40),
        ("correction_1", 40),
        ("correction_2", 40),
        ("week_2", 43),
        ("correction_3", 43),
    ]


def test_a_week_that_is_repeated_does_not_undo_a_correction(
    loader, load_weeks, apply, settings, training_set
):
    """Week 2 has failed after its rows came in, and is loaded again after one of them was corrected and another deleted."""
    load_weeks(1)
    plan = steps.check_current_state(loader, settings, training_set)
    failed = steps.load_increment(loader, plan, training_set).batch_id
    loader.execute("select fail_batch(%s, 'a reason')", [failed])
    loader.commit()
    corrected, deleted = training_set.rows(240, 242)["productid"].to_pylist()
    with pytest.raises(BadInputError, match="week_2 is 'failed', and a correction must wait until"):
        apply("productid,prdtypecode", (some(loader, "train")[0], 10))
    loader.execute("update products set designation = 'Zyx-Lampe 77' where productid = %s", [corrected])
    loader.execute("update labels set prdtypecode = 10 where productid = %s", [corrected])
    loader.execute("delete from labels where productid = %s", [deleted])
    loader.execute("delete from products where productid = %s", [deleted])
    loader.commit()
    load_weeks(1)
    assert product(loader, corrected)["designation"] == "Zyx-Lampe 77"
    assert product(loader, corrected)["prdtypecode"] == 10
    assert product(loader, deleted) is None
    assert rows_of(loader, "select total_rows from data_loads where batch_name = 'week_2'") == [(257,)]


@pytest.mark.parametrize("batch", ["week", "correction"])
def test_what_psql_changes_flows_into_the_next_batch_s_snapshot(
    loader, reader, load_weeks, apply, as_role, batch
):
    load_weeks(1)
    first, second = some(loader, "train", 2)
    with as_role(Role.OWNER) as owner:
        owner.execute("update products set designation = 'by psql' where productid = %s", [first])
    if batch == "week":
        load_weeks(1)
    else:
        apply("productid,designation", (second, "by file"))
    as_of = "select designation from products_as_of_batch(%s) where productid = %s"
    assert rows_of(reader, as_of, 2, first) == [("by psql",)]
    assert rows_of(reader, as_of, 1, first) != [("by psql",)]
    [(operation, name, changed_by, _)] = entries(loader, first)
    assert (operation, name, changed_by) == ("UPDATE", None, "rakuten_owner")


def test_two_corrections_at_once_come_one_after_the_other(loader, as_role, load_weeks, settings, write):
    load_weeks(1)
    (productid,) = some(loader, "train")
    files = [write("productid,prdtypecode", (productid, code), name=f"{code}.csv") for code in (10, 40)]

    def run(path) -> str:
        with as_role(Role.LOADER) as connection:
            return correct(connection, settings, path).batch_name

    with as_role(Role.OWNER) as writer, ThreadPoolExecutor(2) as pool:
        writer.execute("update labels set prdtypecode = 50 where productid = %s", [productid])
        running = [pool.submit(run, path) for path in files]
        waiting = "select from pg_stat_activity where wait_event_type = 'Lock'"
        assert poll(lambda: len(rows_of(loader, waiting)) == 2, timeout_s=DEADLINE_S)
        writer.commit()
        names = sorted(future.result(timeout=DEADLINE_S) for future in running)
    assert names == ["correction_1", "correction_2"]
    last = rows_of(
        loader, "select metadata -> 'source' -> 'files' from data_loads where batch_name = 'correction_2'"
    )
    [(code,)] = rows_of(loader, "select prdtypecode from labels where productid = %s", productid)
    assert list(last[0][0]) == [f"{code}.csv"]
