"""Write the sections that the cards of datasets and of models share."""

from collections.abc import Sequence
from typing import Any

from listeners.cards.document import Commands, Paragraph, Section, Table
from shared.batch import Batch
from shared.drift import REFERENCES


def how_to_check(batch: Batch) -> Section:
    """Return the commands that check a run, build its result again, and show where it comes from."""
    lines = ("rakuten verify", f"rakuten reproduce {batch.name}", f"rakuten lineage {batch.name}")
    return Section("Check it, build it again, trace it", [Commands("\n".join(lines))])


def drift_section(drift: Sequence[dict[str, Any]]) -> Section:
    """Return how the new products differ from earlier ones. `drift` is the list in drift.json."""
    title = "New products compared with earlier ones"
    if not drift:
        return Section(
            title, [Paragraph("Nothing is compared: this is the first week, or the batch is a correction.")]
        )
    changed = [
        f"{entry['feature']} ({REFERENCES[entry['reference']]})" for entry in drift if entry["drifted"]
    ]
    said = (
        f"**Changed by more than chance**: {', '.join(changed)}."
        if changed
        else "Nothing changed by more than chance."
    )
    rows = [
        (
            entry["feature"],
            REFERENCES[entry["reference"]],
            entry["rows"],
            entry["reference_rows"],
            f"{entry['psi']:.3f}",
            f"{entry['js']:.4f}",
            f"{entry['noise']:.4f}",
            "yes" if entry["drifted"] else "no",
        )
        for entry in drift
    ]
    headers = ("Feature", "Compared with", "New", "Earlier", "PSI", "Divergence", "Chance reaches", "Changed")
    return Section(title, [Paragraph(said), Table(headers, rows)])
