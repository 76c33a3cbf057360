"""`rakuten db`: upgrade the database schema, print the connection URL, and start or stop the embedded PostgreSQL."""

from typing import Final
from urllib.parse import quote

import typer
from psycopg.conninfo import conninfo_to_dict

from db.database import Database, Role, embedded_server, open_database, prepare_embedded
from db.protections import deviations
from rakuten.console import rakuten_command
from rakuten.session import open_session
from shared.config import read_settings

EXAMPLES: Final = ("rakuten db start", 'psql "$(rakuten db url)"', "rakuten db upgrade")

app = typer.Typer(help="Upgrade the schema, and start or stop the embedded PostgreSQL.", no_args_is_help=True)


@app.command()
def upgrade() -> None:
    """Upgrade the database schema to the newest version. This is safe at any time, even if two processes do it at once."""
    with open_database(read_settings()) as database:
        before, after = database.upgrade()
        with database.connect(Role.OWNER, "rakuten upgrade") as connection:
            remaining = deviations(connection)
    for found in remaining:
        typer.echo(f"{found.subject}: {found.problem}\n  remedy: {found.remedy}", err=True)
    typer.echo(f"schema {after}" + ("" if before == after else f" (was {before or 'empty'})"))


@app.command()
def url(role: str = typer.Option("reader", help="role: reader, loader, snapshot, training or owner")) -> None:
    """Print the connection URL of the database, for example for psql "$(rakuten db url)". It contains the password.

    The role `reader` can read everything and change nothing.
    """
    try:
        name = Role[role.upper()]
    except KeyError:
        raise typer.BadParameter(f"there is no database role {role!r}", param_hint="--role") from None
    settings = read_settings()
    server = embedded_server(settings) if settings.postgres_host is None else None
    if server is not None and not server.attach():
        start_it = f"{rakuten_command(settings)} db start"
        typer.echo(f"the embedded PostgreSQL is not running; start it with: {start_it}", err=True)
        raise typer.Exit(1)
    typer.echo(url_of(Database(settings, server).conninfo(name)))


@app.command()
def start() -> None:
    """Start the embedded PostgreSQL in the background, and upgrade its database schema."""
    settings = read_settings()
    server = embedded_server(settings).start_in_background()
    prepare_embedded(settings, server)
    typer.echo(
        f"PostgreSQL {server.version} runs on {server.host}:{server.port}, data in {settings.postgres_path}"
    )
    rakuten = rakuten_command(settings)
    typer.echo(f'  connect with: psql "$({rakuten} db url)"    stop with: {rakuten} db stop')


@app.command()
def stop() -> None:
    """Stop the embedded PostgreSQL that `rakuten db start` started in the background."""
    stopped = embedded_server(read_settings()).stop_background()
    typer.echo("stopped" if stopped else "the embedded PostgreSQL was not running")


@app.command()
def adopt() -> None:
    """Make this database the owner of its experiments and model in MLflow, for example after a restore.

    The database that owned them before must be gone: its listeners are refused from now on.
    """
    with open_session("adopt") as session:
        from listeners.tracking.ownership import adopt_names  # noqa: PLC0415  MLflow takes seconds to import

        names = adopt_names(session.tracking, session.connection)
    for name in names:
        typer.echo(f"{name} belongs to this database")
    if not names:
        typer.echo("MLflow has no experiment or model with this database's names; the listeners create them")


def url_of(conninfo: str) -> str:
    """Return the postgresql:// URL that is equivalent to a libpq connection string of key=value pairs."""
    parts = {key: quote(str(value), safe="") for key, value in conninfo_to_dict(conninfo).items()}
    credentials = parts["user"] + (f":{parts['password']}" if "password" in parts else "")
    return f"postgresql://{credentials}@{parts['host']}:{parts['port']}/{parts['dbname']}"
