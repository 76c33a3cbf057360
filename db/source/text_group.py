"""Compute the simplified text of a product, which decides whether the product is held out.

Near-identical products have the same simplified text, so either all of them are held out or none.
"""

import html
import re
import unicodedata

_ENDLESS_REFERENCE = re.compile(r"&#[0-9]{4301,};?")
_TAG = re.compile(r"<[^<>]*>")
_COMBINING = re.compile(r"[\u0300-\u036f]+")
_NOT_A_WORD = re.compile(r"[\W_]+")


def text_group(designation: str | None, description: str | None) -> str:
    """Return the case-folded title (`designation`) and description, without HTML, accents and punctuation.

    This function must never change, because the returned text decides whether a product is held out. The texts for training
    are cleaned by other code (listeners/training/text.py), which may change.
    """
    return "\n".join(_fold(text) if text else "" for text in (designation, description))


def _fold(text: str) -> str:
    plain = _TAG.sub(" ", _unescape(text)) if "&" in text or "<" in text else text
    bare = _COMBINING.sub("", unicodedata.normalize("NFKD", plain))
    # casefold() must come after NFKD, because NFKD can create capitals: it turns the trade mark sign into TM
    return _NOT_A_WORD.sub(" ", bare.casefold()).strip()


def _unescape(text: str) -> str:
    try:
        return html.unescape(text)
    except ValueError:
        # html.unescape reads the number in a reference such as &#233; with int(), which rejects more than 4,300 digits. Such a
        # long reference is replaced here, by the character that html.unescape uses for every other invalid reference.
        return html.unescape(_ENDLESS_REFERENCE.sub("\N{REPLACEMENT CHARACTER}", text))
