"""Compile the words of the synthetic products, so that array operations can draw many texts at once.

A template such as "{item} {detail} - {brand}" is compiled to a row of pieces. A piece is a slot such as {item}, or the literal
text between two slots. A phrase is a possible text of a piece, for example one brand. One list holds the phrases of all pieces,
so the phrases of a piece are given by a start and a length. A literal text is a single phrase. To draw a text, draw one phrase
for each piece, and join them.
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from itertools import product
from string import Formatter
from typing import Any, Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from db.source.synthetic.draws import Draws, Integers
from shared.categories import CATEGORIES

CODES: Final = tuple(sorted(CATEGORIES))
LANGUAGES: Final = ("fr", "en", "de")
# A random number below MOST_CHOICES chooses a template or a phrase. The index of the choice is this number modulo the number of
# templates or phrases.
MOST_CHOICES: Final = 2**31

# How many times a list to draw from holds each of a class's own items and details (word weight) and own brands (brand weight).
# The class's own words are therefore drawn more often than the words that the class shares with other classes.
_CLASS_WORD_WEIGHT = 2
_CLASS_BRAND_WEIGHT = 3

# If one of these slots occurs in several texts of a product (its title and sentences), all texts get the same phrase for it.
# Otherwise, the title could name a red product and a sentence a blue one.
_FIXED_SLOTS: Final = ("item", "brand", "colour", "material", "size", "weight", "reference", "condition")

Toml: TypeAlias = Mapping[str, Any]
Pools: TypeAlias = dict[str, list[str]]
Range: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class Products:
    """The properties of products whose texts are to be written: three arrays with one row for each product.

    Attributes:
        topic: the class that the texts describe, as a position in `CODES`.
        language: the language of the texts, as a position in `LANGUAGES`.
        fixed: one random number for each slot in `_FIXED_SLOTS`, such as {brand}. The number chooses the phrase of the slot in
            all texts of the product.
    """

    topic: Integers
    language: Integers
    fixed: Integers

    def take(self, rows: Integers) -> Self:
        return type(self)(self.topic[rows], self.language[rows], self.fixed[rows])


@dataclass(frozen=True)
class TemplateTable:
    """The compiled templates of one kind of text, for example of titles.

    A template is a sequence of pieces. A piece is a slot such as {brand}, or the literal text between two slots.

    `piece_start`, `piece_size`, `piece_fixed`: one row for each template, one column for each piece. The possible texts of the
    piece are `phrases[piece_start : piece_start + piece_size]`. If the piece is a slot in `_FIXED_SLOTS`, `piece_fixed` is the
    index of the slot in `_FIXED_SLOTS`; otherwise it is -1. Shorter templates end with empty pieces.

    `first`, `count`: arrays of shape (classes, languages). The templates of class c and language l are the rows from `first[c,
    l]` to `first[c, l] + count[c, l] - 1` of the three arrays above.
    """

    phrases: npt.NDArray[np.object_]
    piece_start: Integers
    piece_size: Integers
    piece_fixed: Integers
    first: Integers
    count: Integers

    def draw(self, draws: Draws, products: Products, choice: Integers) -> list[str]:
        """Return one text for each product.

        `choice` holds a number for each product, 0 or more. This number, modulo the number of templates for the product's class
        and language, selects the template of the text.
        """
        cell = products.topic, products.language
        template = self.first[cell] + choice % self.count[cell]
        size = self.piece_size[template]
        phrase = draws.below(size, size.shape)
        fixed = self.piece_fixed[template]
        row, piece = np.nonzero(fixed >= 0)
        phrase[row, piece] = products.fixed[row, fixed[row, piece]] % size[row, piece]
        return ["".join(words) for words in self.phrases[self.piece_start[template] + phrase].tolist()]


@dataclass(frozen=True)
class Vocabulary:
    """The text templates and the words from which the texts of synthetic products are made.

    `titles`, `ambiguous_titles` and `sentences` hold the templates of these kinds of text. The other attributes are tables from
    the TOML files: `mix` holds proportions, for example of the languages. `groups` holds groups of similar product classes,
    with the words that they share. `classes` holds the words and settings of each product class, by class code.
    """

    titles: TemplateTable
    ambiguous_titles: TemplateTable
    sentences: TemplateTable
    mix: Toml
    groups: Toml
    classes: Toml


def fixed_numbers(draws: Draws, size: int) -> Integers:
    """Draw `Products.fixed` for `size` products: one random number for each product and each fixed slot, such as {brand}."""
    return draws.below(MOST_CHOICES, (size, len(_FIXED_SLOTS)))


def read_vocabulary() -> Vocabulary:
    """Read the words and the text templates in `shared_words.toml` and `classes.toml`, and compile the templates."""
    shared, classes = _read_toml("shared_words.toml"), _read_toml("classes.toml")
    built = _built_pools(shared["names"])
    titles: list[list[str]] = []
    ambiguous: list[list[str]] = []
    sentences: list[list[str]] = []
    pools: list[Pools] = []
    for code, name in product(CODES, LANGUAGES):
        own, language = classes[str(code)], shared["languages"][name]
        titles.append(_with_tails(own["patterns"], language[f"{own['kind']}_title_tails"]))
        ambiguous.append(language["ambiguous_titles"])
        goods_only = language["goods_sentences"] if own["kind"] == "goods" else []
        sentences.append(
            own[name]["sentences"]
            + language["product_sentences"]
            + language["commerce_sentences"]
            + goods_only
        )
        groups = [group[name] for group in shared["groups"].values() if code in group["codes"]]
        pools.append(built | language["words"] | _class_pools(own, own[name], groups, built["name"]))
    return Vocabulary(
        titles=_compile(titles, pools),
        ambiguous_titles=_compile(ambiguous, pools),
        sentences=_compile(sentences, pools),
        mix=shared["mix"],
        groups=shared["groups"],
        classes=classes,
    )


def _read_toml(name: str) -> Toml:
    return tomllib.loads(files("db.source.synthetic").joinpath(name).read_text(encoding="utf-8"))


def _with_tails(heads: list[str], tails: list[str]) -> list[str]:
    """Return each title pattern in `heads` followed by each ending in `tails`, for example "{item} {brand}" + " - {colour}".

    Leave out a pair if {year}, {person} or a slot in `_FIXED_SLOTS` would occur twice in the title.
    """
    unique_slots = {*_FIXED_SLOTS, "year", "person"}
    return [
        head + tail for head, tail in product(heads, tails) if not _slots(head) & _slots(tail) & unique_slots
    ]


def _slots(template: str) -> set[str]:
    return {slot for _, slot, _, _ in Formatter().parse(template) if slot}


def _class_pools(own: Toml, words: Toml, groups: list[Toml], names: list[str]) -> Pools:
    """Return one list of words for each of the slots {brand}, {item} and {detail}, for texts about one product class.

    Each list holds the class's own words several times, so that they are drawn more often than other words. The list for
    {brand} also holds some of the made-up brands in `names`. The lists for {item} and {detail} also hold the words of `groups`,
    the groups of similar classes to which this class belongs.
    """
    return {
        "brand": own["brands"] * _CLASS_BRAND_WEIGHT + names[::251],
        **{
            slot: words[f"{slot}s"] * _CLASS_WORD_WEIGHT
            + [word for group in groups for word in group[f"{slot}s"]]
            for slot in ("item", "detail")
        },
    }


def _built_pools(parts: Toml) -> Pools:
    """Return the words for those slots whose words are the same in every language, such as {number}, {size} and {name}."""
    names = ["".join(syllables) for syllables in product(*parts["syllables"])]
    sides = (20, 30, 45, 60, 75, 80, 90, 100, 120, 140, 160, 180, 200, 240)
    return {
        "name": names,
        "person": [f"{first} {last}" for first, last in product(parts["first_names"], names[::53])],
        "count": [str(count) for count in range(2, 13)],
        "day": [str(day) for day in range(1, 29)],
        "number": [str(number) for number in range(2, 100)],
        "year": [str(year) for year in range(1890, 2020)],
        "size": [f"{width} x {length} cm" for width, length in product(sides, sides)],
        "weight": [f"{grams} g" for grams in range(50, 1000, 25)]
        + [f"{tenths / 10} kg" for tenths in range(10, 250)],
        "reference": [
            f"{letters}{number}"
            for letters, number in product(
                ("AX", "BT-", "D", "KR", "MZ-", "T", "V", "ZL"), range(100, 9000, 37)
            )
        ],
    }


class _Phrases:
    """The list of all phrases. `range_of` returns where a sequence of phrases is in the list, as (start, size).

    The first call of `range_of` with a sequence appends the sequence to the list.
    """

    def __init__(self) -> None:
        self.phrases: list[str] = []
        self._ranges: dict[tuple[str, ...], Range] = {}

    def range_of(self, words: Iterable[str]) -> Range:
        key = tuple(words)
        if key not in self._ranges:
            self._ranges[key] = (len(self.phrases), len(key))
            self.phrases.extend(key)
        return self._ranges[key]


def _compile(templates: list[list[str]], pools: list[Pools]) -> TemplateTable:
    """Compile all templates of one kind of text to one table.

    Both lists have one entry for each pair of class and language. The entry in `templates` is a list of templates. The entry
    in `pools` has the words for each slot in these templates.
    """
    phrases = _Phrases()
    padding = (*phrases.range_of([""]), -1)
    rows = [
        list(_pieces(template, words_of, phrases))
        for of_cell, words_of in zip(templates, pools, strict=True)
        for template in of_cell
    ]
    width = max(map(len, rows))
    pieces = np.array([row + [padding] * (width - len(row)) for row in rows], dtype=np.int64)
    count = np.array([len(of_cell) for of_cell in templates], dtype=np.int64)
    shape = (len(CODES), len(LANGUAGES))
    return TemplateTable(
        phrases=np.array(phrases.phrases, dtype=object),
        piece_start=pieces[:, :, 0],
        piece_size=pieces[:, :, 1],
        piece_fixed=pieces[:, :, 2],
        first=(np.cumsum(count) - count).reshape(shape),
        count=count.reshape(shape),
    )


def _pieces(template: str, pools: Pools, phrases: _Phrases) -> Iterator[tuple[int, int, int]]:
    """Yield (start, size, fixed) for each piece of a template: each slot such as {item} and each text between two slots.

    The possible texts of the piece are the `size` phrases that begin at position `start` of `phrases`. `fixed` is the index of
    the slot in `_FIXED_SLOTS`, or -1 if the piece is no such slot.
    """
    for literal, slot, _, _ in Formatter().parse(template):
        if literal:
            yield (*phrases.range_of([literal]), -1)
        if slot:
            fixed = _FIXED_SLOTS.index(slot) if slot in _FIXED_SLOTS else -1
            yield (*phrases.range_of(pools[slot]), fixed)
