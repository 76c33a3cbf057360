"""`rakuten report`: write one page with figures about the loads, the models, the storage and the problems."""

import json
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final

import psutil
import typer

from rakuten.console import working
from rakuten.output_file import require_folder, whole_file
from rakuten.report.tables import Facts, read_facts
from rakuten.session import open_session
from shared.config import Settings, read_settings
from shared.errors import BadInputError
from shared.extras import require_extra

EXAMPLES: Final = ("rakuten report", "rakuten report --out ~/report.html --open", "rakuten report --json")

_DEFAULT_OUT: Final = Path("report.html")


def report(
    *,
    out: Path | None = typer.Option(
        None, metavar="FILE.html", help="file to write, by default report.html; an existing file is replaced"
    ),
    opens: bool = typer.Option(False, "--open", help="open the page in the browser"),
    as_json: bool = typer.Option(
        False, "--json", help="print the data behind the figures as JSON, and write no page"
    ),
) -> None:
    """Write one page about the pipeline: rows, classes, models, drift, latencies, storage and problems.

    The page needs no server and no network: send the file to anybody, or open it on a phone. Each figure has its table and its
    query. All data comes from PostgreSQL, but the sizes of files in STATE_PATH and of its disk are measured.
    """
    settings = read_settings()
    if as_json and (out is not None or opens):
        raise BadInputError("--json writes no page", remedy="leave out --out and --open")
    if as_json:
        typer.echo(json.dumps(_facts(settings).as_json(), ensure_ascii=False, indent=2))
        return
    require_extra("report")
    out = out or _DEFAULT_OUT
    require_folder(out)
    times = [psutil.Process().create_time(), time.time()]
    with working("making the report"), _vega() as vega:
        facts = _facts(settings)
        times.append(time.time())
        library = vega()
        times.append(time.time())
        html = _page(facts, library)
        times.append(time.time())
        with whole_file(out) as file:
            file.write(html)
    typer.echo(f"{out}: {len(html.encode()):,} bytes, {len(facts.batch_names)} batches")
    parts = ("start", "read PostgreSQL", "wait for Vega's JavaScript", "draw and write")
    spent = [f"{name} {end - begin:.1f} s" for name, (begin, end) in zip(parts, pairwise(times), strict=True)]
    typer.echo(f"{times[-1] - times[0]:.1f} s: {', '.join(spent)}")
    if opens and not webbrowser.open(out.absolute().as_uri()):
        typer.echo(f"no browser was found: open {out} yourself", err=True)


def _facts(settings: Settings) -> Facts:
    with open_session("report", settings=settings) as session:
        return read_facts(session.connection, settings, is_embedded=session.database.embedded is not None)


@contextmanager
def _vega() -> Iterator[Callable[[], str]]:
    """Yield a function that returns Vega, Vega-Lite and vegaEmbed as one script.

    The package makes the script with a JavaScript engine. It takes more than a second and holds Python's lock, so it is done in
    another process meanwhile.
    """
    code = "import sys, vl_convert; sys.stdout.buffer.write(vl_convert.javascript_bundle().encode())"
    with subprocess.Popen([sys.executable, "-I", "-c", code], stdout=subprocess.PIPE) as process:
        try:
            yield lambda: _output_of(process)
        finally:
            process.kill()


def _output_of(process: "subprocess.Popen[bytes]") -> str:
    script, _ = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return script.decode()


def _page(facts: Facts, vega: str) -> str:
    from rakuten.report.page import page_of  # noqa: PLC0415  only the extra `report` installs Jinja

    return page_of(facts, vega)
