"""The text that decides which side of the holdout a product is on: equal for near-identical products."""

import html
import re
import unicodedata

_ENDLESS_REFERENCE = re.compile(r"&#[0-9]{4301,};?")
_TAG = re.compile(r"<[^<>]*>")
_COMBINING = re.compile(r"[\u0300-\u036f]+")
_NOT_A_WORD = re.compile(r"[\W_]+")


def text_group(designation: str | None, description: str | None) -> str:
    """Title and description without tags, entities, case, accents and punctuation: equal for near-identical products.

    It decides the holdout, so it never changes; the model's own text cleaning is free to, and lives with the model.
    """
    return "\n".join(_fold(text) if text else "" for text in (designation, description))


def _fold(text: str) -> str:
    plain = _TAG.sub(" ", _unescape(text)) if "&" in text or "<" in text else text
    folded = _fold_common(plain)
    if folded is None:
        folded = _fold_common(_RARE.sub(lambda rare: _fold_characters(rare[0]), plain))
    return _fold_characters(plain).strip() if folded is None else folded


def _fold_common(plain: str) -> str | None:
    """Fold a text byte by byte, or give up: ten times as fast, and nearly all texts are French."""
    try:
        folded = plain.encode(_CODE_PAGE).translate(_FOLDED_BYTES)
    except UnicodeEncodeError:
        return None
    return None if _NO_BYTE in folded else b" ".join(folded.split()).decode(_CODE_PAGE)


def _fold_characters(plain: str) -> str:
    """Every character as it is folded, which does not depend on its neighbours."""
    bare = _COMBINING.sub("", unicodedata.normalize("NFKD", plain))
    # after NFKD, which makes capitals: a trade mark sign becomes TM
    return _NOT_A_WORD.sub(" ", bare.casefold())


_CODE_PAGE = "cp1252"
_NO_BYTE = b"\x81"  # means no character of the code page


def _folded_byte(code: int) -> bytes:
    try:
        folded = _fold_characters(bytes([code]).decode(_CODE_PAGE)).encode(_CODE_PAGE)
    except UnicodeError:
        return _NO_BYTE
    return folded if len(folded) == 1 else _NO_BYTE


_FOLDED_BYTES = b"".join(map(_folded_byte, range(256)))
_COMMON = "".join(
    bytes([code]).decode(_CODE_PAGE) for code in range(256) if _FOLDED_BYTES[code] != _NO_BYTE[0]
)
_RARE = re.compile(f"[^{re.escape(_COMMON)}]+")


def _unescape(text: str) -> str:
    try:
        return html.unescape(text)
    except (
        ValueError
    ):  # int() takes at most 4,300 digits; any other number that is no character becomes the same
        return html.unescape(_ENDLESS_REFERENCE.sub("\N{REPLACEMENT CHARACTER}", text))
