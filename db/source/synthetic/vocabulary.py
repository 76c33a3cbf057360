"""Compile the words of the synthetic products, so that array operations can draw many texts at once.

A template such as "{item} {detail} - {brand}" is compiled to a row of pieces. A piece is a slot such as {item}, or the literal
text between two slots. All phrases are in a single list, and each piece is a range in this list. The range of a literal has
length 1. A text is drawn by drawing one phrase from the range of each piece.
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
# Templates and phrases are chosen by random numbers below this bound, taken modulo the number of templates or phrases.
MOST_CHOICES: Final = 2**31

# How many times as often one of a class's own words is drawn as a word that the class shares with other classes.
_CLASS_WORD_WEIGHT = 2
_CLASS_BRAND_WEIGHT = 3

# In these slots, the title and all sentences of a product have the same phrase, so that they do not contradict each other.
_FIXED_SLOTS: Final = ("item", "brand", "colour", "material", "size", "weight", "reference", "condition")

Toml: TypeAlias = Mapping[str, Any]
Pools: TypeAlias = dict[str, list[str]]
Range: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class Products:
    """The products to write texts for.

    `topic` and `language` are positions in `CODES` and `LANGUAGES`. `fixed` has a random number for each product and each slot
    in `_FIXED_SLOTS`: the number chooses the phrase of this slot in all texts of the product.
    """

    topic: Integers
    language: Integers
    fixed: Integers

    def take(self, rows: Integers) -> Self:
        return type(self)(self.topic[rows], self.language[rows], self.fixed[rows])


@dataclass(frozen=True)
class TemplateTable:
    """The compiled templates of one kind of text, for example of titles.

    A piece is a slot or a literal of a template. `piece_start` and `piece_size` (templates x pieces) are the range in `phrases`
    from which each piece is drawn. `piece_fixed` is the piece's position in `_FIXED_SLOTS`, or -1 for any other piece. `first`
    and `count` (classes x languages) are the range of templates for each class and language.
    """

    phrases: npt.NDArray[np.object_]
    piece_start: Integers
    piece_size: Integers
    piece_fixed: Integers
    first: Integers
    count: Integers

    def draw(self, draws: Draws, products: Products, choice: Integers) -> list[str]:
        """Return one text for each product.

        `choice` holds a number for each product, 0 or more. This number, modulo the number of templates, selects the template.
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
    """The templates of the three kinds of text, and three tables from the TOML files.

    `mix` holds proportions, for example of the languages. `groups` holds groups of similar classes. `classes` holds the
    settings of each class, by class code.
    """

    titles: TemplateTable
    ambiguous_titles: TemplateTable
    sentences: TemplateTable
    mix: Toml
    groups: Toml
    classes: Toml


def fixed_numbers(draws: Draws, size: int) -> Integers:
    """Draw the random numbers that choose the item, brand, colour and so on of `size` products (see `Products.fixed`)."""
    return draws.below(MOST_CHOICES, (size, len(_FIXED_SLOTS)))


def read_vocabulary() -> Vocabulary:
    """Read the words in `shared_words.toml` and `classes.toml`, and compile their templates."""
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
    """Return each title pattern followed by each ending, but not two that have the same fixed slot, {year} or {person}."""
    unique_slots = {*_FIXED_SLOTS, "year", "person"}
    return [
        head + tail for head, tail in product(heads, tails) if not _slots(head) & _slots(tail) & unique_slots
    ]


def _slots(template: str) -> set[str]:
    return {slot for _, slot, _, _ in Formatter().parse(template) if slot}


def _class_pools(own: Toml, words: Toml, groups: list[Toml], names: list[str]) -> Pools:
    """Return the words for the slots {brand}, {item} and {detail} in texts about one class.

    Most are words of the class itself. The others are made-up brands, and items and details of the groups of similar classes.
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
    """Return the words for the slots that are the same in every language, such as numbers, sizes and made-up names."""
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
    """The single list of the phrases for all slots and literals. If two slots have the same words, they share one range."""

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

    `templates` and `pools` have one entry for each class and language: its templates, and the words for the slots in them.
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
    """Yield (start, size, position in `_FIXED_SLOTS` or -1) for each slot and literal of a template.

    `start` and `size` are the range of its words in `phrases`.
    """
    for literal, slot, _, _ in Formatter().parse(template):
        if literal:
            yield (*phrases.range_of([literal]), -1)
        if slot:
            fixed = _FIXED_SLOTS.index(slot) if slot in _FIXED_SLOTS else -1
            yield (*phrases.range_of(pools[slot]), fixed)
