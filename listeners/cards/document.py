"""Hold the content of a card, and render it as an HTML page and as Markdown.

A card is a list of sections of paragraphs, tables and commands. There is no template: both renderings are a walk over the same list,
so neither can say what the other does not. Every text that comes from data is escaped in both. The HTML page needs nothing from
elsewhere, has no script, and follows the light or dark colours of the reader's system.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import Final

# The column for a run's tag in MLflow's database holds 8,000 characters (`SqlTag.value`, `MAX_TAG_VAL_LENGTH`).
MARKDOWN_LENGTH: Final = 7_500
_MARKDOWN_ROWS: Final = 8  # of a table; the page has all
_CUT: Final = "The rest is in `card.html`, among the artifacts of this run."
# MLflow's pages render Markdown with showdown, flavour github. It shows the backslash before < & $ @, makes links of addresses and of
# @name, emoji of :name:, and an ellipsis of three dots. So these characters become entities.
_SPECIAL: Final = re.compile(
    r"(?P<entity>[<>&$@:]|(?<=www)\.|\.(?=\.))|(?P<escaped>[\\`*_{}\[\]()#+!|~-])", re.IGNORECASE
)
_ENTITIES: Final = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_NUMBER: Final = re.compile(r"[-+]?[0-9][0-9.,]*( %)?")
_MARKUP: Final = re.compile(
    r"\*\*(?P<bold>[^*]+)\*\*|`(?P<code>[^`]+)`|\[(?P<label>[^\]]+)\]\((?P<url>#[^)\s]+)\)"
)


@dataclass(frozen=True)
class Share:
    """A number from 0 to 1, shown as a percentage with a bar."""

    value: float

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} %"


@dataclass(frozen=True)
class Score(Share):
    """A score from 0 to 1, shown as a number with a bar."""

    def __str__(self) -> str:
        return f"{self.value:.3f}"


Cell = str | int | Share


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of our own words. Its markup is Markdown's for bold, code and a link within MLflow, and nothing else."""

    text: str


@dataclass(frozen=True)
class Commands:
    """Lines for a terminal or for Python."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table. Its cells may hold any text. Numbers and shares are aligned to the right."""

    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]


Block = Paragraph | Commands | Table


@dataclass(frozen=True)
class Section:
    """A part of a card with a heading."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Card:
    """The content of a card: a title, an introduction and sections."""

    title: str
    introduction: Sequence[Block]
    sections: Sequence[Section]

    def html(self) -> str:
        """Return the card as one HTML page."""
        style = resources.files(__name__.rpartition(".")[0]).joinpath("card.css").read_text(encoding="utf-8")
        parts = [*map(_html, self.introduction)]
        for section in self.sections:
            parts += [
                f"<section>\n<h2>{escape(section.title)}</h2>",
                *map(_html, section.blocks),
                "</section>",
            ]
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
            f"<title>{escape(self.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
            f"<h1>{escape(self.title)}</h1>\n" + "\n".join(parts) + "\n</main>\n</body>\n</html>\n"
        )

    def markdown(self) -> str:
        """Return the card as Markdown that fits into a tag of a run: long tables are cut, and the last sections left out."""
        text = "\n\n".join(_markdown(block) for block in self.introduction)
        for section in self.sections:
            part = "\n\n".join(["", f"### {section.title}", *map(_markdown, section.blocks)])
            if len(text) + len(part) + len(_CUT) + 2 > MARKDOWN_LENGTH:
                return f"{text}\n\n{_CUT}"
            text += part
        return text


def facts(*rows: tuple[str, Cell]) -> Table:
    """Return a table of names and values."""
    return Table(("", ""), rows)


def _html(block: Block) -> str:
    match block:
        case Paragraph(text):
            return f"<p>{_inline_html(text)}</p>"
        case Commands(text):
            return f"<pre><code>{escape(text)}</code></pre>"
        case Table(headers, rows):
            kinds = [_aligned(cell) for cell in rows[0]] if rows else [""] * len(headers)
            head = "".join(
                f'<th scope="col"{kind}>{escape(name)}</th>'
                for name, kind in zip(headers, kinds, strict=True)
            )
            body = "".join(f"<tr>{''.join(map(_html_cell, row))}</tr>\n" for row in rows)
            return f'<div class="table"><table>\n{f"<thead><tr>{head}</tr></thead>" if any(headers) else ""}<tbody>\n{body}</tbody></table></div>'


def _html_cell(cell: Cell) -> str:
    match cell:
        case Share():
            return f'<td class="number"><span class="bar" style="--share:{100 * cell.value:.1f}%"></span><span class="value">{cell}</span></td>'
        case int():
            return f'<td class="number">{cell:,}</td>'
        case str():
            return f"<td{_aligned(cell)}>{escape(cell)}</td>"


def _aligned(cell: Cell) -> str:
    return "" if isinstance(cell, str) and not _NUMBER.fullmatch(cell) else ' class="number"'


def _inline_html(text: str) -> str:
    def pieces() -> Iterator[str]:
        end = 0
        for found in _MARKUP.finditer(text):
            yield escape(text[end : found.start()])
            end = found.end()
            if found["bold"]:
                yield f"<strong>{escape(found['bold'])}</strong>"
            elif found["code"]:
                yield f"<code>{escape(found['code'])}</code>"
            else:  # the preview's frame has another address than MLflow's page, so a link would lead nowhere
                yield escape(found["label"])
        yield escape(text[end:])

    return "".join(pieces())


def _markdown(block: Block) -> str:
    match block:
        case Paragraph(text):
            return text
        case Commands(text):
            return f"```\n{text}\n```"
        case Table(headers, rows):
            lines = [
                _markdown_row(headers),
                "|" + " --- |" * len(headers),
                *map(_markdown_row, rows[:_MARKDOWN_ROWS]),
            ]
            more = len(rows) - _MARKDOWN_ROWS
            return "\n".join(lines) + (f"\n\n{more} more rows are in `card.html`." if more > 0 else "")


def _markdown_row(cells: Sequence[Cell]) -> str:
    texts = (f"{cell:,}" if isinstance(cell, int) else escape_markdown(str(cell)) for cell in cells)
    return f"| {' | '.join(texts)} |"


def escape_markdown(text: str) -> str:
    """Return a text of the data as Markdown that shows exactly this text, in one line."""
    return _SPECIAL.sub(_escape_character, " ".join(text.split()))


def _escape_character(found: re.Match[str]) -> str:
    if (character := found["entity"]) is None:
        return f"\\{found['escaped']}"
    return _ENTITIES.get(character, f"&#{ord(character)};")
