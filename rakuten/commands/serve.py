"""`rakuten serve`: answer requests with the champion, or with a fixed model."""

from typing import Annotated, Final

import typer

from db.database import Role, open_database
from shared.config import read_settings
from shared.extras import require_extra
from shared.listening_socket import inherited_socket
from shared.logs import configure_logs

EXAMPLES: Final = ("rakuten serve", "rakuten serve --model models:/rakuten_classifier/3")

Model = Annotated[
    str | None,
    typer.Option(
        help="a folder or an MLflow URI of a model to serve instead of the champion, without PostgreSQL"
    ),
]


ListeningFd = Annotated[
    int | None,
    typer.Option(
        hidden=True,
        help="descriptor of a socket that the parent listens on; the server stops when its standard input closes",
    ),
]


def serve(model: Model = None, listening_fd: ListeningFd = None) -> None:
    """Serve predictions over HTTP, by the champion, until it is stopped.

    When the champion moves, the server loads the new one beside the old one, checks its files, and exchanges them.
    """
    settings = read_settings()
    require_extra("ml")
    require_extra("serve")
    configure_logs(settings.log_format, settings.log_level)
    if model is not None:
        from listeners.serving.fixed import load_fixed  # noqa: PLC0415
        from listeners.serving.run import run_fixed  # noqa: PLC0415

        run_fixed(settings, load_fixed(settings, model))
        return
    from listeners.serving.run import run_server  # noqa: PLC0415

    listening = None if listening_fd is None else inherited_socket(listening_fd)
    with open_database(settings) as database:
        run_server(settings, database.conninfo(Role.SERVER), listening=listening)
