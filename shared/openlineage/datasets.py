"""Describe the datasets in the pipeline's OpenLineage events, with the classes of OpenLineage's client.

Namespaces and names follow OpenLineage's naming specification: `file` and a path, or `postgres://host:port` and
database.schema.table. The specification has no rule for MLflow. Here the namespace is `mlflow://` with the host, port and path
of the tracking URI, and the name is experiment/run or models/name. No namespace and no name contains a user name or a password.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from openlineage.client.event_v2 import Dataset, InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    column_lineage_dataset,
    data_quality_metrics_dataset,
    dataset_type_dataset,
    dataset_version_dataset,
    datasource_dataset,
    input_statistics_input_dataset,
    output_statistics_output_dataset,
    schema_dataset,
    symlinks_dataset,
)
from openlineage.client.naming.dataset import LocalFileSystem, Postgres

from shared.batch import Batch
from shared.config import Settings
from shared.mlflow_names import DATASET_EXPERIMENT, REGISTERED_MODEL, dataset_name, parquet_name
from shared.openlineage.emitter import Transition

# The source files of the test set. The load records their SHA-256 but does not load their rows; the snapshot stage reads them.
_NOT_LOADED: Final = frozenset({"X_test.csv", "Y_test.csv"})

_TEXTS: Final = ("designation", "description")
_TABLES: Final[Mapping[str, Mapping[str, str]]] = {
    "products": {
        "id": "bigint",
        "designation": "text",
        "description": "text",
        "productid": "bigint",
        "imageid": "bigint",
        "image_path": "text",
        "created_at": "timestamptz",
        "sample_rank": "bigint",
        "split": "text",
    },
    "labels": {"id": "bigint", "productid": "bigint", "prdtypecode": "integer"},
}
# For each source file of training rows: the table into which it is loaded, and the columns that are copied unchanged.
_LOADED_COLUMNS: Final = {
    "X_train.csv": ("products", ("productid", "imageid", *_TEXTS)),
    "Y_train.csv": ("labels", ("prdtypecode",)),
}
_PARQUET: Final = {
    "productid": "int64",
    "designation": "string",
    "description": "string",
    "imageid": "int64",
    "image_path": "string",
    "prdtypecode": "int32",
}


def of_load(transition: Transition, settings: Settings) -> tuple[list[InputDataset], list[OutputDataset]]:
    """Return the inputs and outputs of a load: the source files and the tables.

    The version of a file is its SHA-256. The version of a table is the batch's seal: a digest of the batch's changes and of the
    previous batch's seal.
    """
    batch = transition.batch
    load = batch.metadata.get("load", {})
    digests = batch.metadata.get("source", {}).get("files", {})
    inputs, columns = [], {}
    for name in sorted(digests.keys() - _NOT_LOADED):
        # A source file is in `data_path`. A correction file may be in any folder, and PostgreSQL records only its name, so the
        # event names a correction file without its folder.
        is_source = name in _LOADED_COLUMNS
        path = LocalFileSystem(str(settings.data_path / name) if is_source else name)
        file = InputDataset(path.get_namespace(), path.get_name())
        file.facets = _common_facets("file", "file", "FILE", version=digests[name])
        if is_source:
            table, loaded = _LOADED_COLUMNS[name]
            file.facets["schema"] = _schema({column: _TABLES[table][column] for column in loaded})
            columns[table] = _column_lineage({column: (file, column) for column in loaded})
        inputs.append(file)
    outputs = []
    for table, written in _written_rows(load).items():
        output = OutputDataset(*_table(table, settings))
        output.facets = _table_facets(table, batch, settings)
        if table in columns:
            output.facets["columnLineage"] = columns[table]
        if written is not None:
            output.outputFacets = _statistics_of_output(rows=written)
        outputs.append(output)
    return inputs, outputs


def _written_rows(load: Mapping[str, Any]) -> dict[str, int | None]:
    """Return for each table how many rows a load or a correction wrote to it, or None if the number is not known yet."""
    if "inserted" in load:
        return {"products": load["inserted"] + load["updated"], "labels": load["labels"]}
    return {table: load.get(f"{table}_written") for table in _TABLES}


def of_snapshot(transition: Transition, settings: Settings) -> tuple[list[InputDataset], list[OutputDataset]]:
    """Return the inputs and output of a snapshot: the tables `products` and `labels`, and the batch's dataset.

    The version of a table is the batch's seal (a digest of all changes up to the end of the batch). The version of the
    dataset is the SHA-256 of its file.
    """
    batch, result = transition.batch, transition.result
    products, labels = (_table_read(table, batch, settings) for table in _TABLES)
    dataset = OutputDataset(*_dataset_name(batch, settings))
    dataset.facets = _dataset_facets(batch, result, settings)
    dataset.facets["columnLineage"] = _column_lineage(
        {name: (labels if name == "prdtypecode" else products, name) for name in _PARQUET}
    )
    if "total_rows" in result:
        dataset.outputFacets = _statistics_of_output(rows=result["total_rows"], files=1)
    return [products, labels], [dataset]


def of_training(transition: Transition, settings: Settings) -> tuple[list[InputDataset], list[OutputDataset]]:
    """Return the input and output of a training: the dataset, and the new version of the registered model."""
    batch, result = transition.batch, transition.result
    built = batch.result_of("snapshot")
    dataset = InputDataset(*_dataset_name(batch, settings))
    dataset.facets = _dataset_facets(batch, built, settings)
    if "total_rows" in built:
        dataset.inputFacets = _statistics_of_input(rows=built["total_rows"], files=1)
    version = str(result["model_version"]) if "model_version" in result else None
    model = OutputDataset(mlflow_namespace(settings.tracking_uri), f"models/{_registered_model(settings)}")
    model.facets = _common_facets("mlflow", model.namespace, "MODEL", version=version)
    if version is not None:
        model.facets["symlinks"] = _mlflow_address(model, f"models:/{_registered_model(settings)}/{version}")
    return [dataset], [model]


def mlflow_namespace(tracking_uri: str) -> str:
    """Return the OpenLineage namespace of MLflow: `mlflow://` with the host, port and path of the tracking URI."""
    parts = urlsplit(tracking_uri)
    port = f":{parts.port}" if parts.port else ""
    return f"mlflow://{parts.hostname or ''}{port}{parts.path.rstrip('/')}"


def _table(table: str, settings: Settings) -> tuple[str, str]:
    """Return the namespace and the name of a table.

    The embedded PostgreSQL has a different port at each start. So the namespace contains the setting POSTGRES_PORT instead of
    this port: the setting stays the same.
    """
    host, port = settings.postgres_address
    naming = Postgres(
        host=host,
        port=port,
        database=settings.postgres_db,
        schema="public",
        table=table,
    )
    return naming.get_namespace(), naming.get_name()


def _table_read(table: str, batch: Batch, settings: Settings) -> InputDataset:
    dataset = InputDataset(*_table(table, settings))
    dataset.facets = _table_facets(table, batch, settings)
    if table == "products":
        dataset.inputFacets = _statistics_of_input(rows=batch.total_rows)
    return dataset


def _table_facets(table: str, batch: Batch, settings: Settings) -> dict[str, Any]:
    namespace, _name = _table(table, settings)
    facets = _common_facets("postgres", namespace, "TABLE", version=batch.seal)
    facets["schema"] = _schema(_TABLES[table])
    if table == "products" and batch.completed_at is not None:
        facets["dataQualityMetrics"] = _row_count(rows=batch.total_rows)
    return facets


def _dataset_name(batch: Batch, settings: Settings) -> tuple[str, str]:
    experiment = settings.mlflow_name_prefix + DATASET_EXPERIMENT
    return mlflow_namespace(settings.tracking_uri), f"{experiment}/{dataset_name(batch.name)}"


def _registered_model(settings: Settings) -> str:
    return settings.mlflow_name_prefix + REGISTERED_MODEL


def _dataset_facets(batch: Batch, result: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Return the facets of a batch's dataset. `result` is what the snapshot stage recorded; empty until the stage ends."""
    namespace, name = _dataset_name(batch, settings)
    facets = _common_facets("mlflow", namespace, "FILE", version=result.get("dataset_sha256"))
    facets["schema"] = _schema(_PARQUET)
    if "total_rows" in result:
        facets["dataQualityMetrics"] = _row_count(rows=result["total_rows"])
    if "run_id" in result:
        dataset = dataset_name(batch.name)
        file = dataset if "dataset_uri" in result else parquet_name(dataset)  # Spark writes a folder of files
        artifact = f"runs:/{result['run_id']}/{file}"
        facets["symlinks"] = _mlflow_address(Dataset(namespace, name), artifact)
    return facets


def _common_facets(source: str, uri: str, kind: str, *, version: str | None) -> dict[str, Any]:
    """Return the facets that every dataset in an OpenLineage event has: data source, type and, if it is known, the version."""
    facets: dict[str, Any] = {
        "dataSource": datasource_dataset.DatasourceDatasetFacet(name=source, uri=uri),
        "datasetType": dataset_type_dataset.DatasetTypeDatasetFacet(kind),
    }
    if version is not None:
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(version)
    return facets


def _schema(columns: Mapping[str, str]) -> schema_dataset.SchemaDatasetFacet:
    return schema_dataset.SchemaDatasetFacet(
        [
            schema_dataset.SchemaDatasetFacetFields(name, kind, ordinal_position=position)
            for position, (name, kind) in enumerate(columns.items(), start=1)
        ]
    )


def _column_lineage(
    origins: Mapping[str, tuple[Dataset, str]],
) -> column_lineage_dataset.ColumnLineageDatasetFacet:
    unchanged = column_lineage_dataset.Transformation("DIRECT", "IDENTITY", masking=False)
    return column_lineage_dataset.ColumnLineageDatasetFacet(
        {
            column: column_lineage_dataset.Fields(
                [column_lineage_dataset.InputField(origin.namespace, origin.name, field, [unchanged])]
            )
            for column, (origin, field) in origins.items()
        }
    )


def _row_count(*, rows: int) -> data_quality_metrics_dataset.DataQualityMetricsDatasetFacet:
    return data_quality_metrics_dataset.DataQualityMetricsDatasetFacet(columnMetrics={}, rowCount=rows)


def _statistics_of_input(*, rows: int, files: int | None = None) -> dict[str, Any]:
    facet = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(rowCount=rows, fileCount=files)
    return {"inputStatistics": facet}


def _statistics_of_output(*, rows: int, files: int | None = None) -> dict[str, Any]:
    facet = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        rowCount=rows, fileCount=files
    )
    return {"outputStatistics": facet}


def _mlflow_address(dataset: Dataset, uri: str) -> symlinks_dataset.SymlinksDatasetFacet:
    """Return the facet that contains MLflow's own URI (runs:/... or models:/...) of this version of the dataset or model."""
    return symlinks_dataset.SymlinksDatasetFacet(
        [symlinks_dataset.Identifier(dataset.namespace, uri, "LOCATION")]
    )
