import pytest

from db.database import Role
from db.locks import Lock, advisory_lock, lock_until_commit
from shared.errors import OutageError


def test_a_lock_that_stays_taken_is_an_outage_that_names_its_holder(database):
    with (
        database.connect(Role.TRAINING, "rakuten training rollback", autocommit=True) as holder,
        database.connect(Role.SNAPSHOT, "test", autocommit=True) as waiting,
    ):
        [pid] = holder.execute("select pg_backend_pid()").fetchone()
        with advisory_lock(holder, Lock.CHAMPION):
            with (
                pytest.raises(OutageError, match=rf"rakuten training rollback \(backend {pid}\)") as error,
                advisory_lock(waiting, Lock.CHAMPION, "100ms"),
            ):
                pass
            assert f"pg_terminate_backend({pid})" in error.value.remedy
            with advisory_lock(waiting, Lock.FIXED_SETS, "100ms"):
                assert waiting.execute("show lock_timeout").fetchone() == ("0",)
        with advisory_lock(waiting, Lock.CHAMPION, "5s"):
            pass


def test_a_lock_of_a_transaction_has_the_deadline_too_and_ends_with_the_commit(database):
    with (
        database.connect(Role.OWNER, "rakuten upgrade") as holder,
        database.connect(Role.OWNER, "test") as waiting,
    ):
        lock_until_commit(holder, Lock.UPGRADE)
        with pytest.raises(OutageError, match=r"UPGRADE .* rakuten upgrade \(backend \d+\)"):
            lock_until_commit(waiting, Lock.UPGRADE, "100ms")
        holder.commit()
        lock_until_commit(waiting, Lock.UPGRADE, "5s")
        assert waiting.execute("show lock_timeout").fetchone() == ("0",)
