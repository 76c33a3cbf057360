"""Compile the words of the synthetic products, so that array operations can draw many texts at once.

A template such as "{item} {detail} - {brand}" becomes a row of pieces. Each piece is a range in a single list of phrases. A
literal is a range of length 1. A text is drawn by drawing one phrase from each range.
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
# Random numbers below this bound choose templates and phrases, modulo the number of choices.
MOST_CHOICES: Final = 2**31

# How often a class's own words are drawn, compared with the words that it shares.
_CLASS_WORD_WEIGHT = 2
_CLASS_BRAND_WEIGHT = 3

# The title and all sentences of a product draw the same phrase for these slots, so that they do not contradict each other.
_FIXED_SLOTS: Final = ("item", "brand", "colour", "material", "size", "weight", "reference", "condition")

Toml: TypeAlias = Mapping[str, Any]
Pools: TypeAlias = dict[str, list[str]]
Range: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class Products:
    """The products to write texts for.

    `topic` and `language` are positions in `CODES` and `LANGUAGES`. `fixed` has a random number for each fixed slot.
    """

    topic: Integers
    language: Integers
    fixed: Integers

    def take(self, rows: Integers) -> Self:
        return type(self)(self.topic[rows], self.language[rows], self.fixed[rows])


@dataclass(frozen=True)
class TemplateTable:
    """The templates of one kind of text.

    `piece_start` and `piece_size` (templates x pieces) are ranges in `phrases`. `piece_fixed` is a position in `_FIXED_SLOTS`,
    or -1. `first` and `count` (classes x languages) are ranges in the list of templates.
    """

    phrases: npt.NDArray[np.object_]
    piece_start: Integers
    piece_size: Integers
    piece_fixed: Integers
    first: Integers
    count: Integers

    def draw(self, draws: Draws, products: Products, choice: Integers) -> list[str]:
        """Return one text for each product. `choice` (0 or more), modulo the number of templates, selects the template."""
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
    """The templates of the three kinds of text, and their proportions (tables `mix`, `groups`, and `classes` by code)."""

    titles: TemplateTable
    ambiguous_titles: TemplateTable
    sentences: TemplateTable
    mix: Toml
    groups: Toml
    classes: Toml


def fixed_numbers(draws: Draws, size: int) -> Integers:
    """Draw the numbers that decide the item, brand, colour and so on of each product."""
    return draws.below(MOST_CHOICES, (size, len(_FIXED_SLOTS)))


def read_vocabulary() -> Vocabulary:
    """Read and compile `shared_words.toml` and `classes.toml`."""
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
    """Join each title pattern with each ending, except an ending that would repeat a slot of the pattern."""
    unique_slots = {*_FIXED_SLOTS, "year", "person"}
    return [
        head + tail for head, tail in product(heads, tails) if not _slots(head) & _slots(tail) & unique_slots
    ]


def _slots(template: str) -> set[str]:
    return {slot for _, slot, _, _ in Formatter().parse(template) if slot}


def _class_pools(own: Toml, words: Toml, groups: list[Toml], names: list[str]) -> Pools:
    """Return the words for the slots of a class: mostly words of the class itself, and some of the groups of the class."""
    return {
        "brand": own["brands"] * _CLASS_BRAND_WEIGHT + names[::251],
        **{
            slot: words[f"{slot}s"] * _CLASS_WORD_WEIGHT
            + [word for group in groups for word in group[f"{slot}s"]]
            for slot in ("item", "detail")
        },
    }


def _built_pools(parts: Toml) -> Pools:
    """Return the words for the slots without a language: numbers with units, and made-up names."""
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
    """The list of all phrases. Equal lists of words are stored only once."""

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
    """Compile the templates of each class and language. `pools` gives the words for their slots."""
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
    """Yield the start, size and fixed slot of each piece of a template."""
    for literal, slot, _, _ in Formatter().parse(template):
        if literal:
            yield (*phrases.range_of([literal]), -1)
        if slot:
            fixed = _FIXED_SLOTS.index(slot) if slot in _FIXED_SLOTS else -1
            yield (*phrases.range_of(pools[slot]), fixed)
