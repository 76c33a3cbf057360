"""The weekly load: the right rows, once, all or none, and only from the files of the first load."""

import csv
import shutil
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import psycopg
import pyarrow.csv
import pytest
from psycopg import errors

from db import load, source, week, writing
from db.connect import connect
from db.database import Role
from db.embedded.waiting import poll
from shared.errors import BadInputError, BadSourceError, LoadError, SourceChangedError
from shared.events import BatchCompleted, parse

DEADLINE_S = 30
ROWS = 600  # of the generated data; 240, 258 and 276 of them are weeks 1, 2 and 3


@pytest.fixture
def loader(as_role):
    with as_role(Role.LOADER) as connection:
        yield connection


@pytest.fixture
def own_files(settings, tmp_path):
    """Settings whose source files may be changed."""
    directory = tmp_path / "raw"
    shutil.copytree(settings.data_path, directory)
    return settings.model_copy(update={"data_path": directory})


def read(settings) -> source.TrainingSet:
    return source.read_training_set(settings.data_path, settings.random_seed, settings.holdout_percentage)


def plan_of(connection, settings, training_set=None) -> load.LoadPlan | None:
    return load.check_current_state(connection, settings, training_set or read(settings))


def load_next(connection, settings, training_set=None) -> int:
    """The first two of the four steps; returns the batch."""
    training_set = training_set or read(settings)
    return load.load_increment(connection, plan_of(connection, settings, training_set), training_set).batch_id


def finish(connection, batch_id: int) -> None:
    load.validate_data_load(connection, batch_id)
    load.complete_batch(connection, batch_id)


def rows_of(connection, statement: str) -> list[tuple]:
    rows = connection.execute(statement).fetchall()
    connection.rollback()
    return rows


def batches(connection) -> list[tuple]:
    return rows_of(
        connection, "select batch_name, percentage, total_rows, status from data_loads order by id"
    )


def history(connection) -> list[tuple]:
    return rows_of(
        connection,
        """
        select operation_type, productid, designation, description, sample_rank, split, batch_name
        from products_history left join data_loads on data_loads.id = load_batch_id order by history_id
        """,
    ) + rows_of(
        connection,
        """
        select operation_type, productid, prdtypecode, batch_name
        from labels_history left join data_loads on data_loads.id = load_batch_id order by history_id
        """,
    )


def everything(connection) -> list[list[tuple]]:
    tables = ("products", "labels", "data_loads", "products_history", "labels_history")
    return [rows_of(connection, f"select * from {table} order by 1") for table in tables]


@pytest.fixture
def undisturbed_history(another_database, settings, training_set, load_weeks_into):
    """What an undisturbed load of week 1 writes."""
    load_weeks_into(another_database, settings, training_set, 1)
    with connect(another_database.conninfo(Role.LOADER), "test") as connection:
        return history(connection)


# ---- the rows


def test_each_week_raises_the_rows_to_its_percentage(loader, load_weeks):
    load_weeks(3)
    assert batches(loader) == [
        ("week_1", 40, 240, "completed"),
        ("week_2", 43, 258, "completed"),
        ("week_3", 46, 276, "completed"),
    ]


@pytest.mark.parametrize(
    ("initial", "increment", "maximum", "expected"),
    [
        (40, 25, 100, [240, 390, 540, 600]),
        (33.33, 33.33, 100, [199, 399, 599, 600]),
        (40, 7, 50, [240, 282, 300]),
        (100, 3, 100, [600]),
    ],
)
def test_the_last_week_reaches_the_maximum_and_nothing_follows(
    loader, settings, training_set, initial, increment, maximum, expected
):
    settings = settings.model_copy(
        update={
            "initial_percentage": Decimal(str(initial)),
            "increment_percentage": Decimal(str(increment)),
            "max_percentage": Decimal(maximum),
        }
    )
    while plan := load.check_current_state(loader, settings, training_set):
        finish(loader, load.load_increment(loader, plan, training_set).batch_id)
    assert [total_rows for _, _, total_rows, _ in batches(loader)] == expected


def test_products_and_labels_are_the_first_rows_by_rank(loader, load_weeks, training_set):
    load_weeks(2)
    columns = "productid, designation, description, imageid, image_path, sample_rank, split, prdtypecode"
    found = rows_of(
        loader, f"select {columns} from products join labels using (productid) order by sample_rank"
    )
    expected = training_set.rows(0, 258).select(columns.split(", ")).to_pylist()
    assert found == [tuple(row.values()) for row in expected]


def test_the_rows_do_not_depend_on_the_order_of_the_files(
    loader, load_weeks, another_database, settings, shuffled, load_weeks_into
):
    load_weeks(2)
    other_settings = settings.model_copy(update={"data_path": shuffled})
    load_weeks_into(another_database, other_settings, read(other_settings), 2)
    with connect(another_database.conninfo(Role.LOADER), "test") as other:
        assert history(other) == history(loader)


def test_the_history_holds_one_insert_a_product_and_label_attributed_to_its_batch(loader, load_weeks):
    first, second = load_weeks(2)
    for table in ("products", "labels"):
        counts = rows_of(
            loader,
            f"""
            select load_batch_id, operation_type, count(*), count(distinct productid)
            from {table}_history group by 1, 2 order by 1
            """,
        )
        assert counts == [(first, "INSERT", 240, 240), (second, "INSERT", 18, 18)]


TEXTS = [
    ("plain", None),
    (None, "only a description"),
    ("\\N", "\\."),
    ("a,b;c\td", 'say ""hi"" "'),
    (" spaces ", "back\\slash \\n \\"),
    ("two\nlines\r\nand\rmore", "\n"),
    ("🫖 théière 漢字", "\u2028\ufeff\u200b"),
    ("NULL", "NaN"),
    ("'; drop table products; --", "%s %(x)s {} $1"),
]


def test_texts_arrive_as_they_are(loader, settings, tmp_path):
    with (tmp_path / "X_train.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["", "designation", "description", "productid", "imageid"])
        writer.writerows([n, title, text, n, n] for n, (title, text) in enumerate(TEXTS))
    (tmp_path / "Y_train.csv").write_text(",prdtypecode\n" + "".join(f"{n},10\n" for n in range(len(TEXTS))))
    shutil.copy(settings.data_path / "X_test.csv", tmp_path)
    settings = settings.model_copy(update={"data_path": tmp_path, "initial_percentage": Decimal(100)})
    finish(loader, load_next(loader, settings))
    assert rows_of(loader, "select designation, description from products order by productid") == TEXTS


# ---- again


def test_a_complete_week_is_not_loaded_again(loader, settings, training_set, load_weeks):
    plan = plan_of(loader, settings, training_set)
    load_weeks(1)
    before = everything(loader)
    with pytest.raises(LoadError, match="batch 'week_1' is complete"):
        load.load_increment(loader, plan, training_set)
    assert everything(loader) == before


def test_loading_an_unfinished_week_again_changes_nothing_and_writes_no_history(
    loader, settings, training_set
):
    plan = plan_of(loader, settings, training_set)
    first = load.load_increment(loader, plan, training_set)
    before = (history(loader), rows_of(loader, "select * from products order by id"))
    again = load.load_increment(loader, plan, training_set)
    assert (first.products_written, first.labels_written) == (240, 240)
    assert (again.rows, again.products_written, again.labels_written) == (240, 0, 0)
    assert again.batch_id == first.batch_id
    assert (history(loader), rows_of(loader, "select * from products order by id")) == before


def test_what_somebody_corrected_before_the_week_was_complete_stays_corrected(
    loader, as_role, settings, training_set
):
    """By another attempt the file would otherwise undo it, and bring back what was erased."""
    load_next(loader, settings, training_set)
    texts = "select sample_rank, designation, prdtypecode from products join labels using (productid) where sample_rank < 4"
    before = rows_of(loader, f"{texts} order by sample_rank")
    with as_role(Role.OWNER) as owner:
        owner.execute("update products set designation = 'corrected' where sample_rank = 0")
        owner.execute(
            "update labels set prdtypecode = 1 where productid = (select productid from products where sample_rank = 1)"
        )
        owner.execute(
            "delete from labels where productid = (select productid from products where sample_rank = 2)"
        )
        owner.execute("delete from products where sample_rank = 2")
    finish(loader, load_next(loader, settings, training_set))
    assert rows_of(loader, f"{texts} order by sample_rank") == [
        (0, "corrected", before[0][2]),
        (1, before[1][1], 1),
        before[3],
    ]
    assert batches(loader) == [("week_1", 40, 239, "completed")]


def test_rows_that_were_all_deleted_before_the_week_was_complete_stay_deleted(
    loader, as_role, settings, training_set
):
    load_next(loader, settings, training_set)
    with as_role(Role.OWNER) as owner:
        owner.execute("delete from labels")
        owner.execute("delete from products")
    finish(loader, load_next(loader, settings, training_set))
    assert batches(loader) == [("week_1", 40, 0, "completed")]


def test_a_product_that_somebody_entered_before_its_week_keeps_what_it_was_given_and_gets_its_rank(
    loader, load_weeks, training_set
):
    of_week_2 = training_set.rows(240, 258).select(["productid", "split"]).to_pylist()
    held_out = next(row["productid"] for row in of_week_2 if row["split"] == "holdout")
    trained = next(row["productid"] for row in of_week_2 if row["split"] == "train")
    load_weeks(1)
    loader.execute(
        "insert into products (productid, designation) values (%s, 'by hand'), (%s, 'by hand')",
        [held_out, trained],
    )
    loader.execute("insert into labels (productid, prdtypecode) values (%s, 10)", [trained])
    loader.commit()
    load_weeks(1)
    assert batches(loader)[-1] == ("week_2", 43, 258, "completed")
    found = rows_of(
        loader,
        "select productid, designation, split, sample_rank is not null, prdtypecode = 10 from products"
        " join labels using (productid) where designation = 'by hand' order by split",
    )
    assert found == [
        (held_out, "by hand", "holdout", True, found[0][-1]),
        (trained, "by hand", "train", True, True),
    ]


# ---- interrupted


def run_in_the_middle(monkeypatch, action) -> None:
    """Do something after the products are sent and before the labels are."""

    def copy_rows(connection, statement, tables) -> int:
        if statement == "copy_labels":
            monkeypatch.undo()
            action()
        return original(connection, statement, tables)

    original = week.copy_rows
    monkeypatch.setattr(week, "copy_rows", copy_rows)


def fail_with(error: BaseException):
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("a defect"), "running"),
        (KeyboardInterrupt(), "running"),
        (psycopg.errors.DiskFull("disk full"), "failed"),
    ],
    ids=["defect", "Ctrl-C", "full disk"],
)
def test_a_load_that_breaks_off_leaves_no_rows_and_can_be_repeated(
    loader, settings, training_set, monkeypatch, undisturbed_history, error, status
):
    run_in_the_middle(monkeypatch, fail_with(error))
    with pytest.raises((LoadError, type(error))):
        load_next(loader, settings, training_set)
    assert batches(loader) == [("week_1", 40, 0, status)]
    assert history(loader) == []
    assert rows_of(loader, "select from products") == []
    finish(loader, load_next(loader, settings, training_set))
    assert batches(loader) == [("week_1", 40, 240, "completed")]
    assert history(loader) == undisturbed_history


def test_a_full_disk_is_named_as_the_reason(loader, settings, training_set, monkeypatch):
    run_in_the_middle(monkeypatch, fail_with(psycopg.errors.DiskFull("disk full")))
    with pytest.raises(LoadError, match="week_1: disk full"):
        load_next(loader, settings, training_set)
    assert rows_of(loader, "select load_error from pipeline_status") == [("week_1: disk full",)]


@pytest.fixture
def kill(as_superuser):
    """Terminate the server's side of a connection, and see it gone."""

    def kill_backend(pid: int) -> None:
        with as_superuser(autocommit=True) as superuser:
            superuser.execute("select pg_terminate_backend(%s)", [pid])
            alive = "select from pg_stat_activity where pid = %s"
            assert poll(lambda: not superuser.execute(alive, [pid]).fetchall(), timeout_s=DEADLINE_S)

    return kill_backend


def test_a_load_whose_backend_dies_during_the_copy_leaves_no_rows_and_can_be_repeated(
    loader, as_role, settings, training_set, monkeypatch, kill, undisturbed_history
):
    write_csv, chunks = pyarrow.csv.write_csv, []
    with closing(psycopg.connect(loader.info.dsn, password=loader.info.password)) as doomed:

        def write_and_kill(*arguments) -> None:
            write_csv(*arguments)
            chunks.append(arguments)
            if len(chunks) == 3:
                kill(doomed.info.backend_pid)

        monkeypatch.setattr(writing, "_COPY_ROWS", 20)
        monkeypatch.setattr(pyarrow.csv, "write_csv", write_and_kill)
        with pytest.raises(LoadError, match="week_1"):
            load_next(doomed, settings, training_set)
        monkeypatch.undo()
    assert batches(loader) == [("week_1", 40, 0, "running")]
    assert rows_of(loader, "select from products") == []
    finish(loader, load_next(loader, settings, training_set))
    assert history(loader) == undisturbed_history


def test_a_lost_connection_is_a_load_error_before_the_load(loader, settings, training_set, kill):
    with closing(psycopg.connect(loader.info.dsn, password=loader.info.password)) as doomed:
        kill(doomed.info.backend_pid)
        with pytest.raises(LoadError):
            plan_of(doomed, settings, training_set)


@pytest.mark.parametrize("step", [load.validate_data_load, load.complete_batch])
def test_a_lost_connection_is_a_load_error_after_the_load(loader, settings, training_set, kill, step):
    with closing(psycopg.connect(loader.info.dsn, password=loader.info.password)) as doomed:
        batch_id = load_next(doomed, settings, training_set)
        kill(doomed.info.backend_pid)
        with pytest.raises(LoadError):
            step(doomed, batch_id)
    finish(loader, batch_id)


# ---- two at once


@pytest.mark.parametrize("week", [1, 2])
def test_a_second_loader_is_told_at_once_and_harms_nothing(
    loader, as_role, settings, training_set, monkeypatch, undisturbed_history, week
):
    told = []

    def load_as_well() -> None:
        with as_role(Role.LOADER) as other:
            other.execute("set statement_timeout = '20s'")
            plan = replace(plan_of(other, settings, training_set), week=week)
            with pytest.raises(LoadError, match="another load is running") as refused:
                load.load_increment(other, plan, training_set)
            told.append(refused.value)

    run_in_the_middle(monkeypatch, load_as_well)
    finish(loader, load_next(loader, settings, training_set))
    assert len(told) == 1
    assert batches(loader) == [("week_1", 40, 240, "completed")]
    assert history(loader) == undisturbed_history


def test_a_loader_that_takes_an_unfinished_batch_up_ends_where_the_first_would_have(
    loader, as_role, settings, training_set, undisturbed_history
):
    batch_id = load_next(loader, settings, training_set)
    with as_role(Role.LOADER) as other:
        finish(other, load_next(other, settings, training_set))
    with pytest.raises(LoadError, match=f"batch {batch_id} is completed"):
        load.validate_data_load(loader, batch_id)
    load.complete_batch(loader, batch_id)
    assert history(loader) == undisturbed_history


def test_a_claimed_batch_holds_up_its_successor_until_it_is_complete(loader, settings, training_set):
    batch_id = load_next(loader, settings, training_set)
    assert plan_of(loader, settings, training_set).week == 1
    finish(loader, batch_id)
    assert plan_of(loader, settings, training_set).week == 2


# ---- the source is that of the first load


def append_a_line(path: Path) -> None:
    with path.open("a") as file:
        file.write("999999,x,,9999999,9999999\n")


@pytest.mark.parametrize("complete", [True, False], ids=["complete", "loaded, not complete"])
@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("X_test.csv", append_a_line, "X_test.csv has changed since the first load"),
        ("Y_test.csv", append_a_line, "Y_test.csv has changed since the first load"),
        ("Y_test.csv", Path.unlink, "Y_test.csv is gone since the first load"),
    ],
)
def test_a_changed_source_file_is_refused_and_nothing_is_touched(
    loader, own_files, training_set, complete, name, change, message
):
    batch_id = load_next(loader, own_files, training_set)
    if complete:
        finish(loader, batch_id)
    before = everything(loader)
    change(own_files.data_path / name)
    with pytest.raises(SourceChangedError, match=message) as refused:
        plan_of(loader, own_files, training_set)
    assert refused.value.exit_code == 2
    assert "restore the original" in refused.value.remedy
    assert everything(loader) == before


def test_training_rows_that_were_added_are_refused(loader, own_files):
    finish(loader, load_next(loader, own_files))
    append_a_line(own_files.data_path / "X_train.csv")
    with (own_files.data_path / "Y_train.csv").open("a") as file:
        file.write("999999,10\n")
    before = everything(loader)
    with pytest.raises(SourceChangedError, match=r"_train\.csv has changed"):
        plan_of(loader, own_files)
    assert everything(loader) == before


@pytest.mark.parametrize("complete", [True, False], ids=["complete", "loaded, not complete"])
@pytest.mark.parametrize(("setting", "value"), [("random_seed", 7), ("holdout_percentage", 20)])
def test_another_setting_that_chooses_rows_is_refused_and_nothing_is_touched(
    loader, settings, setting, value, complete
):
    batch_id = load_next(loader, settings)
    if complete:
        finish(loader, batch_id)
    before = everything(loader)
    with pytest.raises(SourceChangedError, match=f"{setting.upper()} was .* and is {value} now") as refused:
        plan_of(loader, settings.model_copy(update={setting: value}))
    assert refused.value.exit_code == 2
    assert everything(loader) == before


def test_a_first_load_that_left_no_rows_binds_nobody(loader, settings, training_set, monkeypatch):
    run_in_the_middle(monkeypatch, fail_with(RuntimeError("a defect")))
    with pytest.raises(RuntimeError):
        load_next(loader, settings, training_set)
    other_seed = settings.model_copy(update={"random_seed": 7})
    finish(loader, load_next(loader, other_seed))
    assert load.recorded_source(loader)["random_seed"] == 7


def test_before_the_first_load_every_source_file_must_be_good(loader, own_files, training_set):
    (own_files.data_path / "X_test.csv").unlink()
    before = everything(loader)
    with pytest.raises(BadSourceError, match=r"X_test\.csv: file is missing"):
        plan_of(loader, own_files, training_set)
    assert everything(loader) == before


def test_percentages_that_were_lowered_are_refused(loader, load_weeks, settings, training_set):
    load_weeks(3)
    lowered = settings.model_copy(update={"increment_percentage": Decimal(1)})
    with pytest.raises(BadInputError, match=r"week_4 is to hold 43 % .* week_3 holds 46\.00 % already"):
        plan_of(loader, lowered, training_set)


def test_a_retry_with_another_percentage_is_recorded_as_such(loader, settings, training_set):
    load_next(loader, settings, training_set)
    more = settings.model_copy(update={"initial_percentage": Decimal(50)})
    finish(loader, load_next(loader, more, training_set))
    assert batches(loader) == [("week_1", 50, 300, "completed")]


# ---- validation


@pytest.fixture
def tamper(as_superuser):
    """Change tables behind the audit's back, as only the owner of the server can."""

    def run(statement: str) -> None:
        with as_superuser() as superuser:
            for table in ("products", "labels"):
                superuser.execute(f"alter table {table} disable trigger all")
            superuser.execute(statement)
            disabled = superuser.execute(
                "select tgrelid::regclass, tgname from pg_trigger where tgenabled = 'D' and not tgisinternal"
            )
            for table, trigger in disabled.fetchall():
                superuser.execute(f"alter table {table} enable always trigger {trigger}")

    return run


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (
            "delete from products where sample_rank in (3, 7)",
            "products holds 238 of the 240 rows of this percentage, 0 were deleted, 2 are missing without a trace",
        ),
        ("update products set sample_rank = null where sample_rank = 3", "1 are missing without a trace"),
        (
            "insert into products (productid, sample_rank) values (1, 240)",
            "1 products lie beyond this percentage",
        ),
        (
            "delete from labels where productid = (select productid from products where sample_rank = 3)",
            "1 have no label",
        ),
    ],
)
def test_rows_that_are_not_as_promised_fail_the_batch_with_the_reason(
    loader, settings, training_set, tamper, statement, reason
):
    batch_id = load_next(loader, settings, training_set)
    tamper(statement)
    with pytest.raises(LoadError, match=reason):
        load.validate_data_load(loader, batch_id)
    assert batches(loader) == [("week_1", 40, 0, "failed")]
    ((error,),) = rows_of(loader, "select load_error from pipeline_status")
    assert reason in error
    with pytest.raises(LoadError, match="is not running"):
        load.complete_batch(loader, batch_id)


def test_rows_that_vanished_come_back_when_their_week_is_loaded_again(loader, settings, training_set, tamper):
    batch_id = load_next(loader, settings, training_set)
    tamper("delete from products where sample_rank in (3, 7)")
    with pytest.raises(LoadError):
        load.validate_data_load(loader, batch_id)
    finish(loader, load_next(loader, settings, training_set))
    assert batches(loader) == [("week_1", 40, 240, "completed")]


def test_rows_that_were_deleted_on_record_are_no_fault(loader, as_role, settings, training_set):
    batch_id = load_next(loader, settings, training_set)
    with as_role(Role.OWNER) as owner:
        owner.execute(
            "delete from labels where productid in (select productid from products where sample_rank < 3)"
        )
        owner.execute("delete from products where sample_rank < 3")
    counts = load.validate_data_load(loader, batch_id)
    load.complete_batch(loader, batch_id)
    assert (counts["held_rows"], counts["deleted_rows"]) == (237, 3)
    assert batches(loader) == [("week_1", 40, 237, "completed")]


def test_rows_that_were_deleted_in_an_earlier_week_stay_deleted(loader, as_role, load_weeks):
    load_weeks(1)
    with as_role(Role.OWNER) as owner:
        owner.execute("delete from products where sample_rank = 0")
    load_weeks(1)
    assert batches(loader)[-1] == ("week_2", 43, 257, "completed")


def test_products_that_no_file_holds_are_left_alone(loader, load_weeks):
    load_weeks(1)
    loader.execute("insert into products (productid, designation) values (1, 'by hand')")
    loader.commit()
    load_weeks(1)
    assert batches(loader)[-1] == ("week_2", 43, 259, "completed")


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("complete_batch(1)", "batch 1 is completed"),
        ("fail_batch(1, 'x')", "batch 1 is failed"),
        (None, "batch 1 is running; only a loaded batch can be validated"),
    ],
)
def test_only_a_loaded_batch_is_validated(loader, end, message):
    loader.execute("select claim_batch('week_1', 40, '{}')")
    if end:
        loader.execute(f"select {end}")
    loader.commit()
    with pytest.raises(LoadError, match=message):
        load.validate_data_load(loader, 1)
    with pytest.raises(LoadError, match="batch 99 does not exist"):
        load.validate_data_load(loader, 99)


# ---- completion


def test_a_completed_batch_is_announced_once_when_it_is_committed(loader, as_role, settings, training_set):
    with as_role(Role.READER, autocommit=True) as ears:
        ears.execute("listen batch_completed")

        def heard() -> list[object]:
            ears.execute("select 1")  # whatever was committed before has been delivered with the answer
            return [parse(note.channel, note.payload) for note in ears.notifies(timeout=0)]

        batch_id = load_next(loader, settings, training_set)
        load.validate_data_load(loader, batch_id)
        loader.execute("select complete_batch(%s)", [batch_id])
        assert heard() == []
        loader.rollback()
        assert heard() == []
        load.complete_batch(loader, batch_id)
        load.complete_batch(loader, batch_id)
        assert heard() == [BatchCompleted(v=1, batch_id=batch_id)]


def test_a_batch_that_does_not_run_is_not_completed(loader):
    with pytest.raises(LoadError, match="batch 5 is not running") as refused:
        load.complete_batch(loader, 5)
    assert isinstance(refused.value.__cause__, errors.ObjectNotInPrerequisiteState)


def test_no_transaction_is_left_open(loader, settings, training_set):
    plan = plan_of(loader, settings, training_set)
    idle = psycopg.pq.TransactionStatus.IDLE
    assert loader.info.transaction_status == idle
    batch_id = load.load_increment(loader, plan, training_set).batch_id
    assert loader.info.transaction_status == idle
    load.validate_data_load(loader, batch_id)
    assert loader.info.transaction_status == idle
    load.complete_batch(loader, batch_id)
    assert loader.info.transaction_status == idle


def test_labels_of_the_test_set_that_appear_after_the_first_load_are_refused(own_files, loader):
    labels = own_files.data_path / source.Y_TEST
    later = labels.read_bytes()
    labels.unlink()
    finish(loader, load_next(loader, own_files))
    labels.write_bytes(later)
    with pytest.raises(SourceChangedError, match=r"Y_test\.csv has appeared since the first load"):
        plan_of(loader, own_files)


def test_a_batch_is_not_completed_on_an_old_snapshot(settings, loader):
    batch_id = load_next(loader, settings)
    loader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with pytest.raises(LoadError, match="READ COMMITTED"):
        load.complete_batch(loader, batch_id)


def test_a_batch_cannot_be_removed(settings, loader, as_superuser):
    finish(loader, load_next(loader, settings))
    with as_superuser() as connection, pytest.raises(errors.InsufficientPrivilege, match="append-only"):
        connection.execute("delete from data_loads")
