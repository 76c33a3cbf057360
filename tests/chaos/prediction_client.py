"""A client that asks the model server for predictions without a pause, and what must be true of the answers that it gets."""

import json
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from itertools import groupby

from measure import wait_until
from server_process import ModelServer

BODY = json.dumps(
    [{"designation": text} for text in ("Piscine gonflable ronde 3 m", "Un roman de poche", "Peluche")]
)
PAUSE_S = 0.05
PREDICTIONS_S = 60


@dataclass(frozen=True)
class Answer:
    """What became of one request: its status, or None if there was no answer, and who predicted what."""

    asked_at: float
    answered_at: float
    status: int | None
    version: int | None = None
    predictions: str = ""


class Client:
    """Asks for predictions until the end of the block, in a thread of its own."""

    def __init__(self, server: ModelServer):
        self._server = server
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="client of the model server", daemon=True)
        self.answers: list[Answer] = []

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_error):
        self._stopped.set()
        self._thread.join()

    def wait_for_predictions(self, count: int = 3) -> bool:
        """Whether so many more requests were answered with predictions."""
        begun = len(self.answers)
        enough = lambda: sum(answer.status == 200 for answer in self.answers[begun:]) >= count  # noqa: E731
        return wait_until(enough, deadline_s=PREDICTIONS_S) is not None

    def _ask(self) -> None:
        while not self._stopped.wait(PAUSE_S):
            asked_at = time.monotonic()
            answer = self._server.ask("POST", "/predict", BODY)
            moment = time.monotonic()
            if answer is None or answer[0] != 200:
                status = None if answer is None else answer[0]
                self.answers.append(Answer(asked_at, moment, status))
            else:
                said = json.loads(answer[1])
                predictions = json.dumps(said["predictions"])
                self.answers.append(Answer(asked_at, moment, 200, said["model"]["version"], predictions))


def problems(
    answers: list[Answer], moves: tuple[int, int], fault: tuple[float, float], allowed: Collection[int | None]
) -> list[str]:
    """What is wrong with the answers of a run in which the champion moved.

    Args:
        answers: in their order.
        moves: the version of the champion before, and after.
        fault: from when until when requests may fail.
        allowed: the statuses that failed requests may have then; None stands for no answer.
    """
    found = [
        f"a request was answered with {answer.status}, {answer.asked_at - fault[0]:.1f} s after the fault began"
        for answer in answers
        if answer.status != 200
        and (answer.status not in allowed or answer.answered_at < fault[0] or answer.asked_at > fault[1])
    ]
    predicted = [answer for answer in answers if answer.status == 200]
    versions = [version for version, _ in groupby(answer.version for answer in predicted)]
    if versions != list(moves):
        found.append(f"the versions {versions} predicted, one after the other, instead of {list(moves)}")
    if len({(answer.version, answer.predictions) for answer in predicted}) != len(set(versions)):
        found.append("one version predicted different classes for the same products")
    if not allowed and not any(fault[0] <= answer.asked_at <= fault[1] for answer in predicted):
        found.append("nothing was predicted during the fault")
    return found
