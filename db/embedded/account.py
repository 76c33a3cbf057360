"""Which account runs PostgreSQL, which refuses to run as root."""

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
    """How to become the account that runs the server: by a command in front, by setuid, or not at all."""

    name: str
    prefix: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None

    def run(self, command: Sequence[str], *, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Run a command to its end as this account.

        Raises:
            DatabaseUnavailableError: it cannot be started, or is not done within `timeout_s`.
        """
        try:
            return subprocess.run(
                [*self.prefix, *command],
                cwd="/",  # the current directory may be closed to the account
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
                f"the account {self.name!r} may not run {command[0]}",
                remedy="run as a plain user, or put the virtual environment where other accounts can read it",
            ) from exc
        except subprocess.TimeoutExpired as exc:
            raise DatabaseUnavailableError(f"{command[0]} was not done after {timeout_s:.0f} s") from exc

    def spawn(
        self, command: Sequence[str], *, stdin: IO[bytes], output: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        """Start a command as this account, in a session of its own: Ctrl-C in our terminal is not for it."""
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

    def take(self, path: Path) -> None:
        """Give `path` to this account where that is not who we are."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    @property
    def _extra_groups(self) -> list[int] | None:
        return [] if self.uid is not None else None


def choose_account() -> Account:
    """Ourselves; for root a user namespace, or where these are forbidden (in most containers) a plain account.

    In the namespace root is uid 1000, so PostgreSQL starts, and its files belong to root outside: no account,
    chown or chmod is needed.
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
        "PostgreSQL refuses to run as root, and there is no user namespace and no plain account to run it",
        remedy="run as a plain user, or create an account named postgres",
    )
