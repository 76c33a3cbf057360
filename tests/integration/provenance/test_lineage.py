"""Where things come from and what became of them, by whatever name they are asked for, also where pieces are missing."""

import json
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
from lineage_stages import Stages, artifacts_of, shown

from db.connect import connect
from db.database import Database, Role
from db.load import steps
from db.source.training_set import read_training_set
from listeners.tracking.runs import Tracking
from rakuten import cli
from rakuten.provenance.lineage import lineage
from rakuten.provenance.references import ReferenceKind, resolve
from shared.config import read_settings
from shared.errors import BadInputError
from shared.events import Stage
from shared.mlflow_names import CHAMPION, REGISTERED_MODEL, Artifact

NOWHERE = "http://127.0.0.1:9"


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
        training_set = read_training_set(generated, settings.random_seed, settings.holdout_percentage)
        with connect(database.conninfo(Role.LOADER), "test load") as loader:
            for _ in range(6):
                plan = steps.check_current_state(loader, settings, training_set)
                steps.complete_batch(loader, steps.load_increment(loader, plan, training_set).batch_id)
        stages = Stages(database, tracking)
        datasets = {batch_id: stages.build(batch_id) for batch_id in (1, 2, 4)}
        models = {batch_id: stages.train(batch_id, run_id) for batch_id, run_id in datasets.items()}
        tracking.client.set_registered_model_alias(REGISTERED_MODEL, CHAMPION, "2")
        tracking.client.delete_run(datasets[4])
        tracking.supersede(models[4])
        stages.record(stages.claim(Stage.SNAPSHOT, 5), run_id="0" * 32)
        stages.give_up(6, "no [disk]")
        Path(artifacts_of(tracking, datasets[1]), Artifact.MANIFEST).unlink()
        yield SimpleNamespace(database=database, tracking=tracking, datasets=datasets, models=models)
        connection.execute("drop database lineage with (force)")


@pytest.fixture
def reader(built):
    with built.database.connect(Role.READER, "test", autocommit=True) as connection:
        yield connection


@pytest.fixture
def found(built, reader):
    return lambda text: resolve(str(text), reader, built.tracking)


@pytest.fixture
def asked(built, reader, found):
    """The document, and the tree as it is printed."""
    return lambda text: shown(lineage(found(text), reader, built.tracking))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("2", ReferenceKind.BATCH),
        ("week_2", ReferenceKind.BATCH),
        ("train_week_2", ReferenceKind.DATASET),
        ("model_week_2", ReferenceKind.MODEL),
        ("models:/rakuten_classifier/2", ReferenceKind.MODEL),
        ("rakuten_classifier/2", ReferenceKind.MODEL),
        ("models:/rakuten_classifier@champion", ReferenceKind.MODEL),
        ("rakuten_classifier@champion", ReferenceKind.MODEL),
        ("{dataset}", ReferenceKind.DATASET),
        ("runs:/{dataset}/train_week_2.parquet", ReferenceKind.DATASET),
        ("{model}", ReferenceKind.MODEL),
        ("{file}", ReferenceKind.FILE),
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
    productid = reader.execute("select min(productid) from products").fetchone()[0]
    reference = found(productid)
    assert (reference.kind, reference.productid, reference.batch_id) == (
        ReferenceKind.PRODUCT,
        productid,
        None,
    )


def test_a_product_whose_number_is_a_week_is_named_in_full(found, built, server):
    with psycopg.connect(server.conninfo("lineage")) as connection:
        connection.execute("insert into products (productid) values (2)")
    assert (found("2").kind, found("product:2").kind) == (ReferenceKind.BATCH, ReferenceKind.PRODUCT)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("week_9", "there is no batch 'week_9'"),
        ("99", "neither a week that is loaded nor a productid"),
        ("product:99", "no product 99 was ever loaded"),
        ("models:/rakuten_classifier/9", "MLflow does not know models:/rakuten_classifier/9"),
        ("rakuten_classifier@best", "MLflow does not know rakuten_classifier@best"),
        ("models:/m-0123", "MLflow does not know models:/m-0123"),
        ("0" * 31 + "f", "MLflow does not know"),
        ("weak_7", "'weak_7' is no known name"),
        ("unlogged.csv", "no run has logged unlogged.csv with these bytes"),
    ],
)
def test_what_is_not_known_is_refused_with_a_remedy(found, text, said):
    Path("unlogged.csv").write_text("something else")
    with pytest.raises(BadInputError, match=said) as refused:
        found(text)
    assert refused.value.remedy


def test_a_file_of_a_run_whose_manifest_was_deleted_is_not_found(found, tmp_path):
    file = tmp_path / "train_week_1.parquet"
    file.write_text("rows of train_week_1")
    with pytest.raises(BadInputError, match=r"no run has logged train_week_1\.parquet"):
        found(file)


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


@pytest.mark.parametrize("text", ["week_1", "train_week_1", "model_week_1", Artifact.SUBMISSION])
def test_what_was_asked_for_is_marked(asked, text):
    Path(Artifact.SUBMISSION).write_text("predictions of model_week_1")
    [line] = [line for line in asked(text)[1].splitlines() if "◀" in line]
    assert line.lstrip("│├└─ ").startswith(f"{text} ")


def test_a_stage_that_is_not_done_is_shown_as_such(asked):
    document, tree = asked("week_3")
    dataset = document["batches"][-1]["dataset"]
    assert (dataset["state"], dataset["run_id"], dataset["run_status"]) == ("waiting", None, None)
    assert "train_week_3  not built yet" in tree


def test_a_stage_that_was_given_up_says_why(asked):
    assert "given up: no [disk]" in asked("week_6")[1]


def test_runs_that_were_deleted_or_superseded_are_shown_as_such(asked):
    document, tree = asked("week_4")
    dataset = document["batches"][-1]["dataset"]
    assert (dataset["run_status"], dataset["model"]["run_status"]) == ("DELETED", "SUPERSEDED")
    assert "deleted in MLflow" in tree
    assert "superseded: another run is the recorded one" in tree


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
    with database.connect(Role.READER, "test", autocommit=True) as elsewhere:
        found = resolve(built.models[2], elsewhere, built.tracking)
        document, tree = shown(lineage(found, elsewhere, built.tracking))
    [batch] = document["batches"]
    assert (batch["known"], batch["batch_name"], document["source"]) == (False, "week_2", None)
    assert batch["dataset"]["run_id"] == built.datasets[2]
    assert batch["dataset"]["model"]["run_id"] == built.models[2]
    assert "not a batch of this database" in tree


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


def test_every_kind_of_name_finds_something(rakuten, reader):
    [productid] = reader.execute("select min(productid) from products where split = 'train'").fetchone()
    Path(Artifact.SUBMISSION).write_text("predictions of model_week_2")
    names = ["rakuten_classifier@champion", "week_2", "train_week_2", "model_week_2"]
    for name in (*names, "models:/rakuten_classifier/2", productid, Artifact.SUBMISSION):
        found = rakuten("lineage", name)
        assert found.exit_code == 0, found
        assert "week_2" in found.output


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
    assert "remedy: repeat the command later; MLFLOW_TRACKING_URI" in said
