"""Say in a few words what the report shows: the tiles at the top of the page."""

from dataclasses import dataclass

from rakuten.report.parts import NOT_RECORDED, NOTHING, plural, score, size
from rakuten.report.sections.models import trend
from rakuten.report.sections.operations import when_full
from rakuten.report.tables import Facts


@dataclass(frozen=True)
class Tile:
    """A tile: a question, a short answer, a sentence, and the anchor of the section with more. `tone` is good, bad or plain."""

    title: str
    answer: str
    sentence: str
    anchor: str
    tone: str = "plain"


def tiles_of(facts: Facts) -> list[Tile]:
    """Return the tiles in their order."""
    return [_loaded(facts), _champion(facts), _trend(facts), _drift(facts), _problems(facts), _disk(facts)]


def _loaded(facts: Facts) -> Tile:
    batches = facts.rows("batches")
    last, weeks = batches[-1], sum(row["kind"] == "week" for row in batches)
    corrections = len(batches) - weeks
    of_file = f" of {last['file_rows']:,}" if last["file_rows"] else ""
    more = f" and {plural(corrections, 'correction')}" if corrections else ""
    return Tile(
        "Loaded",
        f"{last['percentage']:g}\u00a0%",
        f"{last['total_rows']:,}{of_file} training rows, in {plural(weeks, 'week')}{more}; the last was {last['batch_name']}.",
        "rows",
    )


def _champion(facts: Facts) -> Tile:
    found = facts.rows("champion_lineage")
    if not found or found[0]["f1"] is None:
        return Tile("Champion", "none", "No model is in use yet.", "champion")
    row = found[0]
    return Tile(
        "Champion",
        f"F1 {score(row['f1'])}",
        f"Version {row['version']}, the model of {row['batch_name']}, is in use. Its F1 is between {score(row['f1_low'])} and "
        f"{score(row['f1_high'])} (95\u00a0%).",
        "champion",
    )


def _trend(facts: Facts) -> Tile:
    found = facts.rows("model_scores")
    change = found[-1]["f1"] - found[0]["f1"] if found else 0.0
    return Tile("Trend of the models", f"{change:+.3f}", trend(found), "f1")


def _drift(facts: Facts) -> Tile:
    found = facts.rows("drift")
    if not found:
        return Tile("Drift", NOTHING, f"Drift is {NOT_RECORDED}.", "drift")
    newest = found[-1]["batch_name"]
    drifted = list(
        dict.fromkeys(row["feature"] for row in found if row["batch_name"] == newest and row["drifted"])
    )
    if not drifted:
        return Tile(
            "Drift",
            "none",
            f"The rows of {newest} are like the rows before, as far as chance allows.",
            "drift",
            "good",
        )
    return Tile(
        "Drift", plural(len(drifted), "feature"), f"In {newest}: {', '.join(drifted)}.", "drift", "bad"
    )


def _problems(facts: Facts) -> Tile:
    found = facts.rows("problems")
    if not found:
        return Tile("Problems", "none", "The doctor finds nothing wrong in PostgreSQL.", "problems", "good")
    first = found[0]
    sentence = f"The first: {first['finding']} ({first['subject']}). What to do: {first['remedy']}."
    return Tile("Problems", plural(len(found), "problem"), sentence, "problems", "bad")


def _disk(facts: Facts) -> Tile:
    return Tile("Disk", f"{size(facts.disk.free_bytes)} free", when_full(facts), "storage")
