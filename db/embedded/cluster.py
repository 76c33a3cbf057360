"""Manage the files of one PostgreSQL server: data, superuser's password, log, and a lock for starting and stopping it."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from db.embedded.programs import Programs, parse_major_version
from shared.errors import DatabaseUnavailableError
from shared.file_lock import FileLockedError, file_lock

SUPERUSER = "postgres"

_BUILTIN_LOCALES_SINCE = 17
# With these options of initdb, lower('É') is 'é' on every machine. With --locale=C alone, it would stay 'É'.
_BUILTIN_LOCALE = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
_LIBC_LOCALE = ("--locale=C.UTF-8",)

_INITDB_TIMEOUT_S = 120
_LOG_TAIL_BYTES = 2000


class Cluster:
    """The files of one PostgreSQL server: a directory with `data/`, `password`, `server.log` and `lock`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.data = self.directory / "data"
        self.log_path = self.directory / "server.log"
        self._password_path = self.directory / "password"

    @property
    def exists(self) -> bool:
        return (self.data / "PG_VERSION").exists()

    @property
    def version(self) -> int:
        """Return the major version of the PostgreSQL that created `data`, for example 17."""
        try:
            return parse_major_version((self.data / "PG_VERSION").read_text())
        except OSError as exc:
            raise DatabaseUnavailableError(f"no PostgreSQL data in {self.directory}: {exc}") from exc

    @property
    def password(self) -> str:
        """Return the password of the superuser.

        Raises:
            DatabaseUnavailableError: the password file is missing, or this process may not read it.
        """
        try:
            return self._password_path.read_text()
        except OSError as exc:
            raise DatabaseUnavailableError(
                f"the password of the PostgreSQL in {self.directory} cannot be read: {exc}",
                remedy="run as the user who created this directory, or remove it (and with it the data) "
                "to start afresh",
            ) from exc

    @contextmanager
    def lock(self, *, timeout_s: float) -> Iterator[None]:
        """Lock the file `lock` for a `with` block, so that no other process starts or stops this PostgreSQL server meanwhile.

        If the process that holds the lock is killed, the operating system releases the lock at once.

        Raises:
            DatabaseUnavailableError: another process still holds the lock after `timeout_s` seconds, or the
                directory cannot be used.
        """
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with file_lock(self.directory / "lock", timeout_s=timeout_s):
                yield
        except FileLockedError as exc:
            raise self.failure(
                f"the PostgreSQL in {self.directory} cannot be started or stopped: {exc}"
            ) from exc
        except OSError as exc:
            raise DatabaseUnavailableError(
                f"the directory {self.directory} of the PostgreSQL server cannot be used: {exc}",
                remedy="check that the directory belongs to you, that you can write to it, and that the disk has room",
            ) from exc

    def create(self, programs: Programs, *, durable: bool) -> None:
        """Run initdb in a temporary directory, then rename this directory to `data`. So `data` is always complete.

        Raises:
            DatabaseUnavailableError: initdb failed.
        """
        for leftover in self.directory.glob("initdb-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        programs.account.chown(self.directory)
        self._write_new_password(programs)
        unfinished = Path(tempfile.mkdtemp(prefix="initdb-", dir=self.directory))
        programs.account.chown(unfinished)
        result = programs.run(
            "initdb",
            *self._initdb_options(programs, unfinished, durable=durable),
            timeout_s=_INITDB_TIMEOUT_S,
        )
        if result.returncode != 0:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise DatabaseUnavailableError(
                f"initdb failed in {self.directory} (run by the user {programs.account.name}):\n{result.stderr.strip()}",
                remedy="choose a directory (STATE_PATH) that this user can reach and write to",
            )
        unfinished.rename(self.data)

    def check_version(self, programs: Programs) -> None:
        """Raise an error if these programs cannot read `data`, because another major version of PostgreSQL wrote it."""
        if self.version != programs.version:
            raise DatabaseUnavailableError(
                f"{self.directory} was created by PostgreSQL {self.version}, "
                f"but {programs.bindir} holds PostgreSQL {programs.version}",
                remedy=f"set PG_BINDIR to the programs of PostgreSQL {self.version}, or remove {self.directory} "
                "(and with it the data) to start afresh",
            )

    def prepare_log(self, programs: Programs) -> None:
        self.log_path.touch(mode=0o600)
        programs.account.chown(self.log_path)

    def log_size(self) -> int:
        return self.log_path.stat().st_size if self.log_path.exists() else 0

    def read_log(self, *, from_byte: int) -> str:
        if not self.log_path.exists():
            return ""
        with self.log_path.open("rb") as log:
            log.seek(from_byte)
            return log.read().decode(errors="replace")

    def failure(self, message: str) -> DatabaseUnavailableError:
        """Return an error whose text is `message`, followed by the last 2,000 bytes of the server's log."""
        tail = self.read_log(from_byte=max(0, self.log_size() - _LOG_TAIL_BYTES)).strip()
        return DatabaseUnavailableError(f"{message}; {self.log_path} ends with:\n{tail or '(nothing)'}")

    def _initdb_options(self, programs: Programs, target: Path, *, durable: bool) -> list[str]:
        return [
            f"--pgdata={target}",
            f"--username={SUPERUSER}",
            f"--pwfile={self._password_path}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            *(_BUILTIN_LOCALE if programs.version >= _BUILTIN_LOCALES_SINCE else _LIBC_LOCALE),
            *([] if durable else ["--no-sync"]),
        ]

    def _write_new_password(self, programs: Programs) -> None:
        # If an earlier process was killed after it had written the password file, the file still exists.
        self._password_path.unlink(missing_ok=True)
        descriptor = os.open(self._password_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32))
        programs.account.chown(self._password_path)
