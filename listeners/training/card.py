"""Write the model card of a batch's model: what it is for, how good it is, where it errs, what it cost, and how to load it."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
from mlflow.entities import Run

from listeners.cards.document import Card, Cell, Commands, Paragraph, Score, Section, Share, Table, facts
from listeners.cards.sections import drift_section, how_to_check
from listeners.tracking import descriptions
from listeners.training.dataset import TrainingData
from listeners.training.evaluate import confusion_counts
from listeners.training.scores import HoldoutScores
from listeners.training.trainers import FittedModel
from shared.batch import Batch
from shared.categories import category_name
from shared.mlflow_names import Tag, promotion_name

_MEASURED: Final = {
    "f1_score": "F1, weighted by class size",
    "f1_macro": "F1, mean of the classes",
    "accuracy": "Accuracy",
    "precision": "Precision, weighted",
    "recall": "Recall, weighted",
}
_CONFUSIONS: Final = 10
_SUSPECTS: Final = 10
_TITLE_LENGTH: Final = 80


@dataclass
class Cost:
    """How long the steps of a training took, by the clock on the wall. Two trainings differ in it, so it is no metric of the run."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure a block as a step."""
        began = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began

    @staticmethod
    def peak_megabytes() -> float:
        """Return the most memory that this process, or the largest of its children, has held so far."""
        most = max(
            resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        return most / (
            1 << 20 if sys.platform == "darwin" else 1 << 10
        )  # macOS counts bytes, Linux kilobytes


@dataclass(frozen=True)
class ModelFacts:
    """What the card of a model says besides its batch.

    Attributes:
        dataset: the MLflow run of the dataset.
        data: the training products.
        model: the fitted model.
        trainer: the setting TRAINER.
        fitted_by: the engine in words.
        scores: on the holdout.
        holdout: the holdout products, in the order of `scores`.
        suspects: all suspected labels, the most suspicious first; None without out-of-fold probabilities.
        drift: the list in drift.json.
        cost: of this attempt.
    """

    dataset: Run
    data: TrainingData
    model: FittedModel
    trainer: str
    fitted_by: str
    scores: HoldoutScores
    holdout: pd.DataFrame
    suspects: pd.DataFrame | None
    drift: list[dict[str, Any]]
    cost: Cost


def model_card(batch: Batch, known: ModelFacts, registered_model: str) -> Card:
    """Return the card of a batch's model. `registered_model` is the name in MLflow's registry."""
    metrics = {**known.scores.metrics, **known.model.metrics}
    return Card(
        title=f"Model card: model_{batch.name}",
        introduction=[
            Paragraph(descriptions.model_run(batch, known.dataset, metrics)),
            Paragraph(descriptions.VERDICT_PENDING.format(promotion_name(1))),
        ],
        sections=[
            Section("Intended use", [Paragraph(_USE)]),
            _metrics(known.scores.metrics),
            _how_to_load(registered_model),
            how_to_check(batch),
            _confusions(known.scores, known.holdout),
            _calibration(known.scores),
            _classes(known.scores),
            drift_section(known.drift),
            *([_suspects(known.suspects)] if known.suspects is not None else []),
            _data(known),
            _cost(known.cost),
            Section("Known limits", [Paragraph(_LIMITS)]),
        ],
    )


def _metrics(metrics: dict[str, float]) -> Section:
    rows = [
        (
            label,
            f"{metrics[name]:.4f}",
            f"{metrics[f'{name}_ci_low']:.4f}",
            f"{metrics[f'{name}_ci_high']:.4f}",
        )
        for name, label in _MEASURED.items()
    ]
    return Section("How good it is", [Table(("On the holdout", "Value", "95 % from", "to"), rows)])


def _how_to_load(registered_model: str) -> Section:
    lines = (
        "import mlflow",
        f'model = mlflow.pyfunc.load_model("models:/{registered_model}@champion")  # or /3 for version 3',
        "model.predict(products)  # a DataFrame with designation and description; returns prdtypecode",
    )
    return Section("How to load it", [Commands("\n".join(lines))])


def _confusions(scores: HoldoutScores, holdout: pd.DataFrame) -> Section:
    wrong = pd.DataFrame(
        {"truth": scores.truth, "prediction": scores.prediction, "title": holdout["designation"]}
    )
    wrong = wrong[wrong["truth"] != wrong["prediction"]]
    counts = wrong.groupby(["truth", "prediction"], as_index=False).agg(
        rows=("title", "size"), title=("title", "first")
    )
    counts = counts.sort_values(["rows", "truth", "prediction"], ascending=[False, True, True])[:_CONFUSIONS]
    support = pd.Series(scores.truth).value_counts()
    rows = [
        (named(truth), named(prediction), count, Share(count / int(support[truth])), shortened(title))
        for truth, prediction, count, title in counts[["truth", "prediction", "rows", "title"]].itertuples(
            index=False
        )
    ]
    headers = ("Class", "Predicted as", "Products", "Share of the class", "For example")
    return Section("Most frequent confusions", [Table(headers, rows)])


def _classes(scores: HoldoutScores) -> Section:
    codes = np.union1d(scores.truth, scores.prediction)
    counts = confusion_counts(scores.truth, scores.prediction, codes)
    rows: list[tuple[Cell, ...]] = []
    for code, hits, support, predicted in zip(
        codes.tolist(),
        np.diagonal(counts).tolist(),
        counts.sum(axis=1).tolist(),
        counts.sum(axis=0).tolist(),
        strict=True,
    ):
        shares = (Score(scores.metrics[f"f1_class_{code}"]), _ratio(hits, predicted), _ratio(hits, support))
        rows.append((str(code), category_name(code), support, *shares))
    rows.sort(key=lambda row: row[3].value if isinstance(row[3], Share) else 0)
    return Section(
        "By class, the worst first",
        [Table(("Class", "Name", "Holdout products", "F1", "Precision", "Recall"), rows)],
    )


def _calibration(scores: HoldoutScores) -> Section:
    title = "Calibration and coverage"
    if scores.confidence is None:
        return Section(title, [Paragraph("This model has no probabilities.")])
    metrics = scores.metrics
    said = (
        f"The mean confidence is {metrics['mean_confidence']:.3f} and the accuracy {metrics['accuracy']:.3f}; the expected calibration "
        f"error is {metrics['expected_calibration_error']:.3f}. The true class is among the three likeliest for "
        f"{100 * metrics['top_3_accuracy']:.1f} % of the products."
    )
    rows = [
        (
            f"{100 * entry['target']:.0f} %",
            "not reached" if entry["threshold"] is None else f"{entry['threshold']:.3f}",
            Share(entry["coverage"]),
            "" if entry["accuracy"] is None else f"{100 * entry['accuracy']:.1f} %",
            ""
            if entry["accuracy"] is None
            else f"{100 * entry['accuracy_ci_low']:.1f} to {100 * entry['accuracy_ci_high']:.1f} %",
        )
        for entry in scores.coverage
    ]
    headers = ("Accuracy target", "Threshold", "Products above it", "Their accuracy", "95 % interval")
    return Section(title, [Paragraph(said), *([Table(headers, rows)] if rows else [])])


def _suspects(suspects: pd.DataFrame) -> Section:
    columns = ("designation", "prdtypecode", "suggested_prdtypecode", "suggested_probability")
    rows = [
        (shortened(title), named(label), named(suggested), Share(float(probability)))
        for title, label, suggested, probability in zip(
            *(suspects[name].tolist()[:_SUSPECTS] for name in columns), strict=True
        )
    ]
    return Section(
        "Labels that are probably wrong",
        [
            Paragraph(
                f"{len(suspects):,} of the training products. The first are below; `label_suspects.csv` has more, and "
                "`rakuten suspects` lists them for a correction. No label is changed without a person."
            ),
            Table(("Product", "Label", "Probably", "Probability"), rows),
        ],
    )


def _data(known: ModelFacts) -> Section:
    tags, learned = known.dataset.data.tags, known.model
    return Section(
        "Data and parameters",
        [
            facts(
                ("Dataset", str(known.dataset.info.run_name)),
                ("Products", len(known.data.labels)),
                ("Rows with copies", int(known.data.multiplicities.sum())),
                ("SHA-256 of the dataset", tags[Tag.DATASET_SHA256]),
                ("Holdout products", len(known.scores.truth)),
                ("Trainer", known.trainer),
                ("Fitted by", known.fitted_by),
                *((name, str(value)) for name, value in learned.hyperparameters.items()),
                (
                    "SHA-256 of what was learned",
                    learned.digest or "none: two trainings of this trainer may differ",
                ),
            )
        ],
    )


def _cost(cost: Cost) -> Section:
    rows = [(f"Seconds for {name}", f"{seconds:.1f}") for name, seconds in cost.seconds.items()]
    return Section(
        "Cost",
        [
            facts(*rows, ("Peak memory", f"{cost.peak_megabytes():,.0f} MB")),
            Paragraph(
                "These numbers are of this attempt on its machine. Nothing else in this run depends on them."
            ),
        ],
    )


def named(code: Any) -> str:
    """Return the code and the name of a class."""
    return f"{int(code)} {category_name(int(code))}"


def shortened(title: Any) -> str:
    """Return the beginning of a title, in one line."""
    text = " ".join(str(title).split())
    return text if len(text) <= _TITLE_LENGTH else f"{text[: _TITLE_LENGTH - 1]}…"


def _ratio(part: int, whole: int) -> Score:
    return Score(part / whole if whole else 0.0)


_USE: Final = (
    "It proposes the product class of an offer from its title and description. Use its probability to decide which proposals a person "
    "should check. It knows only the classes of its training products, does not look at images, and is no basis for decisions about people."
)
_LIMITS: Final = (
    "All numbers are measured on the holdout: products of the same source files, none of which shares its text with a training product. "
    "Products of another shop, language or time will be predicted worse. Labels can be wrong, those of the holdout too, which limits "
    "every score. A class with few holdout products has a wide interval."
)
