"""`rakuten taint`: list every dataset that contained a product, and every model trained on such a dataset."""

import json
from dataclasses import asdict
from typing import Any, Final

import typer

from db.source.csv_problems import clip
from rakuten.console import Column, print_table, short_id, working
from rakuten.provenance import taint as lookup
from rakuten.session import open_session

EXAMPLES: Final = ("rakuten taint 3804725264",)


def taint(
    productid: int = typer.Argument(metavar="PRODUCTID", min=0, max=10**18 - 1),
    as_json: bool = typer.Option(
        False, "--json", help="print JSON, which also lists the batches whose dataset lacks the product"
    ),
    full: bool = typer.Option(False, "--full", help="print whole run ids"),
) -> None:
    """List every dataset that contained a product, every model trained on it, and every change of the product."""
    with open_session("taint") as session, working("reading the history"):
        found = lookup.taint(session.connection, session.settings, productid)
    if as_json:
        typer.echo(json.dumps(asdict(found), default=lambda moment: moment.isoformat(), indent=2))
        return
    ids = sorted({entry["product_id"] for entry in found.history} - {None})
    several = len(ids) > 1
    for entry in found.history:
        typer.echo(_line(entry, productid, several=several))
    if several:
        listed = ", ".join(str(product_id) for product_id in ids)
        typer.echo(f"{len(ids)} products had this productid at some time, with the ids {listed}")
    tainted = [batch for batch in found.batches if batch.in_dataset]
    if tainted:
        caption = "an empty cell: this run does not exist yet"
        print_table(
            _columns(productid, several=several, full=full), tainted, title="trained on it", caption=caption
        )
    else:
        typer.echo(f"no dataset ever contained product {productid}, and no model was trained on it")
    if found.in_test_df:
        typer.echo(
            f"product {productid} is in the test set (test_df): no model was trained on it, every model predicts its class"
        )
    if found.in_holdout_df:
        typer.echo(
            f"product {productid} is in the holdout (holdout_df): models are evaluated on it, and never trained on it"
        )
    elif found.held_out:
        typer.echo(f"product {productid} was held out after its load: later datasets do not contain it")


def _line(entry: dict[str, Any], productid: int, *, several: bool) -> str:
    """Return the line that describes one change: when, in which batch, what, by whom, and the product's new state."""
    batch = entry["batch_name"] or "no batch yet"
    if entry["outside_any_batch"]:
        batch = f"outside any batch, first in {batch}"
    state = ""
    if entry["operation_type"] != "DELETE" and entry["table_name"] == "products":
        title = clip(entry["designation"])
        which = f" (id {entry['product_id']})" if several else ""
        state = f"{which}: {entry['split']}, {title!r}"  # !r escapes control characters in the title
    elif entry["operation_type"] != "DELETE":
        state = f": {entry['prdtypecode']}"
    what = f"{entry['operation_type']} {entry['table_name']}"
    who = f"{entry['changed_by']} ({entry['application']})"
    renamed = "" if entry["productid"] == productid else f", as product {entry['productid']}"
    return f"{entry['operation_date']:%Y-%m-%d %H:%M:%S}  {batch}: {what} by {who}{renamed}{state}"


def _columns(productid: int, *, several: bool, full: bool) -> list[Column]:
    def name(batch: lookup.TaintedBatch) -> str:
        others = "".join(f", under productid {other}" for other in batch.productids if other != productid)
        return batch.batch_name + others + "".join(f", id {one}" for one in batch.product_ids if several)

    return [
        Column("batch", name, justify="left"),
        Column("dataset run", lambda batch: short_id(batch.dataset_run_id, full=full), justify="left"),
        Column("model run", lambda batch: short_id(batch.model_run_id, full=full), justify="left"),
        Column(
            "model version", lambda batch: "" if batch.model_version is None else str(batch.model_version)
        ),
    ]
