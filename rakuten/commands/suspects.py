"""`rakuten suspects`: list training products whose label is probably wrong."""

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Final

import typer
from rich.markup import escape

from db.database import Role
from rakuten.console import Column, print_table, problems_as_json, working
from rakuten.output_file import require_new, whole_file
from rakuten.provenance import suspects as provenance
from rakuten.provenance.suspects import Suspect
from rakuten.session import open_session
from shared.logs import printable

EXAMPLES: Final = (
    "rakuten suspects --top 20",
    "rakuten suspects --batch week_7 --out suspects.csv",
    "rakuten suspects --confirm right.csv",
)


def suspects(
    *,
    batch: str | None = typer.Option(
        None, metavar="NAME", help="use the model of this batch; default: the newest model"
    ),
    top: int = typer.Option(50, min=1, help="number of products"),
    out: Path | None = typer.Option(
        None, metavar="FILE.csv", help="write the suggested labels there, in the format of `rakuten correct`"
    ),
    confirm: Path | None = typer.Option(
        None,
        metavar="FILE.csv",
        help="remember that the present labels of these products are right, and list none; the column productid names them",
        exists=True,
        dir_okay=False,
        readable=True,
    ),
    as_json: bool = typer.Option(False, "--json", help="print the products as a JSON list"),
    wide: bool = typer.Option(False, "--wide", help="show all columns, even if the terminal is too narrow"),
) -> None:
    """List training products whose label is probably wrong, the most suspicious first.

    Models that have not seen a product give its label a low probability, and another class a high one. A person must decide: read
    the file that --out writes, and move the lines whose label is right after all into another file. Apply the first file with
    `rakuten correct`, and confirm the second with --confirm: its labels are not suspected again. Nothing is changed by itself.
    """
    if confirm is not None:
        with open_session("suspects", Role.LOADER) as session, problems_as_json(as_json):
            count = provenance.confirm(session.connection, confirm)
        typer.echo(json.dumps({"confirmed": count}) if as_json else f"labels confirmed: {count:,}")
        return
    if out is not None:
        require_new(out)
    with open_session("suspects") as session, working("reading the suspects"):
        name, found = provenance.suspects_of(session.connection, session.tracking, batch)
    shown = found[:top]
    if out is not None:
        _write(out, shown)
    if as_json:
        typer.echo(json.dumps([asdict(suspect) for suspect in shown], ensure_ascii=False, indent=2))
        return
    if not shown:
        typer.echo(f"the model of {name} suspects no label")
        return
    print_table(
        _COLUMNS, shown, wide=wide, title=f"{len(shown)} of {len(found):,} suspects of the model of {name}"
    )
    if out is not None:
        typer.echo(
            f"written to {out}: read it, delete the lines whose label is right, then: rakuten correct {out} --check"
        )


def _write(path: Path, suspects: list[Suspect]) -> None:
    """Write the suggested labels. The title is there for the person who reads the file; it changes nothing."""
    with whole_file(path) as file:
        writer = csv.writer(file)
        writer.writerow(["productid", "prdtypecode", "designation"])
        writer.writerows(
            [suspect.productid, suspect.suggested_prdtypecode, suspect.designation] for suspect in suspects
        )


_COLUMNS: Final[tuple[Column, ...]] = (
    Column("product", lambda suspect: str(suspect.productid)),
    Column("title", lambda suspect: escape(printable(suspect.designation)), justify="left", wraps=True),
    Column("label", lambda suspect: str(suspect.prdtypecode)),
    Column("class", lambda suspect: suspect.category, rank=3, justify="left"),
    Column("p", lambda suspect: f"{suspect.probability:.2f}", rank=1),
    Column("suggested", lambda suspect: str(suspect.suggested_prdtypecode)),
    Column("suggested class", lambda suspect: suspect.suggested_category, rank=4, justify="left"),
    Column("p suggested", lambda suspect: f"{suspect.suggested_probability:.2f}", rank=2),
    Column("changed before", lambda suspect: str(suspect.changes or ""), rank=5),
)
