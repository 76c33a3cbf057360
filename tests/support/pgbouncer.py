"""PgBouncer between the pipeline and PostgreSQL, as people put it there: the Debian package, or none."""

import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from programs import find
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from waiting import eventually

HOST = "127.0.0.1"
PROGRAM = find("pgbouncer")


@contextmanager
def pooled(conninfo: str, mode: str, directory: Path, *, pool_size: int = 20) -> Iterator[str]:
    """Start a pool with `pool_mode` mode in front of the server of `conninfo`; yield the connection string to the pool."""
    with Pooler([conninfo], mode, directory, pool_size=pool_size) as pooler:
        yield make_conninfo(conninfo, host=HOST, port=pooler.port)


class Pooler:
    """A pooler in front of the server of these connection strings, which tell the logins that it lets through.

    Use as a context manager.
    """

    def __init__(self, conninfos: Sequence[str], mode: str, directory: Path, *, pool_size: int = 20):
        logins = [conninfo_to_dict(conninfo) for conninfo in conninfos]
        with socket.create_server((HOST, 0)) as free:
            self.port = free.getsockname()[1]
        directory.mkdir(parents=True)
        users, self._config, self._log = (
            directory / name for name in ("users.txt", "pgbouncer.ini", "pgbouncer.log")
        )
        users.write_text("".join(f'"{login["user"]}" "{login["password"]}"\n' for login in logins))
        self._config.write_text(
            "[databases]\n"
            f"* = host={logins[0]['host']} port={logins[0]['port']}\n"
            "[pgbouncer]\n"
            f"listen_addr = {HOST}\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {users}\n"
            f"pool_mode = {mode}\ndefault_pool_size = {pool_size}\n"
            "ignore_startup_parameters = \n"
        )
        # PgBouncer does not run as root, and a plain user must find its files.
        for path in (users, self._config):
            path.chmod(0o644)
        for parent in [directory, *directory.parents]:
            if parent.stat().st_mode & 0o001 == 0:
                parent.chmod(parent.stat().st_mode | 0o011)

    def start(self) -> None:
        with self._log.open("w") as output:
            command = [PROGRAM, *_as_a_plain_user(), str(self._config)]
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        eventually(lambda: _accepts(self.port) or self._process.poll() is not None)
        assert self._process.poll() is None, self._log.read_text()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_error):
        self.kill()


def _as_a_plain_user() -> list[str]:
    return ["-u", "nobody"] if os.geteuid() == 0 else []


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
