"""MLflow's own pages show the cards: in the preview of a run's artifacts, and as the run's description."""

import json
from types import SimpleNamespace

import pytest
from hostile_titles import HOSTILE_TITLES
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE
from mlflow_server import MlflowServer
from repository import ROOT
from stage_work import work_on

from listeners.cards.document import Card, Paragraph, Section, Table
from listeners.tracking.runs import Tracking
from shared.mlflow_names import DATASET_EXPERIMENT, MODEL_EXPERIMENT

SCREENSHOTS = ROOT / "build" / "screenshots"
WAIT_MS = 90_000


@pytest.fixture
def runs(database, settings, load_weeks, tmp_path):
    """Two weeks in a real MLflow server: its address, and the last dataset's and model's run."""
    with MlflowServer(tmp_path / "server") as server:
        settings = settings.model_copy(update={"mlflow_tracking_uri": server.url})
        for batch_id in load_weeks(2):
            work_on(database, settings, batch_id)
        tracking = Tracking(settings)
        found = {
            name: tracking.client.search_runs(
                [tracking.experiment_id(experiment)], f"attributes.run_name = '{name}'"
            )[0]
            for experiment, name in ((DATASET_EXPERIMENT, "train_week_2"), (MODEL_EXPERIMENT, "model_week_2"))
        }
        yield SimpleNamespace(url=server.url, tracking=tracking, **found)


def open_page(browser, **options):
    page = browser.new_page(viewport={"width": 1400, "height": 1000}, **options)
    # what a reader chooses once, at the top left: model training, and no assistant
    page.add_init_script(
        "localStorage.setItem('mlflow.workflowType_v1', '\"machine_learning\"');"
        "localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false')"
    )
    page.set_default_timeout(WAIT_MS)
    return page


def test_mlflow_shows_the_cards_and_the_descriptions(runs, browser, tmp_path):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page = open_page(browser)
    page.goto(runs.url)  # the first page after a choice may not know it yet
    for kind, run, heading, introduction in (
        ("data_card", runs.train_week_2, "Data card: train_week_2", "balanced to"),
        (
            "model_card",
            runs.model_week_2,
            "Model card: model_week_2",
            "on the holdout, weighted by class size",
        ),
    ):
        address = f"{runs.url}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
        page.goto("about:blank")  # another fragment alone would not load the page again
        page.goto(f"{address}/artifacts/card.html")
        preview = page.frame_locator("iframe")
        preview.get_by_role("heading", name=heading).wait_for()
        page.screenshot(path=SCREENSHOTS / f"mlflow_{kind}.png")
        page.goto("about:blank")
        page.goto(address)
        page.get_by_text(introduction).first.wait_for()
        page.get_by_text("Show more").first.click()
        page.get_by_role("heading", name="Check it, build it again, trace it").wait_for()
        page.screenshot(path=SCREENSHOTS / f"mlflow_{kind}_description.png", full_page=True)
    assert (
        "**Became champion**"
        in runs.tracking.client.get_run(runs.model_week_2.info.run_id).data.tags["mlflow.note.content"]
    )


def test_a_card_needs_nothing_from_elsewhere_and_follows_the_colours_of_the_system(runs, browser, tmp_path):
    path = runs.tracking.download(runs.model_week_2, "card.html", tmp_path)
    colours = {}
    for scheme in ("light", "dark"):
        page = browser.new_page(viewport={"width": 390, "height": 900}, color_scheme=scheme)
        requests, problems = [], []
        page.on("request", lambda request, seen=requests: seen.append(request.url))
        page.on("console", lambda message, seen=problems: seen.append(message.text))
        page.goto(path.as_uri())
        assert requests == [path.as_uri()]
        assert problems == []
        # a wide table scrolls inside its frame, so that a phone's page does not
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        colours[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.screenshot(path=SCREENSHOTS / f"model_card_390_{scheme}.png")
    assert colours["light"] != colours["dark"]


def test_the_record_of_a_run_does_not_depend_on_its_description(runs, database):
    """The verdict is added to the description of a finished run, so no digest may cover it."""
    record = runs.tracking.record_of(runs.model_week_2.info.run_id)
    runs.tracking.client.set_tag(runs.model_week_2.info.run_id, "mlflow.note.content", json.dumps("another"))
    assert runs.tracking.record_of(runs.model_week_2.info.run_id) == record


def test_mlflow_shows_hostile_titles_as_their_text(browser, settings, tmp_path):
    rows = [(title, number) for number, title in enumerate(HOSTILE_TITLES)]
    sections = [
        Section(f"Part {at}", [Table(("Title", "Number"), rows[at : at + 5])])
        for at in range(0, len(rows), 5)
    ]
    with MlflowServer(tmp_path / "server") as server:
        tracking = Tracking(settings.model_copy(update={"mlflow_tracking_uri": server.url}))
        description = Card("Titles", [Paragraph("Titles as they are")], sections).markdown()
        experiment = tracking.experiment_id(DATASET_EXPERIMENT)
        run = tracking.client.create_run(experiment, tags={MLFLOW_RUN_NOTE: description})
        page = open_page(browser)
        page.goto(server.url)
        page.goto("about:blank")
        page.goto(f"{server.url}/#/experiments/{experiment}/runs/{run.info.run_id}")
        page.get_by_text("Show more").first.click()
        page.get_by_role("heading", name="Part 10").wait_for()
        tables = page.locator("table:has(th:text-is('Title'))")
        cells = tables.locator("td:first-child")
        assert [" ".join(text.split()) for text in cells.all_text_contents()] == [
            " ".join(title.split()) for title in HOSTILE_TITLES
        ]
        assert tables.locator("td").count() == 2 * len(HOSTILE_TITLES)
        assert tables.locator("td *").count() == 0  # no link, no image, no emphasis
