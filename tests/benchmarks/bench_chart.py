"""Draw what `run.py --json` wrote: CPU of each stage, the usual way beside ours and beside the physical limit.

    python tests/benchmarks/bench_chart.py JSON [JSON ...] --out FILE

Several files may come from runs of a stage each; bars of one stage are always from one run.
"""

import argparse
import json
import statistics
from pathlib import Path

from matplotlib.figure import Figure

WAYS = {"the usual way": "#c8553d", "ours": "#1f6f8b", "physical limit": "#9aa5ab"}
# of each stage: its samples, and which of them is which way
STAGES = {
    "a week's load\nat 97 %": ("load", ("usual at 97 %", "sealed at 97 %", "floor at 97 %")),
    "snapshot": ("snapshot whole", ("usual", "a week", None)),
    "cleaning and\nvectorising": ("training, cleaned and vectorised", ("usual", "ours", None)),
    "parquet to\nfitted model": ("training, parquet to model", ("usual", "ours", "unweighted")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", type=Path, nargs="+", metavar="JSON")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    options = parser.parse_args()
    samples = {}
    for path in options.files:
        samples |= json.loads(path.read_text(encoding="utf-8"))["samples"]
    draw(samples, options.out)


def draw(samples: dict[str, dict[str, list[dict[str, float]]]], path: Path) -> None:
    """Horizontal bars on a logarithmic axis, medians of CPU seconds; a stage that was not measured is left out."""
    stages = {label: stage for label, stage in STAGES.items() if stage[0] in samples}
    figure = Figure(figsize=(9, 1.1 * len(stages) + 1), layout="constrained")
    axes = figure.subplots()
    for place, (name, colour) in enumerate(WAYS.items()):
        for row, (key, variants) in enumerate(stages.values()):
            if (variant := variants[place]) is None or variant not in samples[key]:
                continue
            seconds = statistics.median(sample["cpu_s"] for sample in samples[key][variant])
            [bar] = axes.barh(row + 0.26 * place, seconds, 0.24, color=colour)
            axes.bar_label(
                axes.containers[-1],
                [f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"],
                padding=3,
                fontsize=8,
            )
            bar.set_label(name if row == 0 else "_")
    axes.set_yticks([row + 0.26 for row in range(len(stages))], list(stages))
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="CPU seconds, ours and PostgreSQL's together")
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper right", ncols=3, frameon=False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
