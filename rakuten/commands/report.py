"""`rakuten report`: write one page with figures about the loads, the models, the storage and the problems."""

import json
import time
import webbrowser
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import typer

from rakuten.console import working
from rakuten.output_file import require_folder, whole_file
from rakuten.report.tables import Facts, read_facts
from rakuten.session import open_session
from shared.config import Settings, read_settings
from shared.extras import require_extra

EXAMPLES: Final = ("rakuten report", "rakuten report --out ~/report.html --open", "rakuten report --json")

_PAGE: Final = Path("report.html")


def report(
    *,
    out: Path = typer.Option(_PAGE, metavar="FILE.html", help="file to write; an existing file is replaced"),
    opens: bool = typer.Option(False, "--open", help="open the page in the browser"),
    as_json: bool = typer.Option(
        False, "--json", help="print the data behind the figures as JSON, and write no page"
    ),
) -> None:
    """Write one page about the pipeline: rows, classes, models, drift, latencies, storage and problems.

    The page needs no server and no network: send the file to anybody, or open it on a phone. Each figure has its table and its
    query. All data comes from PostgreSQL.
    """
    settings = read_settings()
    if as_json:
        typer.echo(json.dumps(_facts(settings).as_json(), ensure_ascii=False, indent=2))
        return
    require_extra("report")
    require_folder(out)
    with working("making the report"), ThreadPoolExecutor(1) as pool:
        started = time.perf_counter()
        vega = pool.submit(_vega)  # takes a second or more, without Python's lock
        facts = _facts(settings)
        read = time.perf_counter()
        html = _page(facts, vega)
        drawn = time.perf_counter()
        with whole_file(out) as file:
            file.write(html)
    typer.echo(
        f"{out}: {len(html.encode()):,} bytes, about {len(facts.batch_names)} batches; {drawn - started:.1f} s: "
        f"{read - started:.1f} s for PostgreSQL, {drawn - read:.1f} s for the page"
    )
    if opens:
        webbrowser.open(out.absolute().as_uri())


def _facts(settings: Settings) -> Facts:
    with open_session("report", settings=settings) as session:
        return read_facts(
            session.connection, settings.state_path, is_embedded=session.database.embedded is not None
        )


def _vega() -> str:
    """Return Vega, Vega-Lite and vegaEmbed as one script."""
    import vl_convert  # noqa: PLC0415  it loads a JavaScript engine

    return vl_convert.javascript_bundle()


def _page(facts: Facts, vega: "Future[str]") -> str:
    from rakuten.report.page import page_of  # noqa: PLC0415  only the extra `report` installs Jinja

    return page_of(facts, vega.result())
