"""Draw the pictures of the pages from a run of the demo: `rakuten status` in a terminal, and figures of its newest runs."""

import io
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import draw_timeline
import psycopg
from rich.console import Console
from rich.text import Text
from run_pages import ROOT, reader_environment

from shared.mlflow_names import Artifact

IMAGES = ROOT / "docs/images"
WIDTH = 110  # columns: enough for all columns of the table


def terminal_picture(command: str, printed: str, width: int) -> str:
    """Return an SVG picture of a terminal in which a command was typed. `printed` is its output, with ANSI colours."""
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(f"$ {command}", highlight=False)
    console.print(Text.from_ansi(printed), highlight=False)
    return console.export_svg(title="rakuten-pipeline", unique_id="terminal")


def draw(folder: Path) -> None:
    """Run the demo in an empty folder, and draw the pictures."""
    environment = reader_environment() | {"COLUMNS": str(WIDTH)}
    subprocess.run(["rakuten", "demo"], cwd=folder, env=environment, check=True)  # noqa: S607
    subprocess.run(["rakuten", "db", "start"], cwd=folder, env=environment, check=True)  # noqa: S607
    try:
        status = subprocess.run(
            ["rakuten", "status"],  # noqa: S607
            cwd=folder,
            env={**environment, "FORCE_COLOR": "1"},
            check=True,
            text=True,
            stdout=subprocess.PIPE,
        )
        url = subprocess.run(
            ["rakuten", "db", "url"],  # noqa: S607
            cwd=folder,
            env=environment,
            check=True,
            text=True,
            capture_output=True,
        )
        with psycopg.connect(url.stdout.strip()) as connection:
            steps = draw_timeline.steps_of(connection, folder / "data" / "logs" / "serve.log", "week_3")
    finally:
        subprocess.run(["rakuten", "db", "stop"], cwd=folder, env=environment, check=True)  # noqa: S607
    (IMAGES / "status.svg").write_text(
        terminal_picture("rakuten status", status.stdout, WIDTH), encoding="utf-8"
    )
    draw_timeline.draw(steps, IMAGES / "row_to_answer.png")
    print("\n".join(f"{step.seconds:8.3f} s  {step.name}" for step in steps))
    for artifact, picture in {
        Artifact.CLASS_DISTRIBUTION: "class_distribution.png",
        Artifact.RELIABILITY: "reliability_diagram.png",
        Artifact.RISK_COVERAGE: "risk_coverage.png",
    }.items():
        newest = max(folder.rglob(artifact), key=lambda path: path.stat().st_mtime)
        shutil.copyfile(newest, IMAGES / picture)


if __name__ == "__main__":
    with TemporaryDirectory(prefix="pictures-") as scratch:
        draw(Path(scratch))
