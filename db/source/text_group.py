"""Compute the simplified text of a product, which decides whether the product is held out.

Near-identical products have the same simplified text, so either all of them are held out or none.
"""

import html
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

_ENDLESS_REFERENCE = re.compile(r"&#[0-9]{4301,};?")
_TAG = re.compile(r"<[^<>]*>")
_COMBINING = re.compile(r"[\u0300-\u036f]+")
_NOT_A_WORD = re.compile(r"[\W_]+")
_TEXTS_AT_ONCE = 1024  # so that their characters fit into the processor's cache
_SPACE = ord(" ")
_SEPARATOR = "\N{LINE FEED}"
# Two entries of the table of folded characters that stand for no character: one that has not been looked up yet, and one that is
# not always folded to exactly one character. No folded text contains NUL or U+0001, because neither belongs to a word.
_NEW, _SPECIAL = 0, 1


def text_group(designation: str | None, description: str | None) -> str:
    """Return the case-folded title (`designation`) and description, without HTML, accents and punctuation.

    This function must never change, because the returned text decides whether a product is held out. The texts for training
    are cleaned by other code (listeners/training/text.py), which may change.
    """
    return "\n".join(_fold(_plain(text)) if text else "" for text in (designation, description))


def text_groups(designations: Sequence[str | None], descriptions: Sequence[str | None]) -> list[str]:
    """Return `text_group` of many products, computed several times as fast."""
    return list(map("\n".join, zip(_folded(designations), _folded(descriptions), strict=True)))


def _folded(texts: Sequence[str | None]) -> Iterator[str]:
    """Yield `_fold` of each text, and an empty text for None."""
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        part = texts[start : start + _TEXTS_AT_ONCE]
        yield from _fold_together([_plain(text) if text else "" for text in part])


def _fold_together(texts: list[str]) -> list[str]:
    """Return `_fold` of each text.

    Nearly every character is folded to exactly one character, and its neighbours have no influence. So all texts are folded in one array of
    characters. Only a text with a special character is folded by itself.
    """
    joined = _SEPARATOR.join(text.replace(_SEPARATOR, " ") for text in texts)
    folded = _fold_characters(np.frombuffer(joined.encode("utf-32-le"), "<u4"))
    is_space = folded == _SPACE
    kept = np.ones(len(folded), np.bool_)
    kept[1:] = ~(is_space[1:] & is_space[:-1])
    separators, special = np.flatnonzero(folded == ord(_SEPARATOR)), np.flatnonzero(folded == _SPECIAL)
    result = [text.strip() for text in folded[kept].tobytes().decode("utf-32-le").split(_SEPARATOR)]
    for number in np.unique(np.searchsorted(separators, special)):
        result[number] = _fold(texts[number])
    return result


def _fold_characters(characters: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Return the folded character of each character, or _SPECIAL. Look each different character up once in this process."""
    table = _table()
    folded = table[characters]
    if len(new := characters[folded == _NEW]):
        for code in np.unique(new):
            bare = _bare(chr(code))
            character = _NOT_A_WORD.sub(" ", bare.casefold())
            # A character with a combining class can change places with its neighbours.
            is_simple = len(character) == 1 and not any(map(unicodedata.combining, bare))
            table[code] = ord(character) if is_simple else _SPECIAL
        folded = table[characters]
    return folded


@cache
def _table() -> npt.NDArray[np.uint32]:
    table = np.full(sys.maxunicode + 1, _NEW, "<u4")
    table[ord(_SEPARATOR)] = ord(_SEPARATOR)
    return table


def _fold(plain: str) -> str:
    # casefold() must come after NFKD, because NFKD can create capitals: it turns the trade mark sign into TM
    return _NOT_A_WORD.sub(" ", _bare(plain).casefold()).strip()


def _plain(text: str) -> str:
    return _TAG.sub(" ", _unescape(text)) if "&" in text or "<" in text else text


def _bare(text: str) -> str:
    return _COMBINING.sub("", unicodedata.normalize("NFKD", text))


def _unescape(text: str) -> str:
    try:
        return html.unescape(text)
    except ValueError:
        # html.unescape reads the number in a reference such as &#233; with int(), which rejects more than 4,300 digits. Such a
        # long reference is replaced here, by the character that html.unescape uses for every other invalid reference.
        return html.unescape(_ENDLESS_REFERENCE.sub("\N{REPLACEMENT CHARACTER}", text))
