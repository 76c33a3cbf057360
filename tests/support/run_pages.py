"""Run the commands of docs/tutorial.md as they are written there. As a program, write their output into the page."""

import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from waiting import eventually

from shared.config import environment_for, read_settings

PAGE = Path(__file__).parents[2] / "docs/tutorial.md"
DEADLINE_S = 400
# A block of commands, its output if the page has it, and the text up to the next block.
_BLOCK = re.compile(r"^```sh\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
_AWAITED = re.compile(r"`(\w+: the model has F1)`")


class Block(NamedTuple):
    commands: str
    output: str
    exit_code: int


def run_tutorial(folder: Path) -> list[Block]:
    """Run each block of commands of the page in an empty folder, beside `rakuten up`, and return what they print.

    Where the page says which line of `rakuten up` to wait for, this function waits for it.
    """
    page = PAGE.read_text(encoding="utf-8")
    elsewhere = {"postgres_host": None, "mlflow_tracking_uri": None}
    environment = environment_for(read_settings(_env_file=None, **elsewhere))
    for name in ("DATA_PATH", "STATE_PATH"):  # a reader has not set them
        environment.pop(name, None)
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
        "COLUMNS": "100",
        "NO_COLOR": "1",
    }
    said = folder / "up.log"
    blocks = []
    with said.open("w") as log:
        up = subprocess.Popen(["rakuten", "up"], cwd=folder, env=environment, stdout=log, stderr=log)  # noqa: S607
    try:
        eventually(lambda: "next week" in said.read_text(), DEADLINE_S, report=said.read_text)
        found = list(_BLOCK.finditer(page))
        for block, end in zip(found, [*(later.start() for later in found[1:]), len(page)], strict=True):
            done = subprocess.run(
                ["/bin/sh", "-e", "-c", block[1]],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=DEADLINE_S,
                check=False,
            )
            blocks.append(Block(block[1], done.stdout, done.returncode))
            for line in _AWAITED.findall(page[block.end() : end]):
                eventually(lambda line=line: line in said.read_text(), DEADLINE_S, report=said.read_text)
    finally:
        up.terminate()
        up.wait(timeout=60)
    return blocks


def with_outputs(page: str, blocks: list[Block]) -> str:
    """Return the page with the output of each block of commands below it."""
    outputs = iter(blocks)

    def shown(block: re.Match[str]) -> str:
        output = "\n".join(line.rstrip() for line in next(outputs).output.splitlines()).strip("\n")
        commands = f"```sh\n{block[1]}```\n"
        return f"{commands}\n```text\n{output}\n```\n" if output else commands

    return _BLOCK.sub(shown, page)


if __name__ == "__main__":
    with TemporaryDirectory(prefix="tutorial-") as scratch:
        results = run_tutorial(Path(scratch))
    for result in results:
        if result.exit_code:
            sys.exit(f"{result.commands}{result.output}")
    PAGE.write_text(with_outputs(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")
