"""Find the training products whose label is probably wrong, from the list that each model's run has logged."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from db.batches import Connection, find_batch, pipeline_status, rows
from db.source.checked_file import CheckedFile
from db.sql import query
from listeners.tracking.runs import Tracking
from shared.errors import BadConfirmationError, BadInputError, BadSourceError
from shared.mlflow_names import Artifact


@dataclass(frozen=True)
class Suspect:
    """A product whose label is probably wrong.

    Attributes:
        productid: productid of the product.
        designation: its title.
        prdtypecode, category: its present label, and the name of the class.
        probability: of this label, by a model that has not seen the product.
        suggested_prdtypecode, suggested_category: the class that the product probably has.
        suggested_probability: of the suggested class.
        changes: how often the label was changed since the product was loaded.
    """

    productid: int
    designation: str
    prdtypecode: int
    category: str
    probability: float
    suggested_prdtypecode: int
    suggested_category: str
    suggested_probability: float
    changes: int


def suspects_of(connection: Connection, tracking: Tracking, batch: str | None) -> tuple[str, list[Suspect]]:
    """Return the name of a batch and the suspects of its model, the most suspicious first.

    A product is left out if its label was changed or deleted after the batch, because then its label is not the one that was
    suspected, or if a person has confirmed the label.

    Args:
        connection: a connection with the role of a reader.
        tracking: MLflow, which is only read.
        batch: name of a batch; None for the newest batch that has a model.

    Raises:
        BadInputError: there is no such batch, or it has no model yet.
        StageError: the run has no list of suspects, or MLflow cannot be read.
    """
    name = find_batch(connection, batch).name if batch is not None else None
    models = [
        row
        for row in pipeline_status(connection)
        if row["training_state"] == "finished" and name in {None, row["batch_name"]}
    ]
    if not models:
        raise BadInputError(
            f"{name or 'no batch'} has {'no' if name else 'a'} model yet",
            remedy="rakuten status shows which batches have one",
        )
    newest = models[-1]
    with TemporaryDirectory(prefix="rakuten-") as scratch:
        run = tracking.run(newest["model_run_id"])
        found = pd.read_csv(
            tracking.download(run, Artifact.LABEL_SUSPECTS, Path(scratch)), keep_default_na=False
        )
    present = {
        productid: row
        for productid, row in _labels(connection, found["productid"].tolist()).items()
        if not row["is_confirmed"]
    }
    suspects = [
        Suspect(
            **{str(name): value for name, value in entry.items()},
            changes=present[entry["productid"]]["changes"],
        )
        for entry in found.to_dict("records")
        if present.get(entry["productid"], {}).get("prdtypecode") == entry["prdtypecode"]
    ]
    return newest["batch_name"], suspects


def confirm(connection: Connection, path: Path) -> int:
    """Remember that the present labels of the products in a CSV file are right. Return the number of products.

    Args:
        connection: a connection with the role of the loader.
        path: a file with the column productid, for example one that `rakuten suspects --out` wrote. Other columns are ignored.

    Raises:
        BadConfirmationError: the file has problems; the error lists all of them. Nothing was remembered.
    """
    try:
        file = CheckedFile(path, ["productid"], fix="correct the value, or remove the row")
        productids = file.integers(file.csv.whole(), "productid")
    except BadSourceError as error:
        raise BadConfirmationError(error.problems, path) from error
    labels = _labels(connection, productids.drop_null().to_pylist())
    unknown = [
        row
        for row, number in enumerate(productids.to_pylist())
        if number is not None and number not in labels
    ]
    file.report(
        np.array(unknown, np.int64),
        "productid",
        "no product has this productid",
        "correct the productid, or remove the row",
    )
    if file.problems:
        raise BadConfirmationError(file.problems, path)
    connection.execute(query("corrections/confirm_labels"), {"productids": list(labels)})
    return len(labels)


def _labels(connection: Connection, productids: list[int]) -> dict[int, dict[str, Any]]:
    found = rows(connection, query("provenance/labels_of_products"), {"productids": productids})
    return {row["productid"]: row for row in found}
