"""`rakuten correct`, `diff` and `taint`, as a person or a program calls them."""

import json

import pyarrow.compute as pc
import pytest
from psycopg.types.json import Jsonb

from db.database import Role
from db.source.training_set import read_test_set
from shared.errors import BadCorrectionError, BadInputError


@pytest.fixture
def rakuten(server, settings, rakuten_as):
    """On this test's database, as somebody who may do every step."""
    return rakuten_as(server.conninfo(settings.postgres_db), settings)


@pytest.fixture
def owner(as_role):
    """Somebody at psql."""
    with as_role(Role.OWNER, autocommit=True) as connection:
        yield connection


@pytest.fixture
def correct(rakuten, tmp_path):
    """Correct by a file: `correct("productid,prdtypecode", "5,10")`."""

    def run(*lines: str) -> dict:
        path = tmp_path / "correction.csv"
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return json.loads(rakuten("correct", path, "--json").stdout)

    return run


def some(connection, condition: str, count: int = 1) -> list[int]:
    statement = f"select productid from products where {condition} order by sample_rank limit %s"
    return [productid for (productid,) in connection.execute(statement, [count])]


# ---- correct


def test_a_correction_is_reported_as_text_and_as_json(rakuten, load_weeks, owner, tmp_path):
    load_weeks(1)
    path = tmp_path / "labels.csv"
    path.write_text(f"productid,prdtypecode\n{some(owner, 'true')[0]},10\n")
    checked = rakuten("correct", path, "--check")
    assert (checked.exit_code, checked.stdout.endswith("nothing was changed\n")) == (0, True)
    report = json.loads(rakuten("correct", path, "--reason", "wrong", "--json").stdout)
    assert (report["batch_name"], report["labels"], report["total_rows"]) == ("correction_1", 1, 240)
    again = rakuten("correct", path)
    assert isinstance(again.exception, BadCorrectionError)
    as_json = rakuten("correct", path, "--json")
    assert as_json.exit_code == 2
    [problem] = json.loads(as_json.stdout)["problems"]
    assert problem["reason"].startswith("it changes nothing")


def test_a_correction_needs_a_file(rakuten, tmp_path):
    assert rakuten("correct", tmp_path / "none.csv").exit_code == 2
    assert rakuten("correct", tmp_path).exit_code == 2


# ---- diff


@pytest.fixture
def changed(load_weeks, owner, correct):
    """Weeks 1 and 2, what was changed of week 1 in between, and the productids of each kind."""
    load_weeks(1)
    products = iter(some(owner, "split = 'train'", 6))
    kinds = {kind: next(products) for kind in ("text", "label", "image", "removed", "restored", "renamed")}
    long_text = "x" * 60
    owner.execute("update products set description = %s where productid = %s", [long_text, kinds["text"]])
    load_weeks(1)
    owner.execute(
        "update products set description = %s where productid = %s", [f"{long_text}!", kinds["text"]]
    )
    owner.execute("update labels set prdtypecode = 10 where productid = %s", [kinds["label"]])
    owner.execute("update labels set prdtypecode = 40 where productid = %s", [kinds["label"]])
    owner.execute("update products set imageid = 7 where productid = %s", [kinds["image"]])
    correct("productid,operation", f"{kinds['removed']},delete", f"{kinds['restored']},delete")
    correct("productid,operation", f"{kinds['restored']},insert")
    owner.execute("update products set productid = 66 where productid = %s", [kinds["renamed"]])
    owner.execute("update labels set productid = 66 where productid = %s", [kinds["renamed"]])
    load_weeks(1)
    return kinds


def test_products_that_differ_are_listed_with_what_changed(changed, rakuten, owner):
    document = json.loads(rakuten("diff", "2", "3", "--list", "--json").stdout)
    assert (document["earlier"], document["later"]) == ("week_2", "week_3")
    found = {row["productid"]: row for row in document["products"]}
    of_week_3 = some(owner, "sample_rank >= 258", 100)
    assert len(of_week_3) == 18
    assert {productid: row["change"] for productid, row in found.items()} == (
        dict.fromkeys(of_week_3, "added")
        | {66: "added", changed["renamed"]: "removed", changed["removed"]: "removed"}
        | {changed[kind]: "changed" for kind in ("text", "label", "image")}
    )
    assert found[changed["text"]]["changes"] == {"description": ["x" * 60, "x" * 60 + "!"]}
    assert found[changed["label"]]["changes"]["prdtypecode"][1] == 40
    assert found[changed["image"]]["changes"]["imageid"][1] == 7
    lines = rakuten("diff", "2", "3", "--list").stdout.splitlines()
    assert f"~ {changed['text']}: description ...{'x' * 10!r} -> ...{'x' * 10 + '!'!r}" in lines


def test_what_differs_is_counted_by_class(changed, rakuten, owner):
    document = json.loads(rakuten("diff", "week_2", "week_3", "--json").stdout)
    kinds = {"text": 1, "image": 1, "label": 1, "split": 0}
    assert document["totals"] == {"added": 19, "changed": 3, "removed": 2, **kinds}
    assert sum(row["added"] for row in document["classes"]) == 19
    [games] = [row for row in document["classes"] if row["prdtypecode"] == 40]
    assert (games["label"], games["name"]) == (1, "Imported video games")
    assert "products" not in document


def test_a_diff_the_other_way_round_removes_what_was_added(changed, rakuten):
    forth, back = (json.loads(rakuten("diff", *weeks, "--json").stdout)["totals"] for weeks in ("23", "32"))
    assert (forth["added"], forth["changed"], forth["removed"]) == (
        back["removed"],
        back["changed"],
        back["added"],
    )


def test_batches_that_hold_the_same_do_not_differ(changed, rakuten):
    assert rakuten("diff", "2", "train_week_2").stdout == "week_2 and week_2 hold the same products\n"


def test_a_batch_that_is_not_there_cannot_be_compared(changed, rakuten):
    refused = rakuten("diff", "1", "7").exception
    assert isinstance(refused, BadInputError)
    assert refused.remedy == "choose one of week_1, week_2, correction_1, correction_2, week_3"


def test_a_text_reaches_no_terminal_as_it_is(load_weeks, rakuten, owner):
    load_weeks(1)
    (productid,) = some(owner, "split = 'train'")
    hostile = "\x1b[31m\x9b[bold]\u202e\nred"
    owner.execute("update products set designation = %s where productid = %s", [hostile, productid])
    load_weeks(1)
    for output in (rakuten("diff", "1", "2", "--list").stdout, rakuten("taint", productid).stdout):
        assert r"'\x1b[31m\x9b[bold]\u202e\nred'" in output
        assert not set(output) & set("\x1b\x9b\u202e")


# ---- taint


def finish(connection, batch_id: int, stage: str, result: dict) -> None:
    """What a stage records, without its work."""
    connection.execute("select claim_stage(%s, %s, 'w', 'start', '0')", [batch_id, stage])
    connection.execute("select finish_stage(%s, %s, 1, %s)", [batch_id, stage, Jsonb(result)])


def test_every_dataset_and_model_that_contained_a_product_is_named(changed, rakuten, as_superuser):
    with as_superuser() as connection:
        finish(connection, 1, "snapshot", {"run_id": "d1"})
        finish(connection, 1, "training", {"run_id": "m1", "model_version": 3})
        finish(connection, 2, "snapshot", {"run_id": "d2"})
    found = json.loads(rakuten("taint", changed["restored"], "--json").stdout)
    batches = [tuple(batch.values())[:7] for batch in found["batches"]]
    assert batches == [
        (1, "week_1", True, "d1", "m1", 3, [changed["restored"]]),
        (2, "week_2", True, "d2", None, None, [changed["restored"]]),
        (3, "correction_1", False, None, None, None, []),
        (4, "correction_2", True, None, None, None, [changed["restored"]]),
        (5, "week_3", True, None, None, None, [changed["restored"]]),
    ]
    entries = [(entry["operation_type"], entry["batch_name"]) for entry in found["history"]]
    assert entries == [
        *[("INSERT", "week_1")] * 2,
        *[("DELETE", "correction_1")] * 2,
        *[("INSERT", "correction_2")] * 2,
    ]


@pytest.mark.parametrize(
    ("kind", "holding"),
    [
        ("removed", ["week_1", "week_2"]),
        ("renamed", ["week_1", "week_2", "correction_1", "correction_2", "week_3"]),
        (66, ["week_1", "week_2", "correction_1", "correction_2", "week_3"]),
        ("label", ["week_1", "week_2", "correction_1", "correction_2", "week_3"]),
    ],
)
def test_a_product_is_in_the_datasets_of_the_batches_that_knew_it_by_whatever_id(
    changed, rakuten, kind, holding
):
    found = json.loads(rakuten("taint", changed.get(kind, kind), "--json").stdout)
    assert [batch["batch_name"] for batch in found["batches"] if batch["in_dataset"]] == holding


def test_a_dataset_that_holds_a_product_under_another_productid_says_which(changed, rakuten):
    new, old = rakuten("taint", "66").stdout, rakuten("taint", changed["renamed"]).stdout
    assert f"week_2, under productid {changed['renamed']} " in new
    assert "week_3, under" not in new
    assert "week_3, under productid 66 " in old
    assert "week_2, under" not in old


def test_the_history_says_when_a_product_got_another_productid(changed, rakuten):
    assert "by rakuten_owner (test), as product 66: train" in rakuten("taint", changed["renamed"]).stdout
    assert f"as product {changed['renamed']}: train" in rakuten("taint", "66").stdout


def test_a_product_without_a_label_is_in_no_dataset(load_weeks, rakuten, owner, as_role):
    load_weeks(1)
    (productid,) = some(owner, "split = 'train'")
    owner.execute("delete from labels where productid = %s", [productid])
    owner.execute("update products set sample_rank = null where productid = %s", [productid])
    found = json.loads(rakuten("taint", productid, "--json").stdout)
    assert [batch["in_dataset"] for batch in found["batches"]] == [True]
    with as_role(Role.LOADER, autocommit=True) as loader:
        loader.execute("select claim_batch('correction_1', 40, '{}')")
        loader.execute("select complete_batch(2)")
    found = json.loads(rakuten("taint", productid, "--json").stdout)
    assert [batch["in_dataset"] for batch in found["batches"]] == [True, False]


def test_a_product_of_the_holdout_is_said_to_be(load_weeks, rakuten, owner):
    load_weeks(1)
    output = rakuten("taint", some(owner, "split = 'holdout'")[0]).stdout
    assert "no dataset ever contained" in output
    assert "is in the holdout (holdout_df): models are evaluated on it, and never trained on it" in output
    (productid,) = some(owner, "split = 'train'")
    owner.execute("update products set split = 'holdout' where productid = %s", [productid])
    output = rakuten("taint", productid).stdout
    assert "was held out after its load: later datasets do not contain it" in output
    assert "models are evaluated on it" not in output


def test_a_product_that_is_not_loaded_is_looked_up_in_the_fixed_sets(
    load_weeks, rakuten, owner, settings, training_set, monkeypatch, tmp_path
):
    load_weeks(1)
    loaded = set(some(owner, "true", 1000))
    held_out = set(training_set.holdout()["productid"].to_pylist())
    later = next(iter(held_out - loaded))
    found = json.loads(rakuten("taint", later, "--json").stdout)
    assert (found["held_out"], found["in_holdout_df"], found["in_test_df"]) == (True, True, False)
    assert [batch["in_dataset"] for batch in found["batches"]] == [False]
    assert "is in the holdout (holdout_df)" in rakuten("taint", later).stdout

    test = read_test_set(settings.data_path)["productid"][0].as_py()
    found = json.loads(rakuten("taint", test, "--json").stdout)
    assert (found["held_out"], found["in_holdout_df"], found["in_test_df"]) == (False, False, True)
    output = rakuten("taint", test).stdout
    assert "no dataset ever contained" in output
    assert "test set (test_df)" in output

    waiting = set(training_set.table["productid"].to_pylist()) - loaded - held_out
    assert "a later week will load it" in str(rakuten("taint", next(iter(waiting))).exception)
    monkeypatch.setenv("DATA_PATH", str(tmp_path))
    assert "set DATA_PATH" in str(rakuten("taint", later).exception)
    monkeypatch.setenv("DATA_PATH", str(settings.data_path))
    assert rakuten("taint", later).exit_code == 0


def test_a_product_of_the_holdout_that_somebody_entered_before_its_week_is_in_holdout_df(
    load_weeks, rakuten, owner, training_set
):
    load_weeks(1)
    early = training_set.rows(240, 258)
    productid = early.filter(pc.equal(early["split"], "holdout"))["productid"][0].as_py()
    owner.execute("insert into products (productid, designation) values (%s, 'by hand')", [productid])
    load_weeks(1)
    assert "is in the holdout (holdout_df)" in rakuten("taint", productid).stdout


def test_a_change_outside_any_batch_is_shown_as_such(load_weeks, rakuten, owner):
    load_weeks(1)
    (productid,) = some(owner, "split = 'train'")
    owner.execute("update products set designation = 'by hand' where productid = %s", [productid])
    who = "UPDATE products by rakuten_owner (test): train, 'by hand'"
    assert f"outside any batch, first in no batch yet: {who}" in rakuten("taint", productid).stdout
    load_weeks(1)
    assert f"outside any batch, first in week_2: {who}" in rakuten("taint", productid).stdout


def test_a_product_that_never_was_is_refused(load_weeks, rakuten, training_set):
    load_weeks(1)
    assert isinstance(rakuten("taint", "3").exception, BadInputError)
    assert "choose a productid from X_train.csv" in str(rakuten("taint", "3").exception)
    productid = training_set.rows(0, 1)["productid"][0].as_py()
    assert rakuten("taint", productid).exit_code == 0
    assert rakuten("taint", "three").exit_code == 2
