"""A server that lives no longer than this process, not even when this process is killed with SIGKILL."""

import atexit
import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from db.embedded.account import Account
from db.embedded.postmaster import shut_down

# The server waits at a gate until its watchdog stands, so there is no moment at which our death leaves it alone:
# before the gate opens the shell reads the end of the pipe and gives up, after that the watchdog acts.
_GATE = 'read -r _ && exec "$@" </dev/null'
# The pipe closes when this process ends, in whatever way. An immediate shutdown cannot hang and loses no commit.
_WATCHDOG = 'read -r _; kill -QUIT "$1"'


class OwnedServer:
    """A postmaster that is a child of this process, and the watchdog that ends it with this process."""

    def __init__(self, command: Sequence[str], *, account: Account, log_path: Path) -> None:
        with log_path.open("ab") as log:
            self._server, gate = _spawn_shell(_GATE, command, account=account, output=log)
        with Path(os.devnull).open("wb") as nowhere, gate:
            self._watchdog, self._lifeline = _spawn_shell(
                _WATCHDOG, [str(self._server.pid)], account=Account(name="ourselves"), output=nowhere
            )
            # A forked child inherits the lifeline and would keep the server alive after us.
            os.register_at_fork(after_in_child=self._lifeline.close)
            self._owner_pid = os.getpid()
            atexit.register(self.stop)
            with suppress(BrokenPipeError):  # the shell is gone: to the caller, a server that has exited
                gate.write(b"\n")

    @property
    def is_ours(self) -> bool:
        """False in a forked child, which inherits this object but not the server."""
        return self._owner_pid == os.getpid()

    @property
    def has_exited(self) -> bool:
        return self._server.poll() is not None

    def stop(self) -> bool:
        """Stop server and watchdog and reap both. In a forked child, whose atexit comes here too, do nothing.

        Returns:
            False if the server does not stop; then the watchdog stays, too.
        """
        if not self.is_ours:
            return True
        if not shut_down(self._server.send_signal, lambda: self.has_exited):
            return False
        atexit.unregister(self.stop)
        self._watchdog.kill()  # before its pipe closes: the server's pid may be another program's by now
        self._watchdog.wait()
        self._lifeline.close()
        return True


def _spawn_shell(
    script: str, arguments: Sequence[str], *, account: Account, output: IO[bytes]
) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """Start a shell script; with it comes the writing end of the pipe that is its standard input."""
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as stdin:
        pipe = os.fdopen(write_end, "wb", buffering=0)  # unbuffered: no lock that a fork could inherit
        return account.spawn(["/bin/sh", "-c", script, "sh", *arguments], stdin=stdin, output=output), pipe
