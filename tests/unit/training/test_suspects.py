import numpy as np
import pandas as pd

from listeners.training import model
from listeners.training.dataset import TrainingData
from listeners.training.suspects import find_suspects, suspects_frame

CLASSES = np.array([10, 40, 60])


def test_a_product_whose_likeliest_confident_class_is_another_is_suspected_and_the_clearest_case_comes_first():
    labels = np.array([10, 10, 10, 40, 40, 60, 60])
    probabilities = np.array(
        [
            [0.9, 0.1, 0.0],
            [0.8, 0.2, 0.0],
            [0.1, 0.85, 0.05],  # certainly 40
            [0.1, 0.9, 0.0],
            [0.75, 0.25, 0.0],  # 10, less certainly
            [0.0, 0.0, 1.0],
            [0.3, 0.3, 0.4],  # uncertain, but of no other class
        ]
    )
    rows, suggested = find_suspects(labels, probabilities, CLASSES)
    assert (rows.tolist(), suggested.tolist()) == ([2, 4], [40, 10])


def test_no_product_is_suspected_where_no_class_is_confident():
    rows, suggested = find_suspects(
        np.array([10, 40, 60]), np.array([[0.5, 0.3, 0.2], [0.3, 0.4, 0.3], [0.1, 0.4, 0.5]]), CLASSES
    )
    assert (len(rows), len(suggested)) == (0, 0)


def test_labels_that_were_changed_on_purpose_are_found():
    rng = np.random.default_rng(0)
    truth = rng.choice(CLASSES, 1000)
    frame = pd.DataFrame(
        {
            "designation": [
                f"mot{code}x{rng.integers(20)} sorte{code}x{rng.integers(20)} lot" for code in truth
            ],
            "description": ["article neuf"] * 1000,
        }
    )
    labels = truth.copy()
    changed = rng.choice(1000, 50, replace=False)
    labels[changed] = CLASSES[(np.searchsorted(CLASSES, truth[changed]) + 1) % 3]
    copies = np.ones(1000, np.int64)
    trained = model.fit(frame, labels, copies, seed=0)
    data = TrainingData(frame, np.arange(1000) + 7, labels, copies)
    found = suspects_frame(data, trained.out_of_fold, CLASSES)
    top = found.head(40)
    assert np.isin(top["productid"] - 7, changed).mean() > 0.9
    assert (top["suggested_prdtypecode"] == truth[top["productid"] - 7]).mean() > 0.9
    assert len(suspects_frame(data, trained.out_of_fold, CLASSES, limit=3)) == 3
