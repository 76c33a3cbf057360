"""A product's proof, from the audit trail's dataset in MLflow to a check that needs neither."""

import json
from hashlib import sha256

import pyarrow.parquet as pq
import pytest
from jobs import claim_job, finish

from db.database import Role
from listeners.snapshot import handle as snapshot
from listeners.snapshot.dataset_digest import Proof, identity_of
from listeners.tracking.runs import Tracking
from shared.errors import BadInputError, PipelineError, VerificationError
from shared.events import Stage
from shared.mlflow_names import Tag


@pytest.fixture
def datasets(database, settings, load_weeks):
    """Weeks 1 and 2, loaded and built; the run of each dataset."""
    return [build(database, settings, batch_id) for batch_id in load_weeks(2)]


def build(database, settings, batch_id):
    job = claim_job(Stage.SNAPSHOT, database.conninfo(Role.SNAPSHOT), settings, batch_id)
    result = snapshot.handle(job)
    finish(job, result)
    return result["run_id"]


@pytest.fixture
def rakuten(database, settings, rakuten_as):
    """On this test's database."""
    return rakuten_as(database.conninfo(Role.READER), settings)


@pytest.fixture
def rows(settings):
    """The rows of a dataset, as its copy on disk has them."""
    return lambda week: pq.read_table(
        settings.state_path / "training_snapshots" / f"train_week_{week}.parquet"
    ).to_pylist()


@pytest.fixture
def one_productid(as_role):
    def look(condition):
        with as_role(Role.READER) as connection:
            return connection.execute(
                f"select min(productid) from products_as_of_batch(2) where {condition}"
            ).fetchone()[0]

    return look


def test_a_dataset_s_run_carries_the_digest_of_its_content(datasets, settings):
    tracking = Tracking(settings)
    for week, run_id in enumerate(datasets, start=1):
        run = tracking.client.get_run(run_id)
        digest = identity_of(settings.state_path / "training_snapshots" / f"train_week_{week}.parquet").digest
        assert run.data.tags[Tag.DATASET_DIGEST] == digest
        [entry] = run.inputs.dataset_inputs
        assert entry.dataset.digest == digest[:36]


def test_a_product_is_proved_and_the_proof_checked_without_database_or_mlflow(
    datasets, rakuten, rows, settings, tmp_path, monkeypatch
):
    [*_, row] = rows(2)
    printed = rakuten("prove", "--product", row["productid"], "--dataset", "week_2")
    digest = Tracking(settings).client.get_run(datasets[1]).data.tags[Tag.DATASET_DIGEST]
    copies = sum(other == row for other in rows(2))
    assert printed.exit_code == 0, printed.exception
    assert f"train_week_2 holds product {row['productid']} in {copies} cop" in printed.output
    assert (
        f"verified: the proof leads to the digest in the tag dataset_digest of run {datasets[1]}: {digest}\n"
        in printed.output
    )

    path = tmp_path / "proof.json"
    path.write_text(rakuten("prove", "--product", row["productid"], "--dataset", "2", "--json").output)
    monkeypatch.setenv("POSTGRES_PORT", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    checked = rakuten("prove", "--check", path)
    assert checked.exit_code == 0
    assert f"verified: the digest computed from the proof is {digest}\n" in checked.output
    assert "compare this digest with the tag dataset_digest of the MLflow run train_week_2" in checked.output
    document = json.loads(rakuten("prove", "--check", path, "--digest", digest, "--json").output)
    assert document == {
        "verified": True,
        "dataset_digest": digest,
        "productid": row["productid"],
        "prdtypecode": row["prdtypecode"],
        "copies": copies,
    }

    another = rakuten("prove", "--check", path, "--digest", sha256().hexdigest())
    assert (another.exit_code, another.output[:12]) == (1, "not verified")
    proof = Proof.from_json(path.read_bytes())
    path.write_text(proof.model_copy(update={"copies": copies + 1}).to_json())
    assert rakuten("prove", "--check", path).exit_code == 1


def test_a_batch_names_its_dataset_and_a_printed_proof_is_checked(datasets, rakuten, rows, tmp_path):
    question = ("prove", "--product", rows(1)[0]["productid"], "--dataset", "week_1")
    assert rakuten(*question).exit_code == 0
    (tmp_path / "proof.json").write_text(rakuten(*question, "--json").output)
    assert rakuten("prove", "--check", tmp_path / "proof.json").exit_code == 0


def test_postgresql_computes_the_same_hash_of_a_row(datasets, rakuten, rows, as_superuser):
    """The encoding is PostgreSQL's own, so that a row of the audit trail can be held against a proof in psql."""
    row = rows(1)[0]
    proof = Proof.from_json(
        rakuten("prove", "--product", row["productid"], "--dataset", "train_week_1", "--json").output
    )
    columns = [
        f"coalesce(int4send(octet_length({sent})) || {sent}, int4send(-1))"
        for sent in (
            "int8send(productid)",
            "convert_to(designation, 'UTF8')",
            "convert_to(description, 'UTF8')",
            "int8send(imageid)",
            "convert_to(image_path, 'UTF8')",
            "int8send(prdtypecode)",
        )
    ]
    with as_superuser() as connection:
        [found] = connection.execute(
            rf"select sha256('\x02'::bytea || {' || '.join(columns)}) from products_as_of_batch(1) where productid = %s",
            [row["productid"]],
        ).fetchone()
    assert found == proof.row.sha256()


def test_a_product_that_is_not_there_is_explained(datasets, rakuten, rows, one_productid):
    def said(productid, week):
        refused = rakuten("prove", "--product", productid, "--dataset", week)
        assert (refused.exit_code, type(refused.exception)) == (1, PipelineError)
        return refused.exception.message

    held_out = one_productid("split = 'holdout'")
    later = min({row["productid"] for row in rows(2)} - {row["productid"] for row in rows(1)})
    assert said(held_out, 1) == (
        f"train_week_1 does not hold product {held_out}: "
        "it is in the holdout: models are evaluated on it, and never trained on it"
    )
    assert said(later, 1).endswith("it was not there yet: it came with week_2")
    assert said(-5, 1).endswith("it was never loaded")


def test_a_product_that_was_deleted_or_has_lost_its_label_is_explained(
    datasets, database, settings, rakuten, rows, as_superuser
):
    deleted, unlabelled = sorted({row["productid"] for row in rows(2)})[:2]
    with as_superuser() as connection:
        connection.execute("delete from products where productid = %s", [deleted])
        connection.execute("delete from labels where productid = %s", [unlabelled])
        [batch_id] = connection.execute(
            "insert into data_loads (batch_name, percentage, status) values ('correction_1', 43, 'completed') returning id"
        ).fetchone()
    build(database, settings, batch_id)
    for productid, reason in ((deleted, "it had been deleted before"), (unlabelled, "it had no label")):
        refused = rakuten("prove", "--product", productid, "--dataset", "correction_1")
        assert refused.exception.message == f"train_correction_1 does not hold product {productid}: {reason}"


def test_a_dataset_that_is_not_what_its_run_says_is_refused(datasets, rakuten, rows, settings):
    client = Tracking(settings).client
    productid = rows(1)[0]["productid"]
    client.set_tag(datasets[0], Tag.DATASET_DIGEST, sha256().hexdigest())
    refused = rakuten("prove", "--product", productid, "--dataset", 1)
    assert isinstance(refused.exception, VerificationError)
    assert f"but the digest in run {datasets[0]} is e3b0c442" in refused.exception.message
    client.delete_tag(datasets[0], Tag.DATASET_DIGEST)
    refused = rakuten("prove", "--product", productid, "--dataset", 1)
    assert f"but the digest in run {datasets[0]} is none" in refused.exception.message


def test_a_batch_without_a_dataset_says_so(load_weeks, rakuten):
    load_weeks(1)
    refused = rakuten("prove", "--product", 1, "--dataset", "week_1")
    assert (refused.exit_code, refused.exception.message) == (1, "week_1 has no dataset yet")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--product", "1"),
        ("--dataset", "week_1"),
        ("--product", "1", "--dataset", "week_1", "--digest", "00"),
        ("--check", "proof.json", "--product", "1"),
        ("--check", "proof.json", "--digest", "00"),
        ("--check", "empty.json"),
        ("--product", "1", "--dataset", "weak_1"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(rakuten, tmp_path, arguments):
    (tmp_path / "empty.json").touch()
    (tmp_path / "proof.json").write_text(
        json.dumps(
            {
                "dataset": "d",
                "dataset_digest": "0" * 64,
                "row": dict.fromkeys(["designation", "description", "imageid", "image_path"])
                | {"productid": 1, "prdtypecode": 10},
                "copies": 1,
                "index": 0,
                "path": [],
                "classes": [],
            }
        )
    )
    assert isinstance(rakuten("prove", *arguments).exception, BadInputError)
