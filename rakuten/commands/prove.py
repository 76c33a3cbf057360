"""`rakuten prove`: prove that a dataset holds a product.

The proof is a short file. Its receiver can verify the proof without the dataset, the database or MLflow.
"""

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import psycopg
import typer
from psycopg.rows import TupleRow

from db.batches import find_batch
from db.sql import query
from listeners.snapshot.dataset_digest import Proof
from listeners.snapshot.dataset_digest import prove as prove_in
from rakuten.console import working
from rakuten.session import Session, open_session
from shared.batch import Batch
from shared.categories import category_name
from shared.errors import BadInputError, PipelineError, VerificationError
from shared.mlflow_names import Tag, dataset_name

EXAMPLES: Final = ("rakuten prove 3804725264 --dataset week_3",)

_DIGEST: Final = re.compile("[0-9a-f]{64}")

Productid = Annotated[int | None, typer.Option("--product", metavar="PRODUCTID", help="the product")]
Dataset = Annotated[str | None, typer.Option(help="the dataset, for example train_week_7 (or week_7, or 7)")]
ProofFile = Annotated[
    Path | None,
    typer.Option(
        "--check",
        metavar="PROOF.json",
        exists=True,
        dir_okay=False,
        help="verify the proof in this file; this needs neither the database nor MLflow",
    ),
]
Digest = Annotated[
    str | None,
    typer.Option(
        metavar="HEX",
        help="with --check: the dataset's digest, which the digest computed from the proof must equal",
    ),
]


def prove(
    product: Productid = None,
    dataset: Dataset = None,
    check: ProofFile = None,
    digest: Digest = None,
    as_json: bool = typer.Option(False, "--json", help="print JSON: the proof, or the result of --check"),
) -> None:
    """Prove how many copies of a product a dataset holds, or verify such a proof.

    A balanced dataset can hold several copies of a product.

    The exit code is 1 if the dataset does not hold the product, or if the proof is wrong.
    """
    if check is not None:
        if product is not None or dataset is not None:
            raise BadInputError("--check cannot be combined with --product or --dataset")
        _check(check, digest, as_json=as_json)
        return
    if product is None or dataset is None or digest is not None:
        raise BadInputError(
            "give --product and --dataset to make a proof, or --check to verify one; only --check accepts --digest",
            remedy="rakuten prove --product P --dataset week_7, or rakuten prove --check PROOF.json [--digest HEX]",
        )
    with open_session("prove") as session, working("reading the dataset"):
        proof, run_id = _prove(session, product, dataset)
    if as_json:
        typer.echo(proof.to_json())
        return
    _show(proof)
    typer.echo(
        f"verified: the proof leads to the digest in the tag dataset_digest of run {run_id}: {proof.dataset_digest}"
    )


def _prove(session: Session, productid: int, dataset: str) -> tuple[Proof, str]:
    """Return a verified proof that the dataset holds the product, and the id of the MLflow run that logged the dataset.

    "Verified" means that the digest computed from the proof equals the tag `dataset_digest` of this run.

    Raises:
        PipelineError: the batch has no dataset, or its dataset does not hold the product.
        VerificationError: the digest of the dataset file in MLflow differs from the digest in the run's tag.
    """
    # MLflow and scikit-learn take seconds to import, and --check needs neither
    from listeners.training.dataset import fetch  # noqa: PLC0415

    batch = find_batch(session.connection, dataset)
    run_id = batch.result_of("snapshot").get("run_id")
    if run_id is None:
        raise PipelineError(
            f"{batch.name} has no dataset yet", remedy="rakuten status shows what the batch waits for"
        )
    run = session.tracking.run(run_id)
    with TemporaryDirectory(prefix="rakuten-") as scratch:
        proof = prove_in(fetch(session.tracking, run, Path(scratch)), productid)
    if proof is None:
        raise _absence_error(session.connection, batch, productid)
    recorded = run.data.tags.get(Tag.DATASET_DIGEST, "none")
    if not proof.verify(recorded):
        raise VerificationError(
            f"{proof.dataset} has the digest {proof.dataset_digest}, but the digest in run {run_id} is {recorded}",
            remedy=f"rakuten verify says what was changed; rakuten reproduce {batch.name} rebuilds the dataset",
        )
    return proof, run_id


def _absence_error(connection: psycopg.Connection[TupleRow], batch: Batch, productid: int) -> PipelineError:
    """Return an error that says why the dataset of a batch does not hold a product."""
    row = connection.execute(
        query("provenance/product_in_batch"), {"batch_id": batch.id, "productid": productid}
    ).fetchone()
    match row:
        case ("holdout", _, _, _):
            reason = "it is in the holdout: models are evaluated on it, and never trained on it"
        case ("train", None, _, _):
            reason = "it had no label"
        case ("train", _, _, _):
            reason = "although the batch holds this product: rakuten verify says what was changed"
        case (_, _, True, _):
            reason = "it had been deleted before"
        case (_, _, _, str() as came_with):
            reason = f"it was not there yet: it came with {came_with}"
        case _:
            reason = "it was never loaded"
    return PipelineError(
        f"{dataset_name(batch.name)} does not hold product {productid}: {reason}",
        remedy=f"rakuten lineage product:{productid} shows what is known of this product",
    )


def _check(path: Path, digest: str | None, *, as_json: bool) -> None:
    proof = Proof.from_json(path.read_bytes())
    against = proof.dataset_digest if digest is None else digest.strip().lower()
    if not _DIGEST.fullmatch(against):
        raise BadInputError(
            f"{digest!r} is not a digest", remedy="give a run's tag dataset_digest (64 hexadecimal digits)"
        )
    verified = proof.verify(against)
    if as_json:
        row = proof.row
        facts = {"productid": row.productid, "prdtypecode": row.prdtypecode, "copies": proof.copies}
        typer.echo(json.dumps({"verified": verified, "dataset_digest": against, **facts}, indent=2))
    elif verified:
        _show(proof)
        typer.echo(f"verified: the digest computed from the proof is {against}")
        if digest is None:
            typer.echo(f"compare this digest with the tag dataset_digest of the MLflow run {proof.dataset}")
    else:
        typer.echo(f"not verified: the proof does not match the digest {against}")
    if not verified:
        raise typer.Exit(1)


def _show(proof: Proof) -> None:
    """Print the product's row and its position in the dataset.

    Texts are quoted, so that null and an empty text look different. Control codes in texts are escaped, so that they do not
    reach the terminal.
    """
    row, code = proof.row, proof.row.prdtypecode
    size = next(entry.products for entry in proof.classes if entry.prdtypecode == code)
    copies = "1 copy" if proof.copies == 1 else f"{proof.copies:,} copies"
    typer.echo(f"{proof.dataset} holds product {row.productid} in {copies}")
    for name, value in dict(row).items():
        if name != "productid":
            typer.echo(f"  {name:<12} {'null' if value is None else repr(value)}")
    typer.echo(
        f"the proof holds product {proof.index + 1:,} of {size:,} in the hash tree of class {code} ({category_name(code)}), "
        f"the {len(proof.path)} hashes that lead to the root of this tree, and the roots of all {len(proof.classes)} trees"
    )
