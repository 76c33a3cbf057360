"""The sections about the models: F1, F1 by class, and the champion."""

from collections.abc import Sequence
from typing import Final

from rakuten.report import figures, heatmaps
from rakuten.report.parts import (
    Figure,
    Section,
    Step,
    grid,
    number,
    pivot,
    plural,
    score,
    text_of,
    unrecorded,
)
from rakuten.report.sections.data import classes_by_size
from rakuten.report.tables import Facts, Row
from rakuten.report.vega import class_label

_UNKNOWN: Final = "unknown"


def scores(facts: Facts) -> Section:
    """Show the weighted F1 of each model, the champion's, and the moves of the champion."""
    found, moves = facts.rows("model_scores"), facts.rows("champion_moves")
    placed = place_moves(moves, found)
    return Section(
        "f1",
        "Weighted F1",
        "Each point is a model on the holdout, products that no model was trained on; its line is the 95\u00a0% interval, and two "
        "models whose lines overlap widely may be equally good. The step line is the champion, the model in use.",
        trend(found) + _moves_text(moves),
        (facts.tables["model_scores"], facts.tables["champion_moves"]),
        (
            Figure(
                "f1",
                figures.f1_by_batch(
                    found, champion_by_batch(placed, facts.batch_names), placed, facts.batch_names
                ),
                f"Points with intervals: weighted F1 of {plural(len(found), 'model')}. {trend(found)}{_moves_text(moves)}",
            ),
        )
        if found
        else (),
        grids=(
            grid(
                "Models",
                found,
                {
                    "model_version": number,
                    **dict.fromkeys(("f1", "f1_low", "f1_high", "f1_macro", "accuracy"), score),
                },
                batch_name="batch",
                model_version="version",
                f1="weighted F1",
                f1_low="interval from",
                f1_high="interval to",
                f1_macro="macro F1",
                accuracy="accuracy",
                became_champion="became champion",
            ),
        ),
    )


def place_moves(moves: list[Row], found: list[Row]) -> list[Row]:
    """Return the moves with the batch at which the figure shows them, the F1 of the new champion, and a label.

    A promotion belongs to the batch of its model. Any other move belongs to the newest batch that was complete at its time.
    """
    f1_of = {row["model_version"]: row["f1"] for row in found}
    return [
        {
            **move,
            "batch_name": batch_name,
            "f1": f1_of[move["to_version"]],
            "move": move["kind"],
            "label": f"{move['kind']}: version {number(move['from_version'])} to {move['to_version']}",
        }
        for move in moves
        if (batch_name := move["model_of"] if move["kind"] == "promotion" else move["after_batch"])
        is not None
        and move["to_version"] in f1_of
    ]


def champion_by_batch(placed: list[Row], batch_names: Sequence[str]) -> list[Row]:
    """Return for each batch the champion after it: rows with batch_name, model_version and f1."""
    place_of = {name: place for place, name in enumerate(batch_names)}
    held: list[Row] = []
    for place, name in enumerate(batch_names):
        made = [move for move in placed if place_of.get(move["batch_name"], place + 1) <= place]
        if made:
            held.append({"batch_name": name, "model_version": made[-1]["to_version"], "f1": made[-1]["f1"]})
    return held


def trend(found: list[Row]) -> str:
    """Say how F1 has changed from the first to the last model, and whether the intervals overlap."""
    if not found:
        return "No model is trained yet."
    first, last = found[0], found[-1]
    if first is last:
        return f"The only model has F1 {score(first['f1'])}."
    change = last["f1"] - first["f1"]
    verb = "rose" if change > 0 else "fell" if change < 0 else "stayed"
    overlap = first["f1_high"] >= last["f1_low"] and last["f1_high"] >= first["f1_low"]
    certainty = (
        "The intervals overlap, so a part of the change can be chance."
        if overlap
        else "The intervals do not overlap, so this is more than chance."
    )
    return f"F1 {verb} from {score(first['f1'])} ({first['batch_name']}) to {score(last['f1'])} ({last['batch_name']}). {certainty}"


def _moves_text(moves: list[Row]) -> str:
    by_kind = {
        kind: sum(move["kind"] == kind for move in moves) for kind in ("promotion", "rollback", "by hand")
    }
    by_hand = f", {plural(by_kind['by hand'], 'move')} by hand" if by_kind["by hand"] else ""
    return f" The champion moved by {plural(by_kind['promotion'], 'promotion')} and {plural(by_kind['rollback'], 'rollback')}{by_hand}."


def scores_by_class(facts: Facts) -> Section:
    """Show the F1 of each class and model as a heatmap."""
    found = [{**row, "class": class_label(row)} for row in facts.rows("class_scores")]
    known = {row["class"] for row in found}
    names = [name for name in classes_by_size(facts) if name in known]
    names += sorted(known - set(names))
    found.sort(key=lambda row: names.index(row["class"]))
    says = unrecorded([row["batch_name"] for row in facts.rows("model_scores")], found)
    if found:
        newest = max(found, key=lambda row: row["chain_number"])["batch_name"]
        last = sorted((row for row in found if row["batch_name"] == newest), key=lambda row: row["f1"])
        says = (
            f"The newest model is best at {last[-1]['category']} ({score(last[-1]['f1'])}) and worst at {last[0]['category']} "
            f"({score(last[0]['f1'])}). {says}"
        )
    return Section(
        "f1-by-class",
        "F1 by class",
        "Each cell is the F1 of a class in the model of a batch, from low (dark) to high (bright); the largest class is at the top.",
        says,
        (facts.tables["class_scores"],),
        (
            Figure(
                "f1-by-class",
                heatmaps.class_heatmap(found, facts.batch_names, names, field="f1", title="F1", form=".2f"),
                f"Heatmap: the F1 of {plural(len(names), 'class')}. {says}",
            ),
        )
        if found
        else (),
        grids=(pivot("F1 of each class", found, facts.batch_names, down="class", value="f1", form=score),),
    )


def champion(facts: Facts) -> Section:
    """Show where the champion comes from, and all its moves."""
    moves = facts.rows("champion_moves")
    row = next((row for row in facts.rows("champion_lineage") if row["version"] is not None), None)
    return Section(
        "champion",
        "Where the champion comes from",
        "Read from left to right, or from top to bottom on a phone: the batch and its seal (a digest of all rows up to it), the dataset built from it, the model "
        "trained on the dataset, and the moves that made models champion.",
        origin(row) if row else no_champion(facts),
        (facts.tables["champion_lineage"], facts.tables["champion_moves"]),
        steps=_steps(row) if row else (),
        grids=(
            grid(
                "Moves of the champion",
                moves,
                {"from_version": number, "to_version": number},
                moved_at="at (UTC)",
                kind="move",
                from_version="from",
                to_version="to",
                model_of="model of",
                moved_by="by",
                reason="reason",
            ),
        ),
    )


def origin(row: Row) -> str:
    """Say which model is in use. `row` is the champion, with its version."""
    return f"Version {number(row['version'])}, the model of {row['batch_name'] or 'an unknown batch'}, is in use."


def no_champion(facts: Facts) -> str:
    """Say that no model is in use: there was no champion yet, or the alias in MLflow was deleted."""
    return "There is no champion now." if facts.rows("champion_lineage") else "No model is in use yet."


def _steps(row: Row) -> tuple[Step, ...]:
    """Return the steps from the champion's batch to the champion."""
    batch = row["batch_name"]
    return (
        Step(
            "Batch",
            batch or _UNKNOWN,
            (
                ("rows in PostgreSQL", text_of(row["total_rows"])),
                ("complete at", text_of(row["completed_at"])),
                ("place in the hash chain", number(row["chain_number"])),
                ("seal", text_of(row["seal"])),
            ),
        ),
        Step(
            "Dataset",
            f"train_{batch}" if batch else _UNKNOWN,
            (
                ("rows, with copies", text_of(row["dataset_rows"])),
                ("MLflow run", text_of(row["dataset_run_id"])),
                ("SHA-256 of the file", text_of(row["dataset_sha256"])),
                ("digest of the content", text_of(row["dataset_digest"])),
            ),
        ),
        Step(
            "Model",
            f"model_{batch}" if batch else _UNKNOWN,
            (
                ("weighted F1", score(row["f1"])),
                ("95\u00a0% interval", f"{score(row['f1_low'])} to {score(row['f1_high'])}"),
                ("MLflow run", text_of(row["model_run_id"])),
                ("SHA-256 of the list of files", text_of(row["manifest_sha256"])),
            ),
        ),
        Step(
            "Champion",
            f"version {number(row['version'])}",
            (
                ("since", text_of(row["moved_at"])),
                ("moved by", f"{row['kind']}: {row['moved_by']}"),
                ("reason", text_of(row["reason"])),
            ),
        ),
    )
