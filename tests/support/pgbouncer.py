"""PgBouncer between the pipeline and PostgreSQL, as people put it there: the Debian package, or none."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from waiting import eventually

PROGRAM = shutil.which(
    "pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin"
)


@contextmanager
def pooled(conninfo: str, mode: str, directory: Path, *, pool_size: int = 20) -> Iterator[str]:
    """Start a pool with `pool_mode` mode in front of the server of `conninfo`; yield the connection string to the pool."""
    server = conninfo_to_dict(conninfo)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    directory.mkdir(parents=True)
    users, config, log = directory / "users.txt", directory / "pgbouncer.ini", directory / "pgbouncer.log"
    users.write_text(f'"{server["user"]}" "{server["password"]}"\n')
    config.write_text(
        "[databases]\n"
        f"* = host={server['host']} port={server['port']}\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {users}\n"
        f"pool_mode = {mode}\ndefault_pool_size = {pool_size}\n"
        "ignore_startup_parameters = \n"
    )
    # PgBouncer does not run as root, and a plain user must find its files.
    for path in (users, config):
        path.chmod(0o644)
    for parent in [directory, *directory.parents]:
        if parent.stat().st_mode & 0o001 == 0:
            parent.chmod(parent.stat().st_mode | 0o011)
    with log.open("w") as output:
        process = subprocess.Popen([PROGRAM, *_as_a_plain_user(), str(config)], stdout=output, stderr=output)
    try:
        eventually(lambda: _accepts(port) or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield make_conninfo(conninfo, host="127.0.0.1", port=port)
    finally:
        process.terminate()
        process.wait()


def _as_a_plain_user() -> list[str]:
    import os  # noqa: PLC0415

    return ["-u", "nobody"] if os.geteuid() == 0 else []


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
