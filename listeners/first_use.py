"""What libraries import and work out on their first use. The fork server imports this module, so that no child has to.

`tests/integration/listeners/test_first_use.py` names the modules that are missing here, when another MLflow imports others.
"""

import importlib
from contextlib import suppress
from typing import Final

_IMPORTED_LATE: Final = (
    "encodings.cp437",
    "git",
    "matplotlib.backends.backend_agg",
    "mlflow.models.display_utils",
    "mlflow.pyfunc",
    "mlflow.pyfunc.scoring_server",
    "mlflow.pyfunc.utils.environment",
    "mlflow.pyfunc.utils.serving_data_parser",
    "mlflow.store.artifact.local_artifact_repo",
    "mlflow.store.model_registry.sqlalchemy_workspace_store",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "mlflow.tracing.export.utils",
    "mlflow.tracing.processor.base_mlflow",
    "mlflow.tracing.processor.otel",
    "mlflow.tracking.request_header.registry",
    "mlflow.utils.search_logged_model_utils",
    "narwhals._interchange.dataframe",
    "narwhals._pandas_like.dataframe",
    "narwhals._pandas_like.group_by",
    "narwhals._pandas_like.namespace",
    "narwhals.stable.v2._namespace",
    "netrc",
    "opentelemetry.sdk.metrics",
    "pandas.core.arrays.arrow.extension_types",
    "pandas.core.methods.to_dict",
    "pandas.io.formats.csvs",
    "PIL.BmpImagePlugin",
    "PIL.GifImagePlugin",
    "PIL.JpegImagePlugin",
    "PIL.PpmImagePlugin",
    "pyarrow.dataset",
    "skops.io",
    "sqlalchemy.dialects.sqlite",
)


def _import_all() -> None:
    """Those that are missing are skipped: whoever needs one says so."""
    for module in _IMPORTED_LATE:
        with suppress(ImportError):
            importlib.import_module(module)


def _read_installed_packages() -> None:
    """MLflow compares a model's requirements with what is installed, and reads that once a process: a quarter of a second."""
    with suppress(ImportError):
        from mlflow.utils.requirements_utils import warn_dependency_requirement_mismatches  # noqa: PLC0415

        warn_dependency_requirement_mismatches(["mlflow"])


_import_all()
_read_installed_packages()
