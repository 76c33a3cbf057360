"""Run the commands of pages as they are written there. As a program, write their outputs into the pages and into README.md.

The pages are run one after the other in one folder, beside `rakuten up`, as a reader would. README.md shows some of their commands.
"""

import re
import subprocess
import sys
import textwrap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from waiting import eventually

from shared.config import environment_for, read_settings

ROOT = Path(__file__).parents[2]
PAGES = tuple(
    ROOT / "docs" / page
    for page in (
        "tutorial.md",
        "how-to/trace.md",
        "how-to/predict.md",
        "how-to/failures.md",
        "how-to/own-data.md",
    )
)
README = ROOT / "README.md"
DEADLINE_S = 400
# A block of commands, its output if the page has it, and the text up to the next block.
_BLOCK = re.compile(r"^```sh\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
_AWAITED = re.compile(r"`(\w+: the model has F1)`")


class Block(NamedTuple):
    commands: str
    output: str
    exit_code: int = 0


def run_pages(folder: Path) -> list[Block]:
    """Run each block of commands of the pages in an empty folder, and return what they print.

    Where a page says which line of `rakuten up` to wait for, this function waits for it.
    """
    environment = reader_environment() | {"COLUMNS": "100", "NO_COLOR": "1"}
    said = folder / "up.log"
    blocks = []
    with said.open("w") as log:
        up = subprocess.Popen(["rakuten", "up"], cwd=folder, env=environment, stdout=log, stderr=log)  # noqa: S607
    try:
        eventually(lambda: "next week" in said.read_text(), DEADLINE_S, report=said.read_text)
        for commands, awaited in _steps():
            done = subprocess.run(
                ["/bin/sh", "-e", "-c", commands],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=DEADLINE_S,
                check=False,
            )
            blocks.append(Block(commands, done.stdout.replace(str(folder), "~"), done.returncode))
            for line in awaited:
                eventually(lambda line=line: line in said.read_text(), DEADLINE_S, report=said.read_text)
    finally:
        up.terminate()
        up.wait(timeout=60)
    return blocks


def reader_environment() -> dict[str, str]:
    """Return the environment of a reader who has set nothing and who has the commands on the PATH."""
    elsewhere = {"postgres_host": None, "mlflow_tracking_uri": None}
    environment = environment_for(read_settings(_env_file=None, **elsewhere))
    for name in ("DATA_PATH", "STATE_PATH"):
        environment.pop(name, None)
    return {**environment, "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}"}


def _steps() -> list[tuple[str, list[str]]]:
    """Return the commands of each block, and the lines of `rakuten up` that the text below it says to wait for."""
    steps = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found = list(_BLOCK.finditer(text))
        ends = [*(later.start() for later in found[1:]), len(text)]
        steps += [
            (block[1], _AWAITED.findall(text[block.end() : end]))
            for block, end in zip(found, ends, strict=True)
        ]
    return steps


def command_blocks(page: Path) -> list[str]:
    """Return each block of commands of a page, also one that is indented in a list."""
    blocks = re.findall(
        r"^( *)```sh\n(.*?)^\1```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return [textwrap.dedent(block) for _, block in blocks]


def shown_blocks(page: str) -> list[Block]:
    """Return the blocks of a page as it shows them. The output is "" if it shows none."""
    return [Block(commands, output or "") for commands, output in _BLOCK.findall(page)]


def with_outputs(page: str, outputs: dict[str, str]) -> str:
    """Return the page with the output of each block of commands below it. `outputs` has it for each block."""

    def shown(block: re.Match[str]) -> str:
        output = "\n".join(line.rstrip() for line in outputs[block[1]].splitlines()).strip("\n")
        commands = f"```sh\n{block[1]}```\n"
        return f"{commands}\n```text\n{output}\n```\n" if output else commands

    return _BLOCK.sub(shown, page)


if __name__ == "__main__":
    with TemporaryDirectory(prefix="pages-") as scratch:
        results = run_pages(Path(scratch))
    if failures := "".join(f"{result.commands}{result.output}" for result in results if result.exit_code):
        sys.exit(failures)
    printed = {result.commands: result.output for result in results}
    for path in (*PAGES, README):
        path.write_text(with_outputs(path.read_text(encoding="utf-8"), printed), encoding="utf-8")
