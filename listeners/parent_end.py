"""Notice that the program which started this one has ended, also if it was killed."""

import asyncio
import sys
from collections.abc import Callable


def at_parent_end(call: Callable[[], None]) -> None:
    """Call `call` once on the running event loop when standard input closes: its other end belongs to the parent."""
    loop, stdin = asyncio.get_running_loop(), sys.stdin.fileno()

    def on_end() -> None:
        loop.remove_reader(stdin)
        call()

    loop.add_reader(stdin, on_end)
