"""PostgreSQL behind TLS, turned on as SECURITY.md says: every connection of ours is encrypted, and to the right server."""

import asyncio
import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import psycopg2
import pytest
from certificates import Authority
from listener_processes import Listeners

from db.connect import connect, connect_arrow, conninfo_for
from db.database import Database, Role, prepare_embedded
from db.embedded import EmbeddedPostgres
from db.embedded.waiting import poll
from db.schema import engine
from db.source.training_set import read_training_set
from listeners.listen import _connect
from shared.config import read_settings
from shared.errors import DatabaseUnavailableError
from shared.events import Stage

ADDRESS = "127.0.0.1"
OTHER_NAME = "localhost"  # the same server, under a name that its certificate does not carry
ENCRYPTED_ONLY = "hostssl all all all scram-sha-256\n"
OPEN = "host all all all scram-sha-256\n"
OF_OURS = """
select application_name, ssl from pg_stat_ssl join pg_stat_activity using (pid)
where usename like 'rakuten%' and application_name <> ''
"""


@dataclass(frozen=True)
class TlsServer:
    """A PostgreSQL that accepts encrypted connections only, until told otherwise."""

    embedded: EmbeddedPostgres
    authority: Authority
    stranger: Authority  # somebody else's authority

    def admit(self, rules: str) -> None:
        with self.superuser() as connection:
            [path] = connection.execute("show hba_file").fetchone()
            Path(path).write_text(rules)
            connection.execute("select pg_reload_conf()")
            assert poll(lambda: self._rules_are_loaded(connection, rules), timeout_s=30)

    def superuser(self) -> psycopg.Connection:
        verified = {"sslmode": "verify-full", "sslrootcert": str(self.authority.certificate)}
        return psycopg.connect(self.embedded.conninfo("rakuten_db"), **verified, autocommit=True)

    def conninfo(self, role: Role, host: str = ADDRESS) -> str:
        """As the settings make it, with nothing of TLS in it."""
        settings = read_settings(
            postgres_host=host,
            postgres_port=self.embedded.port,
            postgres_user=role,
            postgres_password=self.embedded.password,
            _env_file=None,
        )
        return Database(settings, None).conninfo(role)

    @staticmethod
    def _rules_are_loaded(connection: psycopg.Connection, rules: str) -> bool:
        [first] = connection.execute("select min(type) from pg_hba_file_rules").fetchone()
        return rules.startswith(f"{first} ")


def programs_with_tls() -> Path | None:
    """The wheel's PostgreSQL is built without OpenSSL; a system package's is built with it."""
    configured = os.environ.get("PG_BINDIR")  # noqa: TID251
    candidates = [Path(configured)] if configured else []
    for bindir in [*candidates, *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]:
        described = subprocess.run(
            [bindir / "postgres", "--describe-config"], capture_output=True, text=True, check=False
        )
        [ciphers] = [line for line in described.stdout.splitlines() if line.startswith("ssl_ciphers\t")]
        if "\tnone\t" not in ciphers:
            return bindir
    return None


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory):
    bindir = programs_with_tls()
    if bindir is None:
        pytest.skip("no PostgreSQL with OpenSSL here: neither PG_BINDIR's nor a system package's")
    directory = tmp_path_factory.mktemp("tls")
    authority, stranger = Authority(directory, "authority"), Authority(directory, "stranger")
    with EmbeddedPostgres(directory / "postgres", bindir=bindir, durable=False) as first:
        prepare_embedded(read_settings(state_path=directory, _env_file=None), first)
    owner = (directory / "postgres" / "data").stat()
    certificate, key = authority.issue(ADDRESS)
    os.chown(key, owner.st_uid, owner.st_gid)
    settings = {"ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key)}
    with EmbeddedPostgres(
        directory / "postgres", bindir=bindir, durable=False, settings=settings
    ) as embedded:
        server = TlsServer(embedded, authority, stranger)
        server.admit(ENCRYPTED_ONLY)
        yield server


@pytest.fixture
def verified(monkeypatch, tls_server):
    """The environment of a user who has turned TLS on."""
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", str(tls_server.authority.certificate))


# ---- each way in which the pipeline connects


def by_connect(conninfo: str) -> None:
    with connect(conninfo, "test"):
        pass


def by_engine(conninfo: str) -> None:
    with engine(conninfo, "test").connect():
        pass


def by_reading_arrow(conninfo: str) -> None:
    with connect_arrow(conninfo, "test"):
        pass


def by_listening(conninfo: str) -> None:
    async def listen() -> None:
        connection = await _connect(conninfo_for(conninfo, "test"))
        await connection.close()

    asyncio.run(listen())


def by_working(conninfo: str) -> None:
    async def work() -> None:
        async with await psycopg.AsyncConnection.connect(conninfo_for(conninfo, "test")):
            pass

    asyncio.run(work())


every_way = pytest.mark.parametrize(
    "log_in", [by_connect, by_engine, by_reading_arrow, by_listening, by_working]
)
REFUSED = (DatabaseUnavailableError, psycopg.OperationalError, psycopg2.OperationalError)


@every_way
@pytest.mark.usefixtures("verified")
def test_the_right_server_is_reached(tls_server, log_in):
    log_in(tls_server.conninfo(Role.READER))


@every_way
@pytest.mark.usefixtures("verified")
def test_a_server_of_another_authority_is_refused(tls_server, monkeypatch, protected, log_in):
    monkeypatch.setenv("PGSSLROOTCERT", str(tls_server.stranger.certificate))
    if protected:
        with pytest.raises(REFUSED, match="certificate verify failed"):
            log_in(tls_server.conninfo(Role.READER))
        return
    monkeypatch.setenv("PGSSLMODE", "require")  # encrypted, to whoever answers
    monkeypatch.delenv("PGSSLROOTCERT")
    log_in(tls_server.conninfo(Role.READER))


@every_way
@pytest.mark.usefixtures("verified")
def test_a_server_with_anothers_certificate_is_refused(tls_server, monkeypatch, protected, log_in):
    if protected:
        with pytest.raises(REFUSED, match=f'does not match host name "{OTHER_NAME}"'):
            log_in(tls_server.conninfo(Role.READER, OTHER_NAME))
        return
    monkeypatch.setenv("PGSSLMODE", "verify-ca")
    log_in(tls_server.conninfo(Role.READER, OTHER_NAME))


@every_way
def test_a_connection_without_tls_is_refused(tls_server, monkeypatch, protected, log_in):
    monkeypatch.setenv("PGSSLMODE", "disable")
    if protected:
        with pytest.raises(REFUSED, match="no encryption"):
            log_in(tls_server.conninfo(Role.READER))
        return
    with admitting_everybody(tls_server):
        log_in(tls_server.conninfo(Role.READER))


@contextmanager
def admitting_everybody(tls_server):
    tls_server.admit(OPEN)
    try:
        yield
    finally:
        tls_server.admit(ENCRYPTED_ONLY)


@pytest.mark.usefixtures("verified")
def test_every_connection_of_a_week_is_encrypted(tls_server, generated, load_weeks_into, tmp_path):
    """A loader and a listener process, which know of TLS from the environment alone."""
    settings = read_settings(state_path=tmp_path / "state", data_path=generated, _env_file=None)
    training_set = read_training_set(generated, settings.random_seed, settings.holdout_percentage)
    listeners = Listeners(tls_server, settings)
    seen = set()

    def week_is_done() -> bool:
        with tls_server.superuser() as connection:
            seen.update(connection.execute(OF_OURS).fetchall())
        return [row["snapshot_state"] for row in listeners.status()] == ["finished"]

    try:
        listeners.start(Stage.SNAPSHOT)
        load_weeks_into(tls_server, settings, training_set, 1)
        listeners.wait(week_is_done)
    finally:
        listeners.kill()
    assert {encrypted for _, encrypted in seen} == {True}
    assert {"rakuten snapshot listen", "rakuten snapshot work"} <= {name for name, _ in seen}


def test_an_unencrypted_connection_would_be_seen(tls_server, monkeypatch):
    monkeypatch.setenv("PGSSLMODE", "disable")
    with (
        admitting_everybody(tls_server),
        connect(tls_server.conninfo(Role.READER), "plain"),
        tls_server.superuser() as connection,
    ):
        assert ("plain", False) in connection.execute(OF_OURS).fetchall()
