"""Say in a few words what the report shows: the tiles at the top of the page."""

from dataclasses import dataclass

from rakuten.console import readable_bytes
from rakuten.report.parts import NOTHING, plural, score
from rakuten.report.sections.data import weeks_without_drift
from rakuten.report.sections.models import no_champion, origin, trend
from rakuten.report.tables import Facts
from rakuten.storage_table import outlook


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
    row = next(iter(facts.rows("champion_lineage")), None)
    if row is None or row["version"] is None:
        return Tile("Champion", "none", no_champion(facts), "champion")
    if row["f1"] is None:
        return Tile("Champion", f"version {row['version']}", f"{origin(row)} Its F1 is unknown.", "champion")
    return Tile(
        "Champion",
        f"F1 {score(row['f1'])}",
        f"{origin(row)} Its F1 is between {score(row['f1_low'])} and {score(row['f1_high'])} (95\u00a0%).",
        "champion",
    )


def _trend(facts: Facts) -> Tile:
    found = facts.rows("model_scores")
    change = found[-1]["f1"] - found[0]["f1"] if found else 0.0
    return Tile("Trend of the models", f"{change:+.3f}", trend(found), "f1")


def _drift(facts: Facts) -> Tile:
    found = facts.rows("drift")
    if not found:
        return Tile("Drift", NOTHING, weeks_without_drift(facts), "drift")
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
    found = facts.problems()
    if not found:
        return Tile("Problems", "none", "The doctor finds nothing wrong in PostgreSQL.", "problems", "good")
    first = found[0]
    sentence = f"The first: {first['finding']} ({first['subject']}). What to do: {first['remedy']}."
    return Tile("Problems", plural(len(found), "problem"), sentence, "problems", "bad")


def _disk(facts: Facts) -> Tile:
    storage = facts.storage
    tone = "bad" if storage.is_nearly_full else "plain"
    return Tile("Disk", f"{readable_bytes(storage.disk.free_bytes)} free", outlook(storage), "storage", tone)
