"""Run a server that ends when this process ends, even when SIGKILL ends this process."""

import atexit
import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from db.embedded.account import Account
from db.embedded.postmaster import shut_down

# The shell starts the server only when it reads a line from its pipe, and this process writes the line once the watchdog runs.
# If this process dies earlier, the shell reads the end of the pipe and exits. If it dies later, the watchdog stops the server.
_SERVER_SCRIPT = 'read -r _ && exec "$@" </dev/null'
# The pipe closes when this process ends for any reason. SIGQUIT, an immediate shutdown, cannot hang and loses no commit.
_WATCHDOG_SCRIPT = 'read -r _; kill -QUIT "$1"'


class OwnedServer:
    """A postmaster that is a child of this process, and the watchdog that stops the postmaster when this process ends."""

    def __init__(self, command: Sequence[str], *, account: Account, log_path: Path) -> None:
        with log_path.open("ab") as log:
            self._server, server_pipe = _spawn_shell(_SERVER_SCRIPT, command, account=account, output=log)
        with Path(os.devnull).open("wb") as devnull, server_pipe:
            self._watchdog, self._watchdog_pipe = _spawn_shell(
                _WATCHDOG_SCRIPT, [str(self._server.pid)], account=Account(name="self"), output=devnull
            )
            # A forked child inherits the pipe. Left open, it would keep the server running after the end of this process.
            os.register_at_fork(after_in_child=self._watchdog_pipe.close)
            self._owner_pid = os.getpid()
            atexit.register(self.stop)
            with suppress(BrokenPipeError):  # the shell has ended, so `has_exited` is true
                server_pipe.write(b"\n")

    @property
    def started_here(self) -> bool:
        """Tell whether this process started the server. A forked child inherits this object, but not the server."""
        return self._owner_pid == os.getpid()

    @property
    def has_exited(self) -> bool:
        return self._server.poll() is not None

    def stop(self) -> bool:
        """Stop the server and its watchdog, and reap both. Do nothing in a forked child, which inherits the atexit hook.

        Returns:
            False if the server does not stop. The watchdog then keeps running, too.
        """
        if not self.started_here:
            return True
        if not shut_down(self._server.send_signal, lambda: self.has_exited):
            return False
        atexit.unregister(self.stop)
        self._watchdog.kill()  # before its pipe closes: another program may have the server's pid by now
        self._watchdog.wait()
        self._watchdog_pipe.close()
        return True


def _spawn_shell(
    script: str, arguments: Sequence[str], *, account: Account, output: IO[bytes]
) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """Start a shell script. Return its process, and the writing end of the pipe that is its standard input."""
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as stdin:
        pipe = os.fdopen(write_end, "wb", buffering=0)  # unbuffered: no lock that a fork could inherit
        return account.spawn(["/bin/sh", "-c", script, "sh", *arguments], stdin=stdin, output=output), pipe
