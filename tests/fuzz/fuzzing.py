"""How many inputs each fuzz test draws, and what became of them."""

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Final

from hypothesis import HealthCheck, settings

LONG: Final = "long"  # the profile of `make fuzz`: pytest --hypothesis-profile=long

# accepted and refused inputs, by test
tally: defaultdict[str, Counter[str]] = defaultdict(Counter)


def inputs(short: int, long: int) -> Callable:
    """Draw `short` inputs, the same each time, or under the profile `long` that many at random."""
    is_long = settings.get_current_profile_name() == LONG
    return settings(
        max_examples=long if is_long else short,
        derandomize=not is_long,
        deadline=None,
        # one directory and one database serve all inputs of a test: each overwrites the files of the one before
        suppress_health_check=list(HealthCheck),
    )


def count(test: str, *, accepted: bool) -> None:
    tally[test]["accepted" if accepted else "refused"] += 1
