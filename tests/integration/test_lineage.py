"""Where things come from and what became of them, by whatever name they are asked for, also where pieces are missing."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
from psycopg.types.json import Jsonb
from rich.console import Console

from db import load, source
from db.connect import connect, engine
from db.correct import correct
from db.database import Database, Role
from db.sql import query
from listeners import cli
from listeners.job import Job
from listeners.lineage import lineage
from listeners.lineage_tree import tree_of
from listeners.mlflow_runs import Tracking
from listeners.references import Kind, resolve
from shared.config import read_settings
from shared.errors import BadInputError
from shared.events import Stage
from shared.mlflow_names import (
    CHAMPION,
    DATASET_EXPERIMENT,
    MANIFEST,
    MODEL_EXPERIMENT,
    REGISTERED_MODEL,
    SUBMISSION,
    dataset_name,
    model_run_name,
)

NOWHERE = "http://127.0.0.1:9"


class Stages:
    """Both stages, publishing runs as the real ones do, with next to nothing in them."""

    def __init__(self, database, tracking):
        self.database, self.tracking = database, tracking

    def session(self, stage):
        return connect(self.database.conninfo(Role[stage.upper()]), "test", autocommit=True)

    def claim(self, stage, batch_id) -> Job:
        with self.session(stage) as connection:
            statement = "select claim_stage(%s, %s, 'host:1', 'notify', '0 s')"
            [attempt] = connection.execute(statement, [batch_id, stage]).fetchone()
        conninfo = self.database.conninfo(Role[stage.upper()])
        return Job(stage, conninfo, self.database.settings, "", batch_id, f"week_{batch_id}", attempt)

    def record(self, job, **result):
        with self.session(job.stage) as connection:
            connection.execute(
                "select finish_stage(%s, %s, %s, %s)", [job.batch_id, job.stage, job.attempt, Jsonb(result)]
            )

    def give_up(self, batch_id, reason):
        job = self.claim(Stage.SNAPSHOT, batch_id)
        with self.session(Stage.SNAPSHOT) as connection:
            connection.execute(
                "select fail_stage(%s, 'snapshot', %s, %s, null)", [batch_id, job.attempt, reason]
            )

    def build(self, batch_id) -> str:
        job = self.claim(Stage.SNAPSHOT, batch_id)
        name, tags = dataset_name(job.batch_name), job.identity().batch_tags
        digest = {"dataset_sha256": f"da7a{batch_id}"}
        with self.tracking.publishing(DATASET_EXPERIMENT, name, digest, job.require_claim, **tags) as run:
            run.text(f"{name}.parquet", f"rows of {name}")
            run.values(params={"total_rows": 900})
        self.record(job, run_id=run.run_id, total_rows=900, **digest)
        return run.run_id

    def train(self, batch_id, dataset_run_id) -> str:
        job = self.claim(Stage.TRAINING, batch_id)
        name, tags = model_run_name(job.batch_name), job.identity().batch_tags
        dataset = {"dataset_run_id": dataset_run_id}
        with self.tracking.publishing(MODEL_EXPERIMENT, name, dataset, job.require_claim, **tags) as run:
            run.text(SUBMISSION, f"predictions of {name}")
            run.text("same.txt", "the same")
            interval = {"f1_score_ci_low": 0.7, "f1_score_ci_high": 0.8}
            run.values(metrics={"f1_score": 0.76, "accuracy": 0.77, **interval})
        self.record(job, run_id=run.run_id, model_version=self._register(run.run_id), f1_score=0.76)
        return run.run_id

    def _register(self, run_id) -> int:
        client = self.tracking.client
        if not client.search_registered_models():
            client.create_registered_model(REGISTERED_MODEL)
        return int(client.create_model_version(REGISTERED_MODEL, f"runs:/{run_id}/model", run_id).version)


@pytest.fixture(scope="module")
def built(server, generated, tmp_path_factory):
    """Six weeks: two are done, the second with the champion; to the others something has happened, or not yet."""
    settings = read_settings(
        postgres_db="lineage",
        state_path=tmp_path_factory.mktemp("lineage"),
        data_path=generated,
        mlflow_tracking_uri=None,  # MLflow leaves that of the last test in the environment
        _env_file=None,
    )
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute("create database lineage template template_rakuten")
        database, tracking = Database(settings, server), Tracking(settings)
        training_set = source.read_training_set(generated, settings.random_seed, settings.holdout_percentage)
        with connect(database.conninfo(Role.LOADER), "test load") as loader:
            for _ in range(6):
                plan = load.check_current_state(loader, settings, training_set)
                load.complete_batch(loader, load.load_increment(loader, plan, training_set).batch_id)
        stages = Stages(database, tracking)
        datasets = {batch_id: stages.build(batch_id) for batch_id in (1, 2, 4)}
        models = {batch_id: stages.train(batch_id, run_id) for batch_id, run_id in datasets.items()}
        tracking.client.set_registered_model_alias(REGISTERED_MODEL, CHAMPION, "2")
        tracking.client.delete_run(datasets[4])
        tracking.supersede(models[4])
        stages.record(stages.claim(Stage.SNAPSHOT, 5), run_id="0" * 32)
        stages.give_up(6, "no [disk]")
        Path(_artifacts(tracking, datasets[1]), MANIFEST).unlink()
        yield SimpleNamespace(database=database, tracking=tracking, datasets=datasets, models=models)
        connection.execute("drop database lineage with (force)")


def _artifacts(tracking, run_id) -> str:
    return tracking.client.get_run(run_id).info.artifact_uri.removeprefix("file://")


@pytest.fixture
def reader(built):
    with engine(built.database.conninfo(Role.READER), "test").connect() as connection:
        yield connection


@pytest.fixture
def found(built, reader):
    return lambda text: resolve(str(text), reader, built.tracking)


@pytest.fixture
def asked(built, reader, found):
    """The document, and the tree as it is printed."""
    return lambda text: shown(lineage(found(text), reader, built.tracking))


def shown(document):
    console = Console(width=10_000, highlight=False)
    with console.capture() as captured:
        console.print(tree_of(document))
    return document, captured.get()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("2", Kind.BATCH),
        ("week_2", Kind.BATCH),
        ("train_week_2", Kind.DATASET),
        ("model_week_2", Kind.MODEL),
        ("models:/rakuten_classifier/2", Kind.MODEL),
        ("rakuten_classifier/2", Kind.MODEL),
        ("models:/rakuten_classifier@champion", Kind.MODEL),
        ("rakuten_classifier@champion", Kind.MODEL),
        ("{dataset}", Kind.DATASET),
        ("runs:/{dataset}/train_week_2.parquet", Kind.DATASET),
        ("{model}", Kind.MODEL),
        ("{file}", Kind.FILE),
    ],
)
def test_many_names_lead_to_the_same_batch_runs_and_version(built, found, tmp_path, text, kind):
    dataset, model = built.datasets[2], built.models[2]
    file = tmp_path / "my_copy.csv"
    file.write_text("predictions of model_week_2")
    reference = found(text.format(dataset=dataset, model=model, file=file))
    assert (reference.kind, reference.batch_id, reference.batch_name) == (kind, 2, "week_2")
    assert (reference.dataset_run_id, reference.model_run_id, reference.model_version) == (dataset, model, 2)


def test_a_number_that_is_no_week_is_a_product(found, reader):
    productid = reader.exec_driver_sql("select min(productid) from products").scalar_one()
    reference = found(productid)
    assert (reference.kind, reference.productid, reference.batch_id) == (Kind.PRODUCT, productid, None)


def test_a_product_whose_number_is_a_week_is_named_in_full(found, built, server):
    with psycopg.connect(server.conninfo("lineage")) as connection:
        connection.execute("insert into products (productid) values (2)")
    assert (found("2").kind, found("product:2").kind) == (Kind.BATCH, Kind.PRODUCT)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("week_9", "there is no batch 'week_9'"),
        ("99", "neither a week that is loaded nor a product"),
        ("product:99", "no product 99 was ever loaded"),
        ("models:/rakuten_classifier/9", "MLflow knows no models:/rakuten_classifier/9"),
        ("rakuten_classifier@best", "MLflow knows no rakuten_classifier@best"),
        ("models:/m-0123", "MLflow knows no models:/m-0123"),
        ("0" * 31 + "f", "MLflow knows no"),
        ("weak_7", "nothing is known by the name 'weak_7'"),
        ("unlogged.csv", "no run has logged unlogged.csv with these bytes"),
    ],
)
def test_what_is_not_known_is_refused_with_a_remedy(found, text, said):
    Path("unlogged.csv").write_text("something else")
    with pytest.raises(BadInputError, match=said) as refused:
        found(text)
    assert refused.value.remedy


def test_a_file_of_a_run_without_a_manifest_is_found_all_the_same(built, found, tmp_path):
    file = tmp_path / "train_week_1.parquet"
    file.write_text("rows of train_week_1")
    reference = found(file)
    assert (reference.run_id, reference.artifact) == (built.datasets[1], file.name)


def test_a_file_that_two_runs_logged_names_both(built, found, tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("the same")
    reference = found(file)
    assert (reference.run_id, reference.artifact) == (built.models[2], "same.txt")
    assert reference.also_in == (built.models[1],)


def test_a_batch_is_followed_from_its_files_to_the_champion(built, asked, generated):
    document, tree = asked("week_2")
    files = sorted(path.name for path in generated.glob("*.csv"))
    assert [file["name"] for file in document["source"]["files"]] == files
    first, last = document["batches"]
    assert (first["batch_name"], first["new_rows"], first["dataset"]) == ("week_1", 240, None)
    assert (first["loaded_by"], first["application"]) == ("rakuten_loader", "test load")
    assert (last["dataset"]["run_id"], last["dataset"]["rows"]) == (built.datasets[2], 900)
    model = last["dataset"]["model"]
    assert (model["run_id"], model["run_status"]) == (built.models[2], "FINISHED")
    assert model["metrics"]["f1_score"] == 0.76
    assert model["versions"] == [{"name": REGISTERED_MODEL, "version": 2, "aliases": [CHAMPION]}]
    assert document["later"] == ["week_3", "week_4", "week_5", "week_6"]
    assert (document["product"], document["mlflow"]) == (None, None)
    for words in ("X_train.csv", f"seal {last['seal'][:12]}", "train_week_2", "900 rows", "@champion"):
        assert words in tree
    assert "F1 0.760 (0.700-0.800), accuracy 0.770" in tree


@pytest.mark.parametrize("text", ["week_1", "train_week_1", "model_week_1", SUBMISSION])
def test_what_was_asked_for_is_marked(asked, text):
    Path(SUBMISSION).write_text("predictions of model_week_1")
    [line] = [line for line in asked(text)[1].splitlines() if "◀" in line]
    assert line.lstrip("│├└─ ").startswith(f"{text} ")


def test_a_stage_that_is_not_done_is_shown_as_such(asked):
    document, tree = asked("week_3")
    dataset = document["batches"][-1]["dataset"]
    assert (dataset["state"], dataset["run_id"], dataset["run_status"]) == ("waiting", None, None)
    assert "train_week_3  not there yet" in tree


def test_a_stage_that_was_given_up_says_why(asked):
    assert "given up: no [disk]" in asked("week_6")[1]


def test_runs_that_were_deleted_or_superseded_are_shown_as_such(asked):
    document, tree = asked("week_4")
    dataset = document["batches"][-1]["dataset"]
    assert (dataset["run_status"], dataset["model"]["run_status"]) == ("DELETED", "SUPERSEDED")
    assert "deleted in MLflow" in tree
    assert "superseded: another run counts" in tree


def test_a_run_that_is_gone_for_good_is_shown_as_such(asked):
    document, tree = asked("week_5")
    assert document["batches"][-1]["dataset"]["run_status"] == "MISSING"
    assert "MLflow has no such run" in tree


def test_an_mlflow_that_does_not_answer_leaves_what_postgresql_knows(built, reader, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    nowhere = Tracking(built.database.settings.model_copy(update={"mlflow_tracking_uri": NOWHERE}))
    document, tree = shown(lineage(resolve("week_2", reader, nowhere), reader, nowhere))
    dataset = document["batches"][-1]["dataset"]
    assert (dataset["run_id"], dataset["run_status"]) == (built.datasets[2], "UNKNOWN")
    assert (dataset["rows"], dataset["model"]["metrics"]) == (900, {"f1_score": 0.76})
    assert document["mlflow"] in tree


def test_a_run_of_another_database_is_told_from_its_tags(built, database):
    with engine(database.conninfo(Role.READER), "test").connect() as elsewhere:
        found = resolve(built.models[2], elsewhere, built.tracking)
        document, tree = shown(lineage(found, elsewhere, built.tracking))
    [batch] = document["batches"]
    assert (batch["known"], batch["batch_name"], document["source"]) == (False, "week_2", None)
    assert batch["dataset"]["run_id"] == built.datasets[2]
    assert batch["dataset"]["model"]["run_id"] == built.models[2]
    assert "not a batch of this database" in tree


def test_a_product_is_followed_through_corrections_into_datasets(
    database, settings, load_weeks, as_superuser
):
    load_weeks(2)
    with as_superuser() as connection:
        [productid] = connection.execute(
            "select min(productid) from products where split = 'train'"
        ).fetchone()
        for statement in (
            "update products set designation = E'another [title]\\x1b[31m\\n' where productid = %s",
            "delete from labels where productid = %s",
            "delete from products where productid = %s",
        ):
            connection.execute(statement, [productid])
    load_weeks(1)
    tracking = Tracking(settings)
    with engine(database.conninfo(Role.READER), "test").connect() as connection:
        document, tree = shown(lineage(resolve(str(productid), connection, tracking), connection, tracking))
    changes = document["product"]["history"][-3:]
    assert [(entry["table_name"], entry["operation_type"]) for entry in changes] == [
        ("products", "UPDATE"),
        ("labels", "DELETE"),
        ("products", "DELETE"),
    ]
    assert {(entry["outside_any_batch"], entry["batch_name"]) for entry in changes} == {(True, "week_3")}
    held = [batch["batch_name"] for batch in document["batches"]]
    assert held in (["week_1", "week_2"], ["week_2"])
    assert "UPDATE outside any batch, seen by week_3 by postgres" in tree
    assert "another [title]?[31m?" in tree
    assert "\x1b" not in tree
    assert f"in {len(held)} dataset" in tree


def test_a_correction_is_a_batch_with_a_file_and_a_reason(database, settings, load_weeks, tmp_path):
    load_weeks(1)
    file = tmp_path / "titles.csv"
    with connect(database.conninfo(Role.LOADER), "test") as connection:
        [productid] = connection.execute("select min(productid) from products").fetchone()
        connection.rollback()
        file.write_text(f"productid,designation\n{productid},Another title\n")
        correct(connection, settings, file, reason="it was wrong")
    load_weeks(1)
    tracking = Tracking(settings)
    with engine(database.conninfo(Role.READER), "test").connect() as connection:
        document, tree = shown(lineage(resolve("correction_1", connection, tracking), connection, tracking))
    week, correction = document["batches"]
    assert (week["new_rows"], week["corrections"], week["files"]) == (240, None, [])
    assert (correction["new_rows"], correction["corrections"], correction["reason"]) == (
        None,
        1,
        "it was wrong",
    )
    assert [entry["name"] for entry in correction["files"]] == ["titles.csv"]
    assert document["later"] == ["week_2"]
    for words in ("1 correction “it was wrong”", "titles.csv", "train_correction_1  not there yet"):
        assert words in tree


def test_the_datasets_of_a_product_are_those_that_the_past_shows(database, load_weeks, as_superuser):
    """Against the as-of function, for every product that ever was, after changes of every kind."""
    load_weeks(1)
    some = "select productid from products where split = 'train' order by productid limit 5 offset"
    for changes in (
        (
            f"delete from products where productid in ({some} 0)",
            f"update labels set prdtypecode = 10 where productid in ({some} 5)",
            f"delete from labels where productid in ({some} 10)",
            f"update products set split = 'holdout' where productid in ({some} 15)",
            f"update products set productid = productid + 1 where productid in ({some} 20)",
            "insert into products (productid) values (1)",
            "insert into labels (productid, prdtypecode) values (1, 10)",
        ),
        (
            "insert into products (productid) select distinct productid from products_history on conflict do nothing",
            "insert into products (productid) values (2)",
            "insert into labels (productid, prdtypecode) select productid, 40 from products on conflict do nothing",
            f"delete from products where productid in ({some} 100)",
        ),
    ):
        with as_superuser() as connection:
            for change in changes:
                connection.execute(change)
            percentage = "(select max(percentage) from data_loads)"
            name = "'correction_' || (select count(*) from data_loads)"
            connection.execute(
                f"insert into data_loads (batch_name, percentage, status) values ({name}, {percentage}, 'completed')"
            )
    with engine(database.conninfo(Role.READER), "test").connect() as connection:
        expected = connection.exec_driver_sql(
            "select product.productid, array_agg(data_loads.id order by data_loads.id)"
            " from data_loads, products_as_of_batch(data_loads.id) as product"
            " where split = 'train' and prdtypecode is not null group by product.productid"
        ).all()
        ever = connection.exec_driver_sql("select distinct productid from products_history").scalars()
        statement = query("datasets_of_product")
        found = {
            productid: [
                (row.batch_id, row.productid)
                for row in connection.exec_driver_sql(statement, {"productid": productid})
            ]
            for productid in ever
        }
    assert {tuple(held) for _, held in expected} == {(1,), (1, 2), (1, 2, 3), (1, 3), (2, 3), (3,)}
    expected = dict(map(tuple, expected))
    by_this_name = {
        productid: [batch_id for batch_id, name in held if name == productid]
        for productid, held in found.items()
    }
    assert {productid: held for productid, held in by_this_name.items() if held} == expected
    others = [
        (batch_id, name) for productid, held in found.items() for batch_id, name in held if name != productid
    ]
    assert others  # under which productid a batch knew it that has another one elsewhere
    assert all(batch_id in expected[name] for batch_id, name in others)


@pytest.fixture
def rakuten(built, rakuten_as):
    """On the six weeks."""
    return rakuten_as(built.database.conninfo(Role.READER), built.database.settings)


def test_the_command_prints_a_tree_or_the_same_as_json(rakuten):
    printed = rakuten("lineage", "rakuten_classifier@champion")
    assert printed.exit_code == 0
    assert "rakuten_classifier version 2 @champion" in printed.output
    document = json.loads(rakuten("lineage", "rakuten_classifier@champion", "--json").output)
    assert list(document) == ["reference", "source", "product", "batches", "later", "mlflow"]
    dataset = document["batches"][-1]["dataset"]
    assert list(dataset) == [
        "name",
        "state",
        "error",
        "run_id",
        "run_status",
        "rows",
        "sha256",
        "digest",
        "model",
    ]
    assert dataset["model"]["versions"][0]["aliases"] == [CHAMPION]


def test_every_example_of_the_readme_finds_something(rakuten, reader):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    examples = re.findall("^rakuten lineage ([^#\n]+)", readme, re.MULTILINE)
    productid = reader.exec_driver_sql(
        "select min(productid) from products where split = 'train'"
    ).scalar_one()
    Path(SUBMISSION).write_text("predictions of model_week_2")
    for example in examples:
        found = rakuten("lineage", *example.replace("2925916501", str(productid)).split())
        assert found.exit_code == 0, found
        assert "week_2" in found.output
    assert len(examples) == 4


def test_the_command_refuses_what_it_does_not_know(rakuten):
    assert isinstance(rakuten("lineage", "weak_7").exception, BadInputError)


def test_the_command_names_an_mlflow_that_is_away(rakuten, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    assert "Connection refused" in rakuten("lineage", "week_1").output


@pytest.mark.parametrize(
    "command",
    [
        "champion",
        "lineage rakuten_classifier@champion",
        "prove --product 1 --dataset week_1",
        "reproduce week_1",
        "rollback --reason x",
        "verify",
    ],
)
def test_a_command_that_needs_mlflow_says_that_it_is_away(rakuten, command, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("sys.argv", ["rakuten", *command.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert said.startswith("error: MLflow ")
    assert "Connection refused" in said
    assert "remedy: repeat the command when it is back; MLFLOW_TRACKING_URI" in said
