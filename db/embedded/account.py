"""Choose the operating system account that runs PostgreSQL, which refuses to run as root."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from shared.errors import DatabaseUnavailableError

_PROBE_TIMEOUT_S = 10
_PLAIN_ACCOUNTS = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """The operating system account that runs PostgreSQL.

    A command is started in one of three ways. If `prefix` is set, the program unshare starts the command in a user namespace.
    If `uid` and `gid` are set, the command runs with these ids. Otherwise, the command runs as the account of this process.
    """

    name: str
    prefix: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None

    def run(self, command: Sequence[str], *, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Run a command as this account, and wait until it ends.

        Raises:
            DatabaseUnavailableError: the command cannot be started, or does not end within `timeout_s`.
        """
        try:
            return subprocess.run(
                [*self.prefix, *command],
                cwd="/",  # not the current directory: this account may not be allowed to enter it
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
                user=self.uid,
                group=self.gid,
                extra_groups=self._extra_groups,
            )
        except PermissionError as exc:
            raise DatabaseUnavailableError(
                f"the account {self.name!r} has no permission to run {command[0]}",
                remedy="run rakuten as a user other than root, or move the Python environment to a folder that every user can read",
            ) from exc
        except subprocess.TimeoutExpired as exc:
            raise DatabaseUnavailableError(f"{command[0]} did not end within {timeout_s:.0f} s") from exc

    def spawn(
        self, command: Sequence[str], *, stdin: IO[bytes], output: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        """Start a command as this account, and do not wait for its end. Ctrl-C in this terminal does not stop the command."""
        return subprocess.Popen(
            [*self.prefix, *command],
            cwd="/",
            stdin=stdin,
            stdout=output,
            stderr=output,
            start_new_session=True,
            user=self.uid,
            group=self.gid,
            extra_groups=self._extra_groups,
        )

    def chown(self, path: Path) -> None:
        """Make this account the owner of `path`. Do nothing if PostgreSQL runs as the current user (`uid` is None)."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    @property
    def _extra_groups(self) -> list[int] | None:
        return [] if self.uid is not None else None


def choose_account() -> Account:
    """Return the account that runs PostgreSQL. If this process does not run as root, return the account of this process.

    PostgreSQL refuses to run as root. So a process of root starts PostgreSQL in a user namespace, in which root appears as uid
    1000. Outside the namespace, PostgreSQL's files still belong to root, so no chown or chmod is needed. Where user
    namespaces do not work (most containers forbid them), return the account `postgres`. If it does not exist, return `nobody`.
    """
    if os.geteuid() != 0:
        return Account(name=f"uid {os.geteuid()}")
    return _in_user_namespace() or _plain_account()


def _in_user_namespace() -> Account | None:
    unshare = shutil.which("unshare")
    if unshare is None:
        return None
    account = Account(
        name="root in a user namespace", prefix=(unshare, "--user", "--map-user=1000", "--map-group=1000")
    )
    probe = account.run(["true"], timeout_s=_PROBE_TIMEOUT_S)
    return account if probe.returncode == 0 else None


def _plain_account() -> Account:
    for name in _PLAIN_ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise DatabaseUnavailableError(
        "PostgreSQL refuses to run as root; user namespaces do not work here, and no account postgres or nobody exists",
        remedy="run rakuten as a user other than root, or create an account named postgres",
    )
