"""Fit a linear SVM class by class, in several processes at once.

A linear SVM of K classes consists of K independent fits, each of one class against all others. liblinear draws its random numbers
from one generator of the process, so two fits in threads would disturb each other, and a result could not be repeated. Two processes
have a generator each. The seed of a fit depends on the class alone, so the coefficients are the same, bit for bit, for any number
of processes.

The other processes read the features from files that they map into memory, so the features are in memory once. As a program, this
module is such a process: `python -m listeners.training.class_fits FOLDER SHARE`.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import psutil
from scipy import sparse
from sklearn.svm import LinearSVC

_Ints = npt.NDArray[np.int64]

EVERYTHING: Final = -1  # as a fold: the fit on all rows
_ARRAYS: Final = ("data", "indices", "indptr", "shape", "labels", "weights", "folds")
_ORPHANED: Final = os.EX_SOFTWARE
_BYTES_PER_VALUE: Final = 28
_WORTH_A_PROCESS: Final = 2_000_000  # values: the features of some 10,000 products, which take seconds


@dataclass(frozen=True)
class Problem:
    """What is to be fitted: one classifier on all rows, and one for each fold on the rows that are not in the fold.

    Attributes:
        matrix: shape (n, m), float64.
        labels: shape (n,), int64.
        weights: weight of each row, shape (n,), int64.
        folds: fold of each row, shape (n,), int64, at least 0.
        options: the arguments of LinearSVC; `random_state` is the seed.
        fold_tol: `tol` of the fits of the folds. They may be less exact, because no prediction comes from them.
    """

    matrix: sparse.csr_array
    labels: _Ints
    weights: _Ints
    folds: _Ints
    options: Mapping[str, Any]
    fold_tol: float

    def fits(self) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
        """Yield each fold, EVERYTHING first, and the rows of its fit."""
        yield EVERYTHING, np.ones(len(self.labels), np.bool_)
        for fold in np.unique(self.folds).tolist():
            yield fold, self.folds != fold


def suitable_processes(matrix: sparse.csr_array) -> int:
    """Return how many processes should fit classifiers on these features: as many as cores and memory allow, at least 1.

    Few features are fitted faster than another process starts. Each process holds a copy of the rows of a fold (12 bytes a value), and
    liblinear's own copy (16 bytes a value). All processes together may take half of the memory that is available.
    """
    if matrix.nnz < _WORTH_A_PROCESS:
        return 1
    memory = psutil.virtual_memory().available
    with suppress(OSError, ValueError):  # a container's own limit; "max" if there is none
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()) - used)
    return max(1, min(len(os.sched_getaffinity(0)), int(memory / 2 / (_BYTES_PER_VALUE * matrix.nnz))))


def fit_classes(problem: Problem, *, processes: int) -> dict[int, LinearSVC]:
    """Fit all classes, and return the classifier of EVERYTHING and of each fold.

    A fold without which fewer than two classes are left has no classifier.

    Args:
        problem: what to fit.
        processes: number of processes, this one included, at least 1.

    Raises:
        MemoryError: the operating system has ended one of the processes, most likely for lack of memory.
    """
    with ExitStack() as stack:
        helpers = []
        if processes > 1:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="rakuten-")))
            _write(problem, folder)
            # The end of the `with` block closes the pipe to each process, and a process whose pipe is closed ends.
            helpers = [
                stack.enter_context(
                    subprocess.Popen(_command(folder, share, processes), stdin=subprocess.PIPE)
                )
                for share in range(1, processes)
            ]
        found = _fit_share(problem, 0, processes)
        for share, helper in enumerate(helpers, start=1):
            if helper.wait():
                raise MemoryError(f"a process that fits classes ended with exit code {helper.returncode}")
            with np.load(_result(folder, share)) as stored:
                found |= {_key(name): stored[name] for name in stored}
    return {
        fold: classifier
        for fold, rows in problem.fits()
        if (classifier := _assemble(problem, found, fold, np.unique(problem.labels[rows]))) is not None
    }


def _fit_share(
    problem: Problem, share: int, processes: int
) -> dict[tuple[int, int], npt.NDArray[np.float64]]:
    """Return the coefficients, the intercept and the number of iterations of each fit of every class of this share."""
    found = {}
    for fold, rows in problem.fits():
        known = np.unique(problem.labels[rows])
        if len(known) < 2:  # noqa: PLR2004  there is nothing to tell apart
            continue
        fitted = known[1:] if len(known) == 2 else known  # noqa: PLR2004  two classes need one fit
        matrix = problem.matrix if rows.all() else problem.matrix[rows]
        labels, weights = problem.labels[rows], problem.weights[rows]
        for position in range(share, len(fitted), processes):
            code = int(fitted[position])
            arguments = {**problem.options, "random_state": _seed(int(problem.options["random_state"]), code)}
            if fold != EVERYTHING:
                arguments["tol"] = problem.fold_tol
            classifier = LinearSVC(**arguments).fit(matrix, labels == code, sample_weight=weights)
            found[fold, code] = np.concatenate(
                [classifier.coef_[0], classifier.intercept_, [classifier.n_iter_]]
            )
    return found


def _assemble(
    problem: Problem, found: Mapping[tuple[int, int], npt.NDArray[np.float64]], fold: int, known: _Ints
) -> LinearSVC | None:
    if len(known) < 2:  # noqa: PLR2004
        return None
    values = np.array([found[fold, code] for code in known.tolist() if (fold, code) in found])
    classifier = LinearSVC(**problem.options)
    classifier.classes_ = known
    classifier.coef_, classifier.intercept_ = np.ascontiguousarray(values[:, :-2]), values[:, -2].copy()
    classifier.n_iter_ = int(values[:, -1].max())
    classifier.n_features_in_ = classifier.coef_.shape[1]
    return classifier


def _seed(seed: int, code: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {code}".encode()).digest()[:4]) >> 1


def _command(folder: Path, share: int, processes: int) -> list[str]:
    return [sys.executable, "-P", "-m", __name__, str(folder), str(share), str(processes)]


def _write(problem: Problem, folder: Path) -> None:
    matrix = problem.matrix
    values = (
        matrix.data,
        matrix.indices,
        matrix.indptr,
        np.array(matrix.shape),
        problem.labels,
        problem.weights,
        problem.folds,
    )
    for name, array in zip(_ARRAYS, values, strict=True):
        np.save(folder / f"{name}.npy", array)
    arguments = {"options": dict(problem.options), "fold_tol": problem.fold_tol}
    (folder / "options.json").write_text(json.dumps(arguments), encoding="utf-8")


def _read(folder: Path) -> Problem:
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
    arguments = json.loads((folder / "options.json").read_text(encoding="utf-8"))
    shape = tuple(arrays["shape"].tolist())
    matrix = sparse.csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
    return Problem(matrix, arrays["labels"], arrays["weights"], arrays["folds"], **arguments)


def _result(folder: Path, share: int) -> Path:
    return folder / f"share_{share}.npz"


def _key(name: str) -> tuple[int, int]:
    fold, _, code = name.partition(" ")
    return int(fold), int(code)


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # sys.stdin.read would hold a lock that Python wants when it ends
    os._exit(_ORPHANED)


def main() -> None:
    """Fit one share of the classes of the problem in a folder, and write the result there."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    folder, share, processes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    found = _fit_share(_read(folder), share, processes)
    arrays: dict[str, Any] = {f"{fold} {code}": values for (fold, code), values in found.items()}
    np.savez(_result(folder, share), **arrays)


if __name__ == "__main__":
    main()
