"""A streaming standby of an embedded PostgreSQL."""

import subprocess
from pathlib import Path

from psycopg.conninfo import make_conninfo

from db.embedded import EmbeddedPostgres


def standby_of(primary: EmbeddedPostgres, directory: Path) -> EmbeddedPostgres:
    """Copy the files of the running primary with pg_basebackup, and return a server on the copy that follows the primary."""
    directory.mkdir(mode=0o700)
    source = make_conninfo(primary.conninfo(), application_name="standby")
    target = ["--dbname", source, "--pgdata", directory / "data"]
    copied = subprocess.run(
        [primary.program("pg_basebackup"), *target, "--checkpoint", "fast", "--wal-method", "stream"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert copied.returncode == 0, copied.stderr
    (directory / "data" / "standby.signal").touch()
    (directory / "password").write_text(primary.password)
    return EmbeddedPostgres(directory, durable=False, settings={"primary_conninfo": source})
