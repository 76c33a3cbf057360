"""Bodies of requests to the model server, drawn at random, and the contract a second time: which of them are products."""

import json

from hypothesis import strategies as st

from listeners.serving.schemas import MOST_PRODUCTS
from listeners.training.text import TEXT_COLUMNS, unclosed_comments

MARKER = "SECRET"  # in texts, names, headers and addresses; it must never come back
LONGEST = dict(zip(TEXT_COLUMNS, (10_000, 100_000), strict=True))
MOST_UNCLOSED_COMMENTS = 10
DEEPEST = 200  # the server reads fewer levels than Python's json

# ---- the contract, with Python's json


def is_text(name: str, value: object) -> bool:
    return value is None or (
        isinstance(value, str)
        and len(value) <= LONGEST[name]
        and not any("\ud800" <= character <= "\udfff" for character in value)
        and unclosed_comments(value) <= MOST_UNCLOSED_COMMENTS
    )


def last_of_equal_names(fields: list[tuple[str, object]]) -> dict[str, object]:
    """The object of these fields. Half a pair of surrogates, which no encoding can write, is an error."""
    json.dumps(fields, ensure_ascii=False).encode()
    return dict(fields)


def expected(body: bytes) -> list[tuple[str | None, str | None]] | None:
    """The texts of the products; None if the contract does not allow the body."""
    try:
        said = json.loads(body.decode(), object_pairs_hook=last_of_equal_names)
    except (ValueError, RecursionError):
        return None
    products = said if isinstance(said, list) else [said]
    if not 1 <= len(products) <= MOST_PRODUCTS or not all(isinstance(product, dict) for product in products):
        return None
    texts = [tuple(product.get(name) for name in TEXT_COLUMNS) for product in products]
    named = [pair for values in texts for pair in zip(TEXT_COLUMNS, values, strict=True)]
    return texts if all(is_text(name, value) for name, value in named) else None


def may_be_too_deep(body: bytes) -> bool:
    """Whether values may be nested more deeply than the server reads. Brackets in texts count, too."""
    deepest = level = 0
    for byte in body:
        level += (byte in b"[{") - (byte in b"]}")
        deepest = max(deepest, level)
    return deepest >= DEEPEST


# ---- bodies

SCALARS = [
    *(None, True, False, 0, -1, 1.5, 1e400, -1e400, float("nan"), 2**63, 10**400, 10**4_299, "", "\x00", "\ud800", "\udc00\ud800"),
    *("Piscine gonflable ronde 3 m", f"{MARKER} roman", "<p>&eacute;</p>", "&lt;!--" * 11, "<!--" * 10, "🎲\u0301ﷺ", "\u202e", "a\x1b[2J"),
    *("&#" + "1" * 4_301, "&#xd800;", "<!--" * 2_500, "x" * 9_999, "é" * 10_000, "🎲" * 10_001, "x" * 100_000, "x" * 100_001),
]  # fmt: skip
PIECES = [
    *(b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"\\u0000", b"\\ud800", b"\\ud83c\\udfb2", b"\\u0064", b"NaN", b"-Infinity"),
    *(b"null", b"1", b"0", b"-", b"1.0", b"e9", b" ", b"\n", b"\x00", b"\x0b", b"\xef\xbb\xbf", b"\xff\xfe", b"\xc3", b"\xed\xa0\x80"),
    *(b"[" * 10_000, b'{"x":' * 10_000, b"[" * 197, b"1" * 4_300, b"1" * 4_301, b"//", b"/**/", b"'", b"True", MARKER.encode()),
    *(b'"designation":', b'"description":', b'{"designation": null}, ' * 1_000, b"<!--" * 500, b"&amp;lt;!--" * 500),
]  # fmt: skip

scalars = (
    st.sampled_from(SCALARS[:24])
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.builds(lambda text, times: text * times, st.sampled_from(["a ", "<!--", "&#"]), st.integers(0, 30))
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
texts = st.none() | st.text(max_size=40) | st.sampled_from([one for one in SCALARS if isinstance(one, str)])
names = st.sampled_from([*TEXT_COLUMNS, *TEXT_COLUMNS, "Designation", "", MARKER, "__class__", "x\x00"])


@st.composite
def objects(draw) -> str:
    """A product with something done to its fields: set, left out, added or repeated."""
    fields = [(name, draw(texts)) for name in draw(st.permutations(TEXT_COLUMNS))[: draw(st.integers(0, 2))]]
    if draw(st.integers(0, 3)) == 3:
        fields += draw(st.lists(st.tuples(names, values), max_size=2))
    ascii_only = draw(st.booleans())
    written = (f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=ascii_only)}" for name, value in fields)
    return "{" + ", ".join(written) + "}"


@st.composite
def near_bodies(draw) -> bytes:
    """One product or a list of some, and perhaps with pieces of the text put in or taken out."""
    if draw(st.booleans()):
        text = draw(objects())
    else:
        text = "[" + ",".join(draw(st.lists(objects(), max_size=4))) + "]"
    body = text.encode(errors=draw(st.sampled_from(["replace", "surrogatepass"])))
    if draw(st.integers(0, 3)) == 3:
        at, length = draw(st.integers(0, len(body))), draw(st.integers(0, 3))
        piece = draw(st.sampled_from([b"", *PIECES]) | st.binary(max_size=3))
        body = body[:at] + piece + body[at + length :]
    return body


@st.composite
def long_bodies(draw) -> bytes:
    """As many equal products as a body may have, one more or one less; or one value very deep."""
    if draw(st.booleans()):
        level = draw(st.sampled_from([10, DEEPEST - 2, DEEPEST - 1, DEEPEST, DEEPEST + 1, 5_000, 100_000]))
        start, end = draw(st.sampled_from([(b"[", b"]"), (b'{"x":', b"}")]))
        return b'{"x":' + start * level + b"1" + end * level + b"}"
    times = draw(st.sampled_from([MOST_PRODUCTS - 1, MOST_PRODUCTS, MOST_PRODUCTS + 1]))
    return b"[" + b",".join([draw(st.sampled_from([b"{}", b'{"designation": "livre"}']))] * times) + b"]"


anything = (
    st.binary(max_size=60)
    | st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join)
    | values.map(json.dumps).map(str.encode)
)
# Long ones take a hundred times as long: one in a hundred.
bodies = st.integers(0, 99).flatmap(
    lambda one: long_bodies() if one == 0 else anything if one < 30 else near_bodies()
)
