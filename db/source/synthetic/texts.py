"""Write random titles and descriptions for synthetic products, one chunk of products at a time."""

from html.entities import codepoint2name
from typing import Final

import numpy as np
import numpy.typing as npt

from db.source.synthetic.draws import Draws, Integers
from db.source.synthetic.vocabulary import (
    CODES,
    LANGUAGES,
    MOST_CHOICES,
    Products,
    Vocabulary,
    fixed_numbers,
)
from shared.categories import CATEGORIES

SHORTEST_TITLE: Final = 11
LONGEST_TITLE: Final = 250
LONGEST_DESCRIPTION: Final = 12_000

# The HTML markup of descriptions. Each entry has four values: the percentage of the descriptions that have this markup, the
# markup before the text, the markup between two sentences, and the markup after the text.
_LAYOUTS: Final = (
    (34, "", " ", ""),
    (24, "", "<br />", ""),
    (14, "<p>", "</p><p>", "</p>"),
    (10, "<b>Description :</b><br /><ul><li>", "</li><li>", "</li></ul>"),
    (10, "", " - ", ""),
    (5, "<p>", "<br />\n", "</p>"),
)
_ENTITIES: Final = {code: f"&{name};" for code, name in codepoint2name.items() if code >= ord("\xa0")}
_ESCAPES: Final = {ord("&"): "&amp;", ord("'"): "&#39;", ord('"'): "&#34;"}
# The ways in which descriptions write special characters. Each entry has three parts: the percentage of the descriptions that
# are written in this way, the replacement of each special character, and the kind of space before a colon.
_ENCODINGS: Final[tuple[tuple[int, dict[int, str], str], ...]] = (
    (50, {}, " "),
    (40, _ESCAPES, " "),
    (10, _ESCAPES | _ENTITIES, "&nbsp;"),
)
_TITLE_CASES: Final = ((65, str.title), (27, str), (5, str.upper), (3, str.lower))
_ESCAPED_TITLES = 0.06
# Each sentence of a description uses one template of a list. The template of the first sentence is random. From each sentence
# to the next, the index in the list grows by a step, modulo the length of the list. Each description has one of the steps
# below. All steps are primes greater than the length of the list, so a description uses every template before it repeats one.
_STEPS: Final = np.array([101, 103, 107, 109, 113, 127])


class TextWriter:
    """A writer of random product texts. Methods take the class of each product as its position in the list `CODES`."""

    def __init__(self, vocabulary: Vocabulary, draws: Draws) -> None:
        self._vocabulary = vocabulary
        self._draws = draws
        self._languages = _language_table(vocabulary)
        self._neighbours, self._misplaced = _neighbour_table(vocabulary)
        self._no_description = np.array([vocabulary.classes[str(code)]["no_description"] for code in CODES])

    def write(self, classes: Integers) -> tuple[list[str], list[str | None]]:
        """Return the titles and descriptions of products of these classes. Some products have no description (None)."""
        topics, fixed = self._topics(classes), fixed_numbers(self._draws, len(classes))
        percent, title_language, description_language = self._languages
        row = self._draws.choose(percent, len(classes))
        titles = self._titles(Products(topics, title_language[row], fixed))
        self._repeat_some(titles, classes, self._vocabulary.mix["repeated_titles"])
        described = np.flatnonzero(~self._draws.happens(self._no_description[classes], len(classes)))
        texts = self._descriptions(Products(topics, description_language[row], fixed).take(described))
        self._repeat_some(texts, classes[described], self._vocabulary.mix["repeated_descriptions"])
        descriptions: list[str | None] = [None] * len(classes)
        for position, text in zip(described.tolist(), texts, strict=True):
            descriptions[position] = text
        return titles, descriptions

    def _topics(self, classes: Integers) -> Integers:
        """Return, for each product, the class that its text shall describe, as a position in `CODES`.

        The texts of some products describe a different class, mostly one that is similar to the product's own class. This
        imitates real data, in which sellers sometimes choose a wrong class.
        """
        size = len(classes)
        counts = np.array([CATEGORIES[code].training_rows for code in CODES])
        anything = self._draws.choose(counts, size)
        choices = np.count_nonzero(self._neighbours >= 0, axis=1)
        near = self._neighbours[classes, self._draws.below(choices[classes], size)]
        topics = np.where(self._draws.happens(self._misplaced[classes], size), near, classes)
        return np.where(self._draws.happens(self._vocabulary.mix["mislabelled"], size), anything, topics)

    def _titles(self, products: Products) -> list[str]:
        size = len(products.topic)
        choice = self._draws.below(MOST_CHOICES, size)
        clear = self._vocabulary.titles.draw(self._draws, products, choice)
        vague = self._vocabulary.ambiguous_titles.draw(self._draws, products, choice)
        is_vague = self._draws.happens(self._vocabulary.mix["ambiguous_titles"], size)
        cases = self._draws.choose(np.array([percent for percent, _ in _TITLE_CASES]), size)
        escaped = self._draws.happens(_ESCAPED_TITLES, size)
        titles = []
        for position, case in enumerate(cases.tolist()):
            title = _TITLE_CASES[case][1](vague[position] if is_vague[position] else clear[position])
            if len(title) < SHORTEST_TITLE:
                title = f"{title} - {vague[position]}"
            titles.append((title.translate(_ESCAPES) if escaped[position] else title)[:LONGEST_TITLE])
        return titles

    def _descriptions(self, products: Products) -> list[str]:
        size = len(products.topic)
        counts = self._sentence_counts(size)
        ends = np.cumsum(counts)
        starts = ends - counts
        product = np.repeat(np.arange(size), counts)
        nth = np.arange(len(product)) - starts[product]
        first = self._draws.below(MOST_CHOICES, size)
        step = _STEPS[self._draws.below(len(_STEPS), size)]
        choice = first[product] + nth * step[product]
        sentences = self._vocabulary.sentences.draw(self._draws, products.take(product), choice)
        layouts = self._draws.choose(np.array([percent for percent, *_ in _LAYOUTS]), size)
        encodings = self._draws.choose(np.array([percent for percent, *_ in _ENCODINGS]), size)
        rows = np.column_stack([starts, ends, layouts, encodings]).tolist()
        return [_lay_out(sentences[start:end], layout, encoding) for start, end, layout, encoding in rows]

    def _sentence_counts(self, size: int) -> Integers:
        percent, fewest, most = np.array(self._vocabulary.mix["sentences"]).T
        row = self._draws.choose(percent, size)
        counts: Integers = fewest[row] + self._draws.below((most - fewest + 1)[row], size)
        return counts

    def _repeat_some(self, texts: list[str], classes: Integers, share: float) -> None:
        """Replace some texts by texts of earlier products of the same class. `share` is the probability for each text."""
        order = np.argsort(classes, kind="stable")
        start_of_class = np.searchsorted(classes[order], classes[order])
        earlier = np.arange(len(order)) - start_of_class
        sources = start_of_class + self._draws.below(np.maximum(earlier, 1), len(order))
        repeats = self._draws.happens(share, len(order)) & (earlier > 0)
        for position, source in zip(order[repeats].tolist(), order[sources[repeats]].tolist(), strict=True):
            texts[position] = texts[source]


def _lay_out(sentences: list[str], layout: int, encoding: int) -> str:
    _, before, between, after = _LAYOUTS[layout]
    _, translation, space_before_colon = _ENCODINGS[encoding]
    text = "\n".join([sentence[:1].upper() + sentence[1:] for sentence in sentences])
    if translation:
        text = text.translate(translation).replace(" :", f"{space_before_colon}:")
    return (before + text.replace("\n", between) + after)[:LONGEST_DESCRIPTION]


def _language_table(vocabulary: Vocabulary) -> tuple[Integers, Integers, Integers]:
    """Return three arrays, with one entry for each pair of languages in the vocabulary file.

    They are: the percentage of the products with this pair, the language of their titles, and the language of their
    descriptions. For example, the pair "fr_en" means a French title and an English description.
    """
    percents = vocabulary.mix["languages"]
    pairs = [(name.split("_")[0], name.split("_")[-1]) for name in percents]
    positions = np.array(
        [[LANGUAGES.index(title), LANGUAGES.index(description)] for title, description in pairs]
    )
    return np.array(list(percents.values())), positions[:, 0], positions[:, 1]


def _neighbour_table(vocabulary: Vocabulary) -> tuple[Integers, npt.NDArray[np.float64]]:
    """Return two arrays with one row for each class: the similar classes, and the share of products with a wrong text.

    A wrong text describes a similar class instead of the product's own class. The first array holds positions in `CODES`. Its
    shorter rows end with -1, so that all rows have the same length.
    """
    neighbours: list[list[int]] = []
    misplaced = []
    for code in CODES:
        groups = [group for group in vocabulary.groups.values() if code in group["codes"]]
        near = sorted({other for group in groups for other in group["codes"]} - {code})
        neighbours.append([CODES.index(other) for other in near])
        misplaced.append(max(group["misplaced"] for group in groups))
    most = max(map(len, neighbours))
    return np.array([near + [-1] * (most - len(near)) for near in neighbours]), np.array(misplaced)
