"""Fuzz tests. By default the same small number of inputs each time; `make fuzz` draws more than 150,000 at random."""

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The modules beside the tests, which importlib mode does not find.
sys.path.insert(0, str(Path(__file__).parent))

from fuzzing import LONG, tally

settings.register_profile(LONG, print_blob=True)


@pytest.fixture(scope="session")
def directory(tmp_path_factory) -> Iterator[Path]:
    """Where each input writes its source files over those of the one before: in memory where it can be."""
    memory = Path("/dev/shm")  # noqa: S108
    place = memory if os.access(memory, os.W_OK) else tmp_path_factory.getbasetemp()
    with tempfile.TemporaryDirectory(prefix="rakuten-fuzz-", dir=place) as made:
        yield Path(made)


def pytest_terminal_summary(terminalreporter) -> None:
    if tally:
        terminalreporter.section("fuzz: inputs")
        for name, counts in [*sorted(tally.items()), ("all", sum(tally.values(), start=Counter()))]:
            shares = "  ".join(f"{counts[fate]:>9,} {fate}" for fate in ("accepted", "refused"))
            terminalreporter.line(f"{counts.total():>9,} = {shares}  {name}")
