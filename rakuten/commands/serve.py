"""`rakuten serve`: answer requests with the champion, or with a fixed model."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import typer

from db.database import Role, open_database
from shared.config import Settings, read_settings
from shared.errors import BadInputError
from shared.extras import require_extra
from shared.logs import configure_logs

EXAMPLES: Final = ("rakuten serve", "rakuten serve --model models:/rakuten_classifier/3")

Model = Annotated[
    str | None,
    typer.Option(
        help="a folder or an MLflow URI of a model to serve instead of the champion, without PostgreSQL"
    ),
]


WithParent = Annotated[
    bool, typer.Option("--with-parent", hidden=True, help="stop the server when its standard input closes")
]


def serve(model: Model = None, with_parent: WithParent = False) -> None:
    """Serve predictions over HTTP, by the champion, until it is stopped.

    When the champion moves, the server loads the new one beside the old one, checks its files, and exchanges them.
    """
    settings = read_settings()
    require_extra("ml")
    require_extra("serve")
    configure_logs(settings.log_format, settings.log_level)
    if model is not None:
        _serve_fixed(settings, model)
        return
    from listeners.serving.run import run_server  # noqa: PLC0415
    from listeners.tracking.runs import Tracking  # noqa: PLC0415

    with open_database(settings) as database:
        run_server(settings, Tracking(settings), database.conninfo(Role.SERVER), with_parent=with_parent)


def _serve_fixed(settings: Settings, source: str) -> None:
    import mlflow  # noqa: PLC0415

    from listeners.serving.model import ModelInfo, ServedModel, digests_of, files_sha256  # noqa: PLC0415
    from listeners.serving.run import run_fixed  # noqa: PLC0415

    with TemporaryDirectory(prefix="rakuten-") as scratch:
        folder = Path(source)
        if not folder.is_dir():
            if "://" not in source and ":/" not in source:
                raise BadInputError(
                    f"--model {source}: there is no such folder",
                    remedy="name a folder with a file MLmodel, or a URI such as models:/rakuten_classifier/3",
                )
            mlflow.set_tracking_uri(settings.tracking_uri)
            folder = Path(mlflow.artifacts.download_artifacts(source, dst_path=scratch))
        served = ServedModel(folder, ModelInfo(source, None, None, files_sha256(digests_of(folder))))
    run_fixed(settings, served)
