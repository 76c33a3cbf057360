"""Run a PostgreSQL server as a child of this Python process. The server stops when this process ends, even by SIGKILL."""

import atexit
import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from db.embedded.account import Account
from db.embedded.postmaster import shut_down

# A shell runs this script: it waits for a line on its standard input (a pipe) and then becomes the PostgreSQL server. The
# Python process writes the line once the watchdog (a second shell, see below) runs. If the Python process dies before that,
# this shell reads end-of-file and exits. If the Python process dies later, the watchdog stops the server.
_SERVER_SCRIPT = 'read -r _ && exec "$@" </dev/null'
# The watchdog is a shell that runs this script. It waits until its pipe closes, which happens when the Python process ends for
# any reason. Then it sends SIGQUIT to the server: an immediate shutdown, which cannot hang and loses no commit.
_WATCHDOG_SCRIPT = 'read -r _; kill -QUIT "$1"'


class OwnedServer:
    """A PostgreSQL server that is a child of this process, and a watchdog that stops the server when this process ends."""

    def __init__(self, command: Sequence[str], *, account: Account, log_path: Path) -> None:
        with log_path.open("ab") as log:
            self._server, server_pipe = _spawn_shell(_SERVER_SCRIPT, command, account=account, output=log)
        with Path(os.devnull).open("wb") as devnull, server_pipe:
            self._watchdog, self._watchdog_pipe = _spawn_shell(
                _WATCHDOG_SCRIPT, [str(self._server.pid)], account=Account(name="self"), output=devnull
            )
            # A forked child inherits the writing end of the watchdog's pipe and must close it. If the child kept it open, the
            # watchdog would not notice that this process has ended, and would not stop the server.
            os.register_at_fork(after_in_child=self._watchdog_pipe.close)
            self._owner_pid = os.getpid()
            atexit.register(self.stop)
            # The shell process should read this line and become the server. If the process has ended already, the write fails.
            # Ignore this error, because the caller checks `has_exited`.
            with suppress(BrokenPipeError):
                server_pipe.write(b"\n")

    @property
    def started_here(self) -> bool:
        """Return True in the process that started the server, and False in a forked child, which only inherits this object."""
        return self._owner_pid == os.getpid()

    @property
    def has_exited(self) -> bool:
        return self._server.poll() is not None

    def stop(self) -> bool:
        """Stop the server and its watchdog, and wait for both processes.

        Do nothing in a forked child: the child inherits the atexit hook that calls `stop`, but it does not own the server.

        Returns:
            False if the server does not stop; the watchdog then keeps running, too. Otherwise True, also in a forked child.
        """
        if not self.started_here:
            return True
        if not shut_down(self._server.send_signal, lambda: self.has_exited):
            return False
        atexit.unregister(self.stop)
        # Kill the watchdog before its pipe closes. When the pipe closes, the watchdog sends a signal to the server's pid. But
        # the server has ended, so another process may have this pid by now.
        self._watchdog.kill()
        self._watchdog.wait()
        self._watchdog_pipe.close()
        return True


def _spawn_shell(
    script: str, arguments: Sequence[str], *, account: Account, output: IO[bytes]
) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """Start a shell that runs `script`. Return the shell's process, and the writing end of the pipe that the shell reads."""
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as stdin:
        # Do not use a buffered file, because it has a lock, and close() waits for this lock. If another thread held the lock
        # during a fork, the lock would stay locked in the child, and the child could not close the pipe.
        pipe = os.fdopen(write_end, "wb", buffering=0)
        return account.spawn(["/bin/sh", "-c", script, "sh", *arguments], stdin=stdin, output=output), pipe
