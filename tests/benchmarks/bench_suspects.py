"""How many of the products that a model suspects have a wrong label, where the wrong labels are known: they are put there."""

from unittest.mock import patch

import numpy as np
from bench_ground import Ground, prepared_ground
from bench_measure import Report

from db.source.synthetic.texts import TextWriter
from listeners.snapshot.balance import multiplicities
from listeners.training import model
from listeners.training.suspects import find_suspects

STAGE = "suspects"
SEED = 42
WRONG = 0.05  # share of the labels that are replaced by another class, drawn at random
TOP = 50


def run(rows: int) -> Report:
    """Replace some labels, train a model on all products, and look at its first suspects.

    Generated data have wrong labels of their own: some texts describe another class. Here each text describes the product's class.
    """
    with (
        patch.object(TextWriter, "_topics", lambda _self, classes: classes),
        prepared_ground(rows) as ground,
    ):
        return _measure(ground)


def _measure(ground: Ground) -> Report:
    rows = ground.training_rows()
    right = rows["prdtypecode"].to_numpy().astype(np.int64)
    random = np.random.default_rng(SEED)
    classes = np.unique(right)
    is_wrong = random.random(len(right)) < WRONG
    others = classes[
        (np.searchsorted(classes, right) + random.integers(1, len(classes), len(right))) % len(classes)
    ]
    labels = np.where(is_wrong, others, right)
    copies = multiplicities(rows["productid"].to_numpy(), labels.astype(np.int32), SEED)
    trained = model.fit(rows.to_pandas(), labels, copies, seed=SEED)
    suspected, suggested = find_suspects(labels, trained.out_of_fold, classes)
    found = is_wrong[suspected]
    report = Report()
    report.add(
        STAGE, f"wrong labels among the first {TOP} suspects", 100 * found[:TOP].mean(), "%", at_least=80
    )
    correct = suggested[:TOP] == right[suspected[:TOP]]
    report.add(STAGE, f"of them, the suggested class is right, first {TOP}", 100 * correct.mean(), "%")
    report.add(STAGE, f"wrong labels among all {len(suspected):,} suspects", 100 * found.mean(), "%")
    report.add(
        STAGE, f"of {is_wrong.sum():,} wrong labels, suspected", 100 * found.sum() / is_wrong.sum(), "%"
    )
    return report
