"""Load a model from a folder, and predict with it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.models import Model
from sklearn.calibration import CalibratedClassifierCV

from listeners.serving.fast_path import Probabilities, fast_probabilities
from listeners.training.text import TEXT_COLUMNS
from shared.categories import category_name
from shared.errors import StageError
from shared.hashing import sha256_of

TOP: Final = 3  # classes that an answer names
# What a model predicts when it is loaded: long, short, empty and strange texts, for the comparison with its fast path.
_EXAMPLES: Final = pd.DataFrame(
    [
        ("Piscine gonflable ronde 3 m", None),
        (
            "",
            "<p>Piscine d&#39;&eacute;t&eacute; pour le jardin</p><br/>Jardin, &amp;eacute;t&amp;eacute;, JARDIN",
        ),
        (None, ""),
        ("Le Petit Prince - Édition de poche™ ", "livre roman jeu console figurine " * 50),
        ("1 < 2 & 3 > 2 <3", "&#" + "9" * 5_000 + "; 4 x 9 piles AAA\x00\n\t"),
    ],
    columns=list(TEXT_COLUMNS),
)


@dataclass(frozen=True)
class ModelInfo:
    """What an answer says about the model that gave it.

    Attributes:
        name: the registered model, or the folder or URI that the server was started with.
        version: the version of the registered model; None if the model is not a registered one.
        batch: name of the batch that the model was trained on; None if it is not known.
        sha256: digest of all files of the model (`files_sha256`).
    """

    name: str
    version: int | None
    batch: str | None
    sha256: str


class Guess(NamedTuple):
    """One of the classes that a product may have. The probability is None if the model has none."""

    prdtypecode: int
    category: str
    probability: float | None


class ServedModel:
    """A loaded model. Its methods may be called from any thread.

    Raises:
        StageError: the folder holds no model, or a model that only a pickle file describes.
    """

    def __init__(self, folder: Path, info: ModelInfo) -> None:
        self.info = info
        self._model = _load(folder)
        self._has_probabilities = hasattr(self._model, "predict_proba")
        # The class of the highest probability is what such a model predicts, so one call gives both.
        self._is_calibrated = self._has_probabilities and isinstance(self._model[-1], CalibratedClassifierCV)
        self._probabilities = self._fast_or_own()
        # The first prediction takes long, because scikit-learn makes dictionaries of the vocabularies.
        self.guesses(_EXAMPLES)

    def guesses(self, products: pd.DataFrame) -> list[list[Guess]]:
        """Return the most probable classes of each product, up to `TOP`, the most probable first.

        The first guess is what the model's own `predict` returns. A model without probabilities has one guess for each product.

        Args:
            products: shape (n, any), n > 0, with the columns designation and description, which may be None.
        """
        if self._probabilities is None:
            return [[_guess(code, None)] for code in self._model.predict(products).tolist()]
        probabilities = self._probabilities(products)
        first = probabilities.argmax(axis=1) if self._is_calibrated else self._positions(products)
        ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, : TOP + 1]
        return [
            self._ranked(row, [one, *(other for other in others if other != one)][:TOP])
            for row, one, others in zip(probabilities, first.tolist(), ranked.tolist(), strict=True)
        ]

    def _fast_or_own(self) -> Probabilities | None:
        if not self._has_probabilities:
            return None
        own: Probabilities = self._model.predict_proba
        return (fast_probabilities(self._model, _EXAMPLES) if self._is_calibrated else None) or own

    def _positions(self, products: pd.DataFrame) -> npt.NDArray[np.intp]:
        positions: npt.NDArray[np.intp] = np.searchsorted(self._model.classes_, self._model.predict(products))
        return positions

    def _ranked(self, probabilities: npt.NDArray[np.float64], positions: Sequence[int]) -> list[Guess]:
        classes = self._model.classes_
        return [_guess(int(classes[position]), float(probabilities[position])) for position in positions]


def files_sha256(digests: dict[str, str]) -> str:
    """Return one digest for the files of a model.

    Args:
        digests: SHA-256 of each file, by its path in the model's folder.
    """
    lines = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()


def digests_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in a folder, by its path in the folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}


def _guess(code: int, probability: float | None) -> Guess:
    return Guess(code, category_name(code), probability)


def _load(folder: Path) -> Any:
    """Load the scikit-learn pipeline in the folder if it is one, so that it can give probabilities; else any MLflow model."""
    try:
        flavors = Model.load(str(folder)).flavors
    except Exception as error:  # of many types, from YAML's to a TypeError, if the file MLmodel is malformed
        raise StageError(f"{folder} holds no MLflow model: {error}") from error
    if (sklearn := flavors.get("sklearn")) is None:
        return mlflow.pyfunc.load_model(str(folder))
    if sklearn.get("serialization_format") != "skops":
        raise StageError(
            f"the model in {folder} is stored as {sklearn.get('serialization_format')}, which can run code when it is loaded",
            remedy="log it with serialization_format='skops'",
        )
    return mlflow.sklearn.load_model(str(folder))
