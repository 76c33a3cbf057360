"""Which features and which classifier: the evidence for the choice in `listeners/training/model.py`.

    python tests/benchmarks/model_comparison.py --data DIR [--splits 4] [--repeats 2]

DIR holds X_train.csv and Y_train.csv of the challenge. Products with the same text stay on one side of every split, each
training part is balanced by multiplicities as the snapshots are, and each test part keeps its natural class priors.
Fit times are CPU seconds of features and classifier together, as ratios to the chosen model.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.naive_bayes import ComplementNB
from sklearn.svm import LinearSVC

from db.source.file_names import find_source_file
from listeners.training.features import TfidfBlock, fit_features
from listeners.training.model import DEFAULTS, Hyperparameters, tfidf_blocks
from listeners.training.text import text_cleaner

SEED = 42


@dataclass(frozen=True)
class Candidate:
    """A model to compare; the first of `candidates()` is the chosen one."""

    name: str
    hyperparameters: Hyperparameters = DEFAULTS
    blocks: tuple[str, ...] = ("title_words", "title_chars", "description_words", "description_chars")
    words: tuple[int, int] = (1, 2)
    classifier: Callable[[], object] | None = None
    weighted: bool = True


def candidates() -> Iterator[Candidate]:
    yield Candidate("chosen")
    yield Candidate("title words only", blocks=("title_words",))
    yield Candidate("words, no characters", blocks=("title_words", "description_words"))
    yield Candidate("title only", blocks=("title_words", "title_chars"))
    yield Candidate("no characters of descriptions", blocks=Candidate.blocks[:3])
    yield Candidate("single words", words=(1, 1))
    yield Candidate("characters of titles 3-5", replace(DEFAULTS, title_char_ngram_min=3))
    yield Candidate("characters of titles 2-6", replace(DEFAULTS, title_char_ngram_max=6))
    for shortest, longest in ((2, 5), (3, 5), (4, 5), (4, 4), (5, 5)):
        lengths = {"description_char_ngram_min": shortest, "description_char_ngram_max": longest}
        yield Candidate(f"characters of descriptions {shortest}-{longest}", replace(DEFAULTS, **lengths))
    for c in (0.05, 0.1, 0.4, 0.8):
        yield Candidate(f"C = {c}", replace(DEFAULTS, svm_c=c))
    for tol in (0.3, 0.01, 1e-4):
        yield Candidate(f"tol = {tol}", replace(DEFAULTS, svm_tol=tol, svm_max_iter=10_000))
    yield Candidate("hinge loss", replace(DEFAULTS, svm_loss="hinge", svm_max_iter=10_000))
    yield Candidate("min_df = 1", replace(DEFAULTS, min_df=1))
    yield Candidate("min_df = 5", replace(DEFAULTS, min_df=5))
    for limit in (10_000, 50_000, 150_000):
        yield Candidate(f"max_features = {limit}", replace(DEFAULTS, max_features=limit))
    yield Candidate("tf, not 1 + log(tf)", replace(DEFAULTS, sublinear_tf=False))
    yield Candidate("natural priors in training", weighted=False)
    yield Candidate("ComplementNB", classifier=lambda: ComplementNB(alpha=0.1))
    yield Candidate("SGD, hinge", classifier=lambda: SGDClassifier(alpha=1e-5, random_state=SEED))
    yield Candidate("LogisticRegression", classifier=lambda: LogisticRegression(C=3, max_iter=100))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--splits", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)  # a candidate that is cut short is judged as it is

    texts, labels = read(arguments.data)
    folds = grouped_folds(texts, labels, arguments.splits, arguments.repeats)
    print(f"{len(labels)} products, {len(folds)} grouped folds")
    print(f"{'candidate':32} {'weighted F1':>11} {'+-':>7} {'macro F1':>9} {'fit':>6}")
    chosen: pd.DataFrame | None = None
    for candidate in candidates():
        scores = pd.DataFrame([score(candidate, texts, labels, *fold) for fold in folds])
        chosen = scores if chosen is None else chosen
        # Standard deviation over folds of the difference to the chosen one: folds differ more than candidates do.
        spread = (scores["weighted"] - chosen["weighted"]).std()
        ratio = scores["seconds"].sum() / chosen["seconds"].sum()
        means = scores.mean()
        print(
            f"{candidate.name:32} {means['weighted']:11.4f} {spread:7.4f} {means['macro']:9.4f} {ratio:6.2f}",
            flush=True,
        )
    print(f"fit 1.00 = {chosen['seconds'].mean():.2f} CPU seconds")


def read(folder: Path) -> tuple[pd.DataFrame, np.ndarray]:
    products = pd.read_csv(
        find_source_file(folder, "X_train.csv"), index_col=0, keep_default_na=False, na_values=[""]
    )
    labels = pd.read_csv(find_source_file(folder, "Y_train.csv"), index_col=0)["prdtypecode"]
    return text_cleaner().transform(products), labels.loc[products.index].to_numpy(np.int64)


def grouped_folds(texts: pd.DataFrame, labels: np.ndarray, splits: int, repeats: int) -> list[tuple]:
    joined = (texts["designation"] + " " + texts["description"]).str.replace(r"\W+", " ", regex=True)
    groups = pd.factorize(joined.str.strip())[0]
    return [
        fold
        for repeat in range(repeats)
        for fold in StratifiedGroupKFold(splits, shuffle=True, random_state=repeat).split(
            texts, labels, groups
        )
    ]


def score(
    candidate: Candidate, texts: pd.DataFrame, labels: np.ndarray, train: np.ndarray, test: np.ndarray
) -> dict:
    multiplicities = balance(labels[train]) if candidate.weighted else np.ones(len(train), np.int64)
    started = time.process_time()
    union, features = fit_features(texts.iloc[train], multiplicities, blocks(candidate))
    classifier = candidate.classifier() if candidate.classifier else svm(candidate.hyperparameters)
    classifier.fit(features, labels[train], sample_weight=multiplicities)
    seconds = time.process_time() - started
    predicted = classifier.predict(union.transform(texts.iloc[test]))
    f1 = {
        average: f1_score(labels[test], predicted, average=average, zero_division=0.0)
        for average in ("weighted", "macro")
    }
    return f1 | {"seconds": seconds}


def balance(labels: np.ndarray) -> np.ndarray:
    """Copies of each row, so that every class has as many as the largest: floor(M / n), and one more to M mod n rows."""
    frame = pd.Series(labels)
    sizes = frame.map(frame.value_counts()).to_numpy()
    largest = sizes.max()
    return largest // sizes + (frame.groupby(labels).cumcount().to_numpy() < largest % sizes)


def svm(chosen: Hyperparameters) -> LinearSVC:
    return LinearSVC(
        C=chosen.svm_c,
        loss=chosen.svm_loss,
        tol=chosen.svm_tol,
        max_iter=chosen.svm_max_iter,
        random_state=SEED,
    )


def blocks(candidate: Candidate) -> list[TfidfBlock]:
    chosen = [block for block in tfidf_blocks(candidate.hyperparameters) if block.name in candidate.blocks]
    for block in chosen:
        if block.vectorizer.analyzer == "word":
            block.vectorizer.set_params(ngram_range=candidate.words)
    return chosen


if __name__ == "__main__":
    main()
