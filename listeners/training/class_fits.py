"""Fit a linear SVM on all rows, and one without each fold, in several processes at once.

A linear SVM of K classes consists of K independent fits, each of one class against all others. liblinear draws its random numbers
from one generator of the process, so two fits in threads would disturb each other, and a result could not be repeated. Two processes
have a generator each. The work is divided into tasks, each one call of liblinear, whose seed does not depend on the number of
processes. So the coefficients are the same, bit for bit, for any number.

The other processes read the features from files that they map into memory, so the features are in memory once. As a program, this
module is such a process: `python -m listeners.training.class_fits FOLDER SHARE PROCESSES`.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import psutil
from scipy import sparse
from sklearn.svm import LinearSVC

_Ints = npt.NDArray[np.int64]

EVERYTHING: Final = -1  # as a fold: the fit on all rows
ALL: Final = -1  # as the code of a class: all classes
_CLASS_ALONE: Final = (
    1.25  # cost of a class with the copying of its rows, as a multiple of its cost among all classes
)
_ARRAYS: Final = ("data", "indices", "indptr", "shape", "labels", "weights", "folds")
_ORPHANED: Final = os.EX_SOFTWARE
_BYTES_PER_VALUE: Final = 28
_WORTH_A_PROCESS: Final = 2_000_000  # values: the features of some 10,000 products, which take seconds


@dataclass(frozen=True)
class Problem:
    """What must be fitted: one classifier on all rows, and one for each fold on the rows that are not in the fold.

    Attributes:
        matrix: shape (n, m), float64.
        labels: shape (n,), int64.
        weights: weight of each row, shape (n,), int64.
        folds: fold of each row, shape (n,), int64, at least 0.
        options: the arguments of LinearSVC; `random_state` is the seed.
    """

    matrix: sparse.csr_array
    labels: _Ints
    weights: _Ints
    folds: _Ints
    options: Mapping[str, Any]

    def rows(self, fold: int) -> npt.NDArray[np.bool_]:
        """Return which rows the fit of a fold gets, shape (n,)."""
        rows: npt.NDArray[np.bool_] = self.folds != fold  # EVERYTHING is no row's fold
        return rows

    def known(self, fold: int) -> _Ints:
        """Return the classes of these rows."""
        return np.unique(self.labels[self.rows(fold)])


class _Task(NamedTuple):
    """One call of liblinear: a class against all others, or all classes, each against all others (code ALL)."""

    fold: int
    code: int


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
        found = _fit(problem, _share(problem, 0, processes))
        for share, helper in enumerate(helpers, start=1):
            if helper.wait():
                raise MemoryError(f"a process that fits classes ended with exit code {helper.returncode}")
            with np.load(_result(folder, share)) as stored:
                found |= {_Task(*map(int, name.split())): stored[name] for name in stored}
    return {
        fold: _assemble(problem, found, fold) for fold in dict.fromkeys(task.fold for task in _tasks(problem))
    }


def _tasks(problem: Problem) -> list[_Task]:
    """Return the tasks of all processes.

    The fit on all rows is divided into its classes. The fit of a fold is not: each call of liblinear copies all rows, which takes
    a fifth of the time of a class.
    """
    everything = problem.known(EVERYTHING)
    codes = everything[1:] if len(everything) == 2 else everything  # noqa: PLR2004  two classes need one fit
    folds = [fold for fold in np.unique(problem.folds).tolist() if len(problem.known(fold)) > 1]
    return [_Task(EVERYTHING, code) for code in codes.tolist()] + [_Task(fold, ALL) for fold in folds]


def _share(problem: Problem, share: int, processes: int) -> list[_Task]:
    """Return the tasks of one process: the longest task goes to the process that has least to do, then the next longest."""
    cost = {
        task: int(problem.rows(task.fold).sum())
        * (_CLASS_ALONE if task.code != ALL else len(problem.known(task.fold)))
        for task in _tasks(problem)
    }
    loads = [0.0] * processes
    mine = []
    for task in sorted(cost, key=lambda task: -cost[task]):
        least = loads.index(min(loads))
        loads[least] += cost[task]
        if least == share:
            mine.append(task)
    return mine


def _fit(problem: Problem, tasks: Sequence[_Task]) -> dict[_Task, npt.NDArray[np.float64]]:
    """Return the coefficients, the intercept and the number of iterations of each task, shape (n_fits, m + 2)."""
    found = {}
    for task in tasks:
        rows = problem.rows(task.fold)
        matrix = problem.matrix if rows.all() else problem.matrix[rows]
        labels, arguments = problem.labels[rows], dict(problem.options)
        if task.code != ALL:
            labels = labels == task.code
            arguments["random_state"] = _seed(int(arguments["random_state"]), task.code)
        fitted = LinearSVC(**arguments).fit(matrix, labels, sample_weight=problem.weights[rows])
        iterations = np.full(len(fitted.coef_), fitted.n_iter_)
        found[task] = np.column_stack([fitted.coef_, fitted.intercept_, iterations])
    return found


def _assemble(problem: Problem, found: Mapping[_Task, npt.NDArray[np.float64]], fold: int) -> LinearSVC:
    values = np.vstack([found[task] for task in _tasks(problem) if task.fold == fold])
    classifier = LinearSVC(**problem.options)
    classifier.classes_ = problem.known(fold)
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
    (folder / "options.json").write_text(json.dumps(dict(problem.options)), encoding="utf-8")


def _read(folder: Path) -> Problem:
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
    options = json.loads((folder / "options.json").read_text(encoding="utf-8"))
    shape = tuple(arrays["shape"].tolist())
    matrix = sparse.csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
    return Problem(matrix, arrays["labels"], arrays["weights"], arrays["folds"], options)


def _result(folder: Path, share: int) -> Path:
    return folder / f"share_{share}.npz"


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # sys.stdin.read would hold a lock that Python wants when it ends
    os._exit(_ORPHANED)


def main() -> None:
    """Fit one share of the classes of the problem in a folder, and write the result there."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    folder, share, processes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    problem = _read(folder)
    found = _fit(problem, _share(problem, share, processes))
    arrays: dict[str, Any] = {f"{task.fold} {task.code}": values for task, values in found.items()}
    np.savez(_result(folder, share), **arrays)


if __name__ == "__main__":
    main()
