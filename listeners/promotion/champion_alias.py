"""Move the alias `champion`, one process at a time, and keep a history of every move.

MLflow cannot write the alias and a tag together. So a process moves the alias in three steps: write a tag with the pending
move, move the alias, and mark the move as made. If the process stops before the last step, the next process finds the
pending move. If the alias has moved, the next process marks the move as made. If not, it deletes the move.

PostgreSQL holds the lock on the alias, and MLflow does not know the lock. A process may stall, lose its connection and with it
the lock, and then go on while another process moves the alias. So a process asks before each step whether its connection still
exists, and every move has a tag of its own, which no other process overwrites. A pending move whose number is in the history
already is the move of such a process. The next process that holds the lock undoes this move.

PostgreSQL keeps a copy of the moves and notifies `champion_moved`, so that the model server learns of each. A move that could not be
copied is copied by the next process that holds the lock.

If the alias is on another version than the last move says, somebody has moved the alias by hand. The next process records
this move.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import psycopg
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from db.connect import connect
from db.locks import Lock, advisory_lock
from db.sql import query
from listeners.promotion.champion_history import (
    REASON_LENGTH,
    AliasState,
    Move,
    MoveKind,
    read_history,
    tag_of,
)
from listeners.tracking import registry
from listeners.tracking.ownership import identity_of, owners, require_own
from listeners.tracking.runs import Tracking
from shared.mlflow_names import CHAMPION, Tag

_UNRECORDED: Final = "moved outside of rakuten, or before this history began"


class ChampionAlias:
    """The alias `champion` and its history, for the one process that holds the lock on the alias.

    Attributes:
        champion: the model version that has the alias, or None if the alias does not exist.
        history: every move of the alias, oldest first.
        interrupted: True if another process moved the alias and stopped before it marked the move as made.
    """

    def __init__(self, tracking: Tracking, connection: psycopg.Connection[TupleRow]) -> None:
        self._tracking = tracking
        self._connection = connection
        require_own(owners(tracking), identity_of(connection))
        self._numbers: dict[str, int] = dict(connection.execute(query("batches/sealed_batches")).fetchall())
        self.champion = registry.champion(tracking)
        self.history, pending = read_history(tracking)
        self.interrupted = False
        for move in pending:
            self._resolve(move)
        if self._champion_version != self._last_version:
            self._confirm(self._record(MoveKind.BY_HAND, self.champion, _UNRECORDED, "unknown"))
        # What an earlier process could not record, because it stopped or lost its connection, or an older dump was restored.
        self._record_in_postgres(self.history)

    @property
    def state(self) -> AliasState:
        return AliasState(self.history, self._numbers)

    def number_of(self, run: Run) -> int:
        """Return the number of the run's batch in the hash chain, or 0 if PostgreSQL does not know the batch."""
        return self._numbers.get(run.data.tags.get(Tag.BATCH_SEAL, ""), 0)

    def move(self, kind: MoveKind, version: ModelVersion, reason: str, by: str, verdict: str = "") -> Move:
        """Move the alias to `version` and record the move. A `reason` longer than `REASON_LENGTH` characters is cut.

        Raises:
            psycopg.OperationalError: the connection was lost, and with it the lock on the alias.
        """
        pending = self._record(kind, version, reason, by, verdict)
        self._require_lock()
        self._set_alias(int(version.version))
        try:
            made = self._confirm(pending)
        except psycopg.OperationalError:
            # Another process may have deleted the pending move before the alias moved. Write it again: the process that locks
            # the alias next then completes the move, or undoes it if the alias was moved by another process meanwhile.
            self._write(pending)
            raise
        self._record_in_postgres([made])
        return made

    @property
    def _champion_version(self) -> int | None:
        return None if self.champion is None else int(self.champion.version)

    @property
    def _last_version(self) -> int | None:
        return self.history[-1].to_version if self.history else None

    def _require_lock(self) -> None:
        """Raise psycopg.OperationalError if the connection was lost. While the connection exists, it holds the lock."""
        self._connection.execute("select 1")

    def _set_alias(self, version: int | None) -> None:
        client, model = self._tracking.client, self._tracking.registered_model
        if version is None:
            client.delete_registered_model_alias(model, CHAMPION)
        else:
            client.set_registered_model_alias(model, CHAMPION, str(version))
        self.champion = registry.champion(self._tracking)

    def _resolve(self, pending: Move) -> None:
        """Mark the pending move as made if the alias points to the move's `to_version`. Otherwise delete the pending move.

        If the history already has a move with this number, the process that wrote the pending move had lost the lock. Then put
        the alias back to where the last move put it.
        """
        has_moved = pending.to_version == self._champion_version
        lost_lock = bool(self.history) and pending.number <= self.history[-1].number
        if has_moved and not lost_lock:
            self.interrupted = pending.kind is not MoveKind.BY_HAND
            self._confirm(pending)
            return
        if has_moved and self._champion_version != self._last_version:
            self._set_alias(self._last_version)
        client, model = self._tracking.client, self._tracking.registered_model
        client.delete_registered_model_tag(model, tag_of(pending))

    def _record(
        self, kind: MoveKind, version: ModelVersion | None, reason: str, by: str, verdict: str = ""
    ) -> Move:
        """Write a pending move of the alias to `version`."""
        move = Move(
            number=self.history[-1].number + 1 if self.history else 1,
            at=datetime.now(UTC),
            kind=kind,
            from_version=self._last_version,
            to_version=None if version is None else int(version.version),
            run_id=None if version is None else version.run_id,
            batch_seal="" if version is None else self._batch_seal(version),
            verdict=verdict,
            reason=reason[:REASON_LENGTH],
            by=by,
            made=False,
            before_sha256=self.history[-1].sha256() if self.history else "",
        )
        self._require_lock()
        self._write(move)
        return move

    def _batch_seal(self, version: ModelVersion) -> str:
        """Return the seal of the batch of `version`, or "" if no tag of the version or of its run holds a seal.

        If somebody registered a version by hand, only its run has tags.
        """
        run = self._tracking.run_if_any(version.run_id) if version.run_id else None
        tags = version.tags if run is None else run.data.tags | version.tags
        return str(tags.get(Tag.BATCH_SEAL, ""))

    def _confirm(self, pending: Move) -> Move:
        """Mark a pending move as made."""
        self._require_lock()
        made = pending.model_copy(update={"made": True})
        self.history.append(made)
        self._write(made)
        return made

    def _record_in_postgres(self, moves: Sequence[Move]) -> None:
        """Record completed moves in PostgreSQL, which then notifies the model server."""
        records = [{**move.model_dump(mode="json"), "sha256": move.sha256()} for move in moves]
        self._connection.execute(query("champion/record_moves"), {"moves": Jsonb(records)})

    def _write(self, move: Move) -> None:
        client, model = self._tracking.client, self._tracking.registered_model
        client.set_registered_model_tag(model, tag_of(move), move.model_dump_json())


@contextmanager
def champion_alias(tracking: Tracking, conninfo: str) -> Iterator[ChampionAlias]:
    """Lock the alias `champion` and yield it with its history. Other processes that want to move it wait for the lock.

    The lock is an advisory lock of a connection of its own. If this connection is lost, lock the alias again, to complete or
    undo what this process has begun, before the error is raised.

    Args:
        tracking: access to MLflow.
        conninfo: connection string, with any role that may read the batches.

    Raises:
        OutageError: another database owns the registered model.
    """
    try:
        with _locked_alias(tracking, conninfo) as alias:
            yield alias
    except psycopg.OperationalError:
        with _locked_alias(tracking, conninfo):
            pass
        raise


@contextmanager
def _locked_alias(tracking: Tracking, conninfo: str) -> Iterator[ChampionAlias]:
    with (
        connect(conninfo, "rakuten champion", autocommit=True) as connection,
        advisory_lock(connection, Lock.CHAMPION),
    ):
        yield ChampionAlias(tracking, connection)
