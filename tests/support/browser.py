"""Open a file in headless Chromium, and note what a page must not do: ask for anything, or write errors and warnings."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import sync_playwright
from programs import path_of

WIDTHS = (390, 1400)  # a phone, a desk
SCHEMES = ("light", "dark")
_LIMIT_MS = 60_000


@dataclass
class Visit:
    """A page that is open, what it has asked for besides itself, and what it has written to the console."""

    page: object
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


@contextmanager
def chromium() -> Iterator[object]:
    """Start the browser. `path_of` skips the test, or fails it, if Chromium is not installed."""
    path = path_of("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def visit(
    browser: object, file: Path, *, width: int, scheme: str = "light", **options: object
) -> Iterator[Visit]:
    """Open a file in a window of a width, in light or dark."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
    visited = Visit(page)
    page.set_default_timeout(_LIMIT_MS)
    page.on(
        "request",
        lambda request: None if request.url == file.as_uri() else visited.requests.append(request.url),
    )
    page.on(
        "console",
        lambda message: (
            visited.messages.append(message.text) if message.type in {"error", "warning"} else None
        ),
    )
    page.on("pageerror", lambda error: visited.messages.append(str(error)))
    page.goto(file.as_uri())
    yield visited
    page.close()
