"""`rakuten suspects`: from the list that a model's run has logged to a correction."""

import csv
import json

import pandas as pd
import pytest

from db.database import Role
from listeners.tracking.runs import Tracking
from shared.errors import BadInputError
from shared.mlflow_names import MODEL_EXPERIMENT, Artifact


@pytest.fixture
def rakuten(server, settings, rakuten_as):
    return rakuten_as(server.conninfo(settings.postgres_db), settings)


@pytest.fixture
def reader(as_role):
    with as_role(Role.READER) as connection:
        yield connection


@pytest.fixture
def suspected(load_weeks, settings, reader, as_superuser, tmp_path):
    """Week 1 has a model, which suspects the labels of three products; returns their productids."""
    [batch_id] = load_weeks(1)
    products = reader.execute(
        "select productid, designation, prdtypecode from training_products order by sample_rank limit 3"
    ).fetchall()
    entries = [
        {
            "productid": productid,
            "designation": title,
            "prdtypecode": code,
            "category": "one",
            "probability": 0.01,
            "suggested_prdtypecode": 10 if code != 10 else 40,
            "suggested_category": "another",
            "suggested_probability": 0.9,
        }
        for productid, title, code in products
    ]
    tracking = Tracking(settings)
    run = tracking.client.create_run(tracking.experiment_id(MODEL_EXPERIMENT), run_name="model_week_1")
    path = tmp_path / Artifact.LABEL_SUSPECTS
    pd.DataFrame(entries).to_csv(path, index=False)
    tracking.client.log_artifact(run.info.run_id, str(path))
    record = {"state": "finished", "result": {"run_id": run.info.run_id}}
    with as_superuser() as connection:
        connection.execute(
            "update data_loads set metadata = jsonb_set(metadata, '{training}', %s) where id = %s",
            [json.dumps(record), batch_id],
        )
    return [entry["productid"] for entry in entries]


def test_the_file_becomes_a_correction_of_the_labels_alone(suspected, rakuten, tmp_path):
    path = tmp_path / "suspects.csv"
    done = rakuten("suspects", "--top", "2", "--out", path)
    assert done.exit_code == 0, done
    with path.open(encoding="utf-8", newline="") as file:
        assert [int(row["productid"]) for row in csv.DictReader(file)] == suspected[:2]
    checked = rakuten("correct", path, "--check")
    assert "products updated: 0" in checked.output
    assert "labels written: 2" in checked.output


def test_a_product_whose_label_was_corrected_is_not_listed_again(suspected, rakuten, tmp_path):
    path = tmp_path / "suspects.csv"
    rakuten("suspects", "--top", "1", "--out", path)
    assert rakuten("correct", path).exit_code == 0
    found = json.loads(rakuten("suspects", "--json").output)
    assert [suspect["productid"] for suspect in found] == suspected[1:]


def test_what_cannot_be_listed_is_said_and_works_after_its_remedy(suspected, rakuten, tmp_path):
    assert isinstance(rakuten("suspects", "--batch", "week_9").exception, BadInputError)
    assert json.loads(rakuten("status", "--json").output)[0]["batch_name"] == "week_1"
    path = tmp_path / "there.csv"
    path.touch()
    assert isinstance(rakuten("suspects", "--out", path).exception, BadInputError)
    path.unlink()
    assert rakuten("suspects", "--batch", "week_1", "--out", path).exit_code == 0


def test_a_batch_without_a_model_has_no_suspects_yet(load_weeks, rakuten):
    load_weeks(1)
    assert isinstance(rakuten("suspects", "--batch", "week_1").exception, BadInputError)
    assert json.loads(rakuten("status", "--json").output)[0]["batch_name"] == "week_1"


def test_a_confirmed_label_is_not_suspected_again(suspected, rakuten, tmp_path, reader):
    path = tmp_path / "right.csv"
    rakuten("suspects", "--top", "2", "--out", path)
    for _ in range(2):  # the second time changes nothing
        assert rakuten("suspects", "--confirm", path).output == "labels confirmed: 2\n"
    found = json.loads(rakuten("suspects", "--json").output)
    assert [suspect["productid"] for suspect in found] == suspected[2:]
    assert reader.execute("select count(*) from confirmed_labels").fetchall() == [(2,)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("productid\n{known}\n77\n", "right.csv:3: no product has this productid (value: '77')"),
        (
            "productid\n{known}\n12a\n",
            "right.csv:3: productid is not a whole number of at most 18 digits (value: '12a')",
        ),
        ("product\n{known}\n", "right.csv:1: "),
        ("productid\n", "right.csv:1: no rows below the header"),
        ("productid\n{known}\n\xff", "right.csv:3: "),
        ("productid\n77\n{known}\nx\n", "2 problems in the file; no label was confirmed"),
    ],
)
def test_a_file_that_cannot_be_confirmed_confirms_nothing(
    suspected, rakuten, tmp_path, reader, content, message
):
    path = tmp_path / "right.csv"
    path.write_bytes(content.format(known=suspected[0]).encode("latin1"))
    error = rakuten("suspects", "--confirm", path).exception
    assert isinstance(error, BadInputError)
    assert message in str(error)
    assert reader.execute("select count(*) from confirmed_labels").fetchall() == [(0,)]
    path.write_text(f"productid\n{suspected[0]}\n")  # what each remedy asks for
    assert rakuten("suspects", "--confirm", path).output == "labels confirmed: 1\n"


def test_json_lists_every_problem_of_a_file(suspected, rakuten, tmp_path):
    path = tmp_path / "right.csv"
    path.write_text(f"productid\n77\n{suspected[0]}\nx\n")
    refused = rakuten("suspects", "--confirm", path, "--json")
    assert refused.exit_code == 2
    assert [(problem["line"], problem["value"]) for problem in json.loads(refused.output)["problems"]] == [
        (2, "77"),
        (4, "x"),
    ]
