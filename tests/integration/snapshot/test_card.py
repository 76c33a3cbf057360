"""What the data card and the Croissant metadata of a dataset say."""

import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from jobs import claim_job

from db.database import Role
from db.load.correction import correct
from listeners.cards.document import MARKDOWN_LENGTH
from listeners.snapshot import handle as snapshot
from listeners.tracking.runs import Tracking
from shared.events import Stage
from shared.hashing import sha256_of


@pytest.fixture
def dataset(database, settings, tmp_path):
    """Build the dataset of a batch: its run, and the folder with its artifacts."""
    tracking = Tracking(settings)

    def built(batch_id):
        result = snapshot.handle(
            claim_job(Stage.SNAPSHOT, database.conninfo(Role.SNAPSHOT), settings, batch_id)
        )
        run = tracking.client.get_run(result["run_id"])
        folder = tmp_path / str(batch_id)
        folder.mkdir()
        for artifact in ("card.html", "croissant.json", f"{run.info.run_name}.parquet"):
            tracking.download(run, artifact, folder)
        return run, folder

    return built


class Texts(HTMLParser):
    """The texts of a page, one line for each."""

    def __init__(self, page):
        super().__init__()
        self.lines = []
        self.feed(page)

    def handle_data(self, data):
        self.lines.append(data.strip())


def test_the_card_of_a_dataset_says_where_it_comes_from_and_what_is_in_it(dataset, load_weeks):
    run, folder = dataset(*load_weeks(1))
    page = (folder / "card.html").read_text(encoding="utf-8")
    lines = Texts(page).lines
    assert "Data card: train_week_1" in lines
    frame = pd.read_parquet(folder / "train_week_1.parquet").drop_duplicates("productid")
    code, products = next(iter(frame["prdtypecode"].value_counts().items()))
    assert lines[lines.index(str(code)) :].index(f"{products:,}") < 10
    missing = frame["description"].isna().mean()
    assert f"{100 * missing:.1f} %" in lines
    repeated = frame["designation"].duplicated().sum()
    assert any(line.startswith(f"{repeated:,} products have a title") for line in lines)
    for value in (
        run.data.tags["batch_seal"],
        run.data.tags["dataset_sha256"],
        run.data.tags["dataset_digest"],
    ):
        assert value in page
    assert "rakuten_loader" in page
    assert any(
        line.startswith(f"{100 * missing:.1f} % of the products have no description.") for line in lines
    )
    assert not re.search(r"<script|src=|href=|url\(", page)


def test_a_card_and_the_metadata_state_only_what_is_known_of_the_source_files(dataset, load_weeks, settings):
    """The files may be generated ones, or the user's own."""
    _, folder = dataset(*load_weeks(1))
    page = (folder / "card.html").read_text(encoding="utf-8")
    metadata = json.loads((folder / "croissant.json").read_text(encoding="utf-8"))
    files = sorted(settings.data_path.glob("*.csv"))
    assert files
    for file in files:
        sha256 = sha256_of(file)
        assert f"SHA-256 of {file.stem}" in page
        assert sha256 in page
        assert f"{file.stem}" in metadata["description"]
        assert sha256 in metadata["description"]
    for sentence in re.split(r"(?<=[.:]) ", page):
        assert "challenge" not in sentence or sentence.startswith(
            "In the data of the Rakuten France challenge, "
        )
    assert "hallenge" not in metadata["description"]
    assert "url" not in metadata


def test_the_description_of_a_dataset_is_the_card_as_markdown(dataset, load_weeks):
    run, _ = dataset(*load_weeks(1))
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith("**train_week_1**")
    assert "### Changed since the batch before" in note
    assert "rakuten reproduce week_1" in note
    assert len(note) <= MARKDOWN_LENGTH


def test_the_card_of_a_correction_says_who_changed_what(dataset, load_weeks, as_role, settings, tmp_path):
    load_weeks(1)
    with as_role(Role.LOADER) as connection:
        [[productid]] = connection.execute(
            "select productid from products where split = 'train' limit 1"
        ).fetchall()
        file = tmp_path / "correction.csv"
        file.write_text(f"productid,designation\n{productid},Un autre titre\n", encoding="utf-8")
        correction = correct(connection, settings, file).batch_id
    run, _ = dataset(correction)
    assert r"| products | update | rakuten\_loader | 1 |" in run.data.tags["mlflow.note.content"]


@pytest.mark.filterwarnings("ignore")
def test_the_rows_of_a_dataset_can_be_read_through_its_croissant_metadata(dataset, load_weeks):
    mlcroissant = pytest.importorskip("mlcroissant")
    _, folder = dataset(*load_weeks(1))
    described = mlcroissant.Dataset(jsonld=folder / "croissant.json")
    assert described.metadata.issues.errors == set()
    frame = pd.read_parquet(folder / "train_week_1.parquet")
    records = list(described.records("products"))
    assert len(records) == len(frame)
    first, row = records[0], frame.iloc[0]
    assert first["products/productid"] == row["productid"]
    assert first["products/designation"] in {row["designation"], row["designation"].encode()}
    assert first["products/prdtypecode"] == row["prdtypecode"]
