"""`rakuten listen`: run one of the two listeners, snapshot or training, until it is stopped."""

from typing import Annotated, Final

import structlog
import typer

from db.database import Role, open_database
from listeners.run import run_listener
from shared.config import read_settings
from shared.events import Stage
from shared.extras import require_extra
from shared.logs import configure_logs

EXAMPLES: Final = ("rakuten listen snapshot", "rakuten listen training")

logger = structlog.get_logger()

app = typer.Typer(help="Run one of the two listeners: snapshot or training.", no_args_is_help=True)

WithParent = Annotated[
    bool, typer.Option("--with-parent", hidden=True, help="stop the listener when its standard input closes")
]


@app.command()
def snapshot(with_parent: WithParent = False) -> None:
    """Build a class-balanced dataset for each completed batch, and log it to MLflow."""
    _listen(Stage.SNAPSHOT, Role.SNAPSHOT, with_parent)


@app.command()
def training(with_parent: WithParent = False) -> None:
    """Train a model on the balanced dataset of each batch, evaluate the model, and register it in MLflow."""
    _listen(Stage.TRAINING, Role.TRAINING, with_parent)


def _listen(stage: Stage, role: Role, with_parent: bool) -> None:
    settings = read_settings()
    # Only the child processes import these packages. Without this check, the listener would listen, and each batch would fail.
    require_extra("ml")
    configure_logs(settings.log_format, settings.log_level)
    with open_database(settings) as database:
        if database.embedded is not None and database.embedded.owned:
            logger.warning(
                "this listener has started PostgreSQL, and will stop it at its end",
                remedy="to keep PostgreSQL running, start it before the listener: rakuten db start",
            )
        run_listener(stage, database.conninfo(role), settings, with_parent=with_parent)
