"""The cluster of docker-compose.yml: each service logs in with a password of its own, to its own database and no other."""

import subprocess
from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from repository import ROOT

from db.embedded import EmbeddedPostgres

SCRIPT = ROOT / "db" / "initdb" / "010_roles_and_databases.sql"
LOGINS = {
    "rakuten_owner": "rakuten_db",
    "rakuten_loader": "rakuten_db",
    "rakuten_snapshot": "rakuten_db",
    "rakuten_training": "rakuten_db",
    "rakuten_server": "rakuten_db",
    "rakuten_reader": "rakuten_db",
    "mlflow": "mlflow_db",
    "airflow": "airflow_db",
}
PASSWORDS = {login: f"secret of {login}" for login in LOGINS}
VARIABLES = {
    (f"{login.upper()}_DB_PASSWORD" if "_" not in login else f"{login.upper()}_PASSWORD"): password
    for login, password in PASSWORDS.items()
}
ELSEWHERE = [
    (login, database)
    for login in LOGINS
    for database in ("rakuten_db", "mlflow_db", "airflow_db", "postgres", "template1")
    if database != LOGINS[login]
]


class Cluster:
    """A PostgreSQL that the script sets up."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server = server

    def set_up(self, script: str, *, options: str = "") -> subprocess.CompletedProcess:
        superuser = psycopg.conninfo.make_conninfo(self.server.conninfo(), options=options)
        return subprocess.run(
            [self.server.program("psql"), "--no-psqlrc", "--quiet", superuser],
            input=script,
            env=VARIABLES,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def log_in(self, login: str, database: str, password: str | None = None) -> psycopg.Connection:
        return psycopg.connect(
            self.server.conninfo(database, login, PASSWORDS[password or login]), autocommit=True
        )

    def run(self, statement: str) -> None:
        with psycopg.connect(self.server.conninfo(), autocommit=True) as superuser:
            superuser.execute(statement)

    def log(self) -> str:
        return self.server._cluster.log_path.read_text()


@pytest.fixture(scope="module")
def cluster(server, tmp_path_factory):
    directory = Path(server._cluster.directory) / "of-compose"
    bindir = Path(server.program("postgres")).parent
    with EmbeddedPostgres(directory, bindir=bindir, durable=False) as running:
        made = Cluster(running)
        done = made.set_up(SCRIPT.read_text())
        assert done.returncode == 0, done.stderr
        yield made


@pytest.mark.parametrize("login", LOGINS)
def test_a_service_reaches_its_own_database(cluster, login):
    with cluster.log_in(login, LOGINS[login]) as connection:
        assert connection.execute("select session_user").fetchone() == (login,)


@pytest.mark.parametrize(("login", "database"), ELSEWHERE)
def test_a_service_reaches_no_other_database(cluster, protected, login, database):
    if protected:
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            cluster.log_in(login, database)
        return
    cluster.run(f"grant connect on database {database} to {login}")
    try:
        cluster.log_in(login, database).close()
    finally:
        cluster.run(f"revoke connect on database {database} from {login}")


def test_a_services_password_opens_no_other_login(cluster, protected):
    if protected:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            cluster.log_in("rakuten_loader", "rakuten_db", password="rakuten_training")  # noqa: S106
        return
    cluster.run(f"alter role rakuten_loader password '{PASSWORDS['rakuten_training']}'")
    try:
        cluster.log_in("rakuten_loader", "rakuten_db", password="rakuten_training").close()  # noqa: S106
    finally:
        cluster.run(f"alter role rakuten_loader password '{PASSWORDS['rakuten_loader']}'")


def test_the_owner_of_the_schema_makes_no_roles(cluster, protected):
    """Up to PostgreSQL 15, CREATEROLE hands out any role but a superuser's, and with it the server's files."""
    with cluster.log_in("rakuten_owner", "rakuten_db") as connection:
        if protected:
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute("create role friend")
            return
        cluster.run("alter role rakuten_owner createrole")
        try:
            connection.execute("create role friend")
        finally:
            cluster.run("alter role rakuten_owner nocreaterole")
            cluster.run("drop role friend")


def test_no_password_is_in_the_servers_log_when_it_cannot_be_set(cluster, protected):
    script = SCRIPT.read_text()
    if not protected:
        script = script.replace("set log_min_error_statement = panic;", "")
    done = cluster.set_up(script, options="-c default_transaction_read_only=on")
    assert "cannot execute ALTER ROLE in a read-only transaction" in done.stderr
    assert "secret of" not in done.stderr
    assert ("secret of" in cluster.log()) is not protected


def test_a_reader_of_the_pipeline_does_not_see_what_airflow_asks_its_database(cluster):
    with (
        cluster.log_in("airflow", "airflow_db") as airflow,
        cluster.log_in("rakuten_reader", "rakuten_db") as reader,
    ):
        airflow.execute("select 'a token of airflow'")
        seen = reader.execute("select query from pg_stat_activity where datname = 'airflow_db'").fetchall()
    assert "a token of airflow" not in str(seen)
