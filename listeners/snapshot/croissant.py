"""Describe a dataset's parquet file in the Croissant format, which tools such as mlcroissant, PyTorch and TensorFlow Datasets read.

The file is the JSON-LD of version 1.0 of the format (https://docs.mlcommons.org/croissant/docs/croissant-spec.html). Its vocabulary,
croissant_context.json, is the one that mlcroissant writes. A test reads the rows of a dataset through mlcroissant.
"""

import json
from importlib import resources
from typing import Any, Final

import pyarrow as pa

from listeners.snapshot.parquet import SCHEMA
from shared.batch import Batch
from shared.mlflow_names import parquet_name

_DESCRIPTIONS: Final = {
    "productid": "The number of the product in the source file. A row occurs once for each copy.",
    "designation": "The title of the product.",
    "description": "The longer text about the product, or null if there is none.",
    "imageid": "The number of the image of the product.",
    "image_path": "The path of the image file, relative to the folder of the source files.",
    "prdtypecode": "The code of the class of the product, which a model predicts.",
}


def croissant(batch: Batch, name: str, stats: dict[str, Any], file: str, sha256: str) -> dict[str, Any]:
    """Return the content of croissant.json.

    Args:
        batch: the completed batch of the dataset.
        name: of the dataset.
        stats: what `listeners.snapshot.local.build` returns.
        file: name of the parquet file, or of a folder of parquet files.
        sha256: of the parquet file.
    """
    context = (
        resources.files(__name__.rpartition(".")[0])
        .joinpath("croissant_context.json")
        .read_text(encoding="utf-8")
    )
    is_file = file == parquet_name(name)
    return {
        "@context": json.loads(context),
        "@type": "sc:Dataset",
        "name": name,
        "description": (
            f"{stats['distinct_products']:,} products in {len(stats['classes'])} classes, balanced to {stats['total_rows']:,} rows by "
            f"repeating products of small classes. The source files are {_source_files(batch)}."
        ),
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "version": f"{batch.chain_number}.0.0",
        "datePublished": f"{batch.completed_at:%Y-%m-%d}",
        "distribution": [_file(file, sha256) if is_file else _folder(file)],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "products",
                "name": "products",
                "field": [_field(column, "fileObject" if is_file else "fileSet", file) for column in SCHEMA],
            }
        ],
    }


def _source_files(batch: Batch) -> str:
    files = sorted(batch.source.get("files", {}).items())
    return ", ".join(f"{name} (SHA-256 {sha256})" for name, sha256 in files) or "not recorded"


def _file(name: str, sha256: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "encodingFormat": "application/x-parquet",
        "sha256": sha256,
    }


def _folder(name: str) -> dict[str, Any]:
    """Describe all parquet files in a folder beside the description. The manifest in the folder has their SHA-256."""
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "includes": f"{name}/*.parquet",
        "encodingFormat": "application/x-parquet",
    }


def _field(column: pa.Field, source: str, name: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"products/{column.name}",
        "name": column.name,
        "description": _DESCRIPTIONS[column.name],
        "dataType": "sc:Text" if pa.types.is_string(column.type) else "sc:Integer",
        "source": {source: {"@id": name}, "extract": {"column": column.name}},
    }
