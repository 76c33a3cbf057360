"""Start child processes with the fork server of multiprocessing, with a deadline, and replace the fork server if it fails.

The fork server can be killed or frozen. It listens on a socket in the folder for temporary files, which somebody may empty.
multiprocessing itself only notices a fork server that has ended. In the other cases, starting a child would fail each time or
take for ever. This module is the only one that uses private names of multiprocessing.
"""

import asyncio
import multiprocessing.process
import os
import signal
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Final, TypeVar

_T = TypeVar("_T")

# Starting a process raises these errors if the fork server is gone or frozen, if a folder is missing, or if the machine has no
# process, thread, file descriptor or memory left.
START_ERRORS: Final = (OSError, EOFError, RuntimeError)


async def start(
    process: ForkServerProcess, deadline_s: float, on_end: Callable[[bool], object] = bool
) -> None:
    """Let the fork server fork `process`.

    Args:
        process: the process to start.
        deadline_s: how long to wait for the fork server.
        on_end: called when the start is over, with False if nobody waits for the process any more. This may be after the
            deadline: until then, the file descriptors that the process inherits must stay open. Otherwise, the fork server would
            receive a wrong one, or fail.

    Raises:
        TimeoutError: the fork server has not forked the process after `deadline_s` seconds.
    """
    starting = asyncio.ensure_future(_in_thread(process.start))
    is_awaited = True

    def tell_end(done: asyncio.Future[None]) -> None:
        if not done.cancelled():  # cancelled: the event loop ends, but the thread may still start the process
            on_end(is_awaited and done.exception() is None)

    starting.add_done_callback(tell_end)
    try:
        await asyncio.wait_for(asyncio.shield(starting), deadline_s)
    except BaseException as error:
        is_awaited = False
        if isinstance(error, TimeoutError):
            raise TimeoutError(f"the fork server has not started a process within {deadline_s:g} s") from None
        raise


async def join(process: ForkServerProcess, deadline_s: float) -> None:
    """Wait until the fork server reports that `process` has ended, but at most `deadline_s` seconds."""
    await _in_thread(process.join, deadline_s)


def kill() -> None:
    """Kill the fork server. The next start of a process starts a new one.

    Children that the fork server has forked go on. But nobody reports their exit code any more: multiprocessing returns 255.
    """
    server: Any = forkserver._forkserver  # noqa: SLF001
    with server._lock:  # noqa: SLF001
        if (pid := server._forkserver_pid) is not None:  # noqa: SLF001
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            threading.Thread(target=os.waitpid, args=(pid, 0), daemon=True).start()
            os.close(server._forkserver_alive_fd)  # noqa: SLF001
            server._forkserver_pid = server._forkserver_alive_fd = None  # noqa: SLF001
            server._forkserver_address = None  # noqa: SLF001


def make_folders() -> None:
    """Make the folders that a new fork server needs, if they are missing: TMPDIR, and in TMPDIR the folder of its socket."""
    Path(tempfile.gettempdir()).mkdir(parents=True, exist_ok=True)
    this_process: Any = multiprocessing.process.current_process()
    if (folder := this_process._config.get("tempdir")) is not None:  # noqa: SLF001
        Path(folder).mkdir(mode=0o700, exist_ok=True)


async def _in_thread(function: Callable[..., _T], *arguments: object) -> _T:
    """Run a function in a thread, like asyncio.to_thread, but never wait for the thread at the end of this process.

    A thread that waits for a frozen fork server would otherwise keep this process from ending.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def report(set_outcome: Callable[[Any], None], outcome: object) -> None:
        with suppress(RuntimeError):  # the event loop has ended meanwhile
            loop.call_soon_threadsafe(lambda: None if done.done() else set_outcome(outcome))

    def run() -> None:
        try:
            result = function(*arguments)
        except Exception as error:  # noqa: BLE001  the caller gets the error
            report(done.set_exception, error)
        else:
            report(done.set_result, result)

    threading.Thread(target=run, daemon=True).start()
    return await done
