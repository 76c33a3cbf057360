"""PostgreSQL records each move of the alias champion once, and notifies the model server when it records the move."""

import json

import psycopg
import pytest
from champion_models import wrong

from db.batches import rows
from db.connect import connect
from db.database import Role
from db.sql import query
from rakuten.provenance.verify_registry import verify_champions
from shared.events import ChampionMoved, Channel, parse
from shared.mlflow_names import CHAMPION, REGISTERED_MODEL


@pytest.fixture
def rings(models):
    """The notifications on champion_moved since the last call."""
    with connect(models.conninfo, "test", autocommit=True) as connection:
        connection.execute(f"listen {Channel.CHAMPION_MOVED}")
        yield lambda: [parse(ring.channel, ring.payload) for ring in connection.notifies(timeout=0.2)]


@pytest.fixture
def reader(database):
    with connect(database.conninfo(Role.READER), "test", autocommit=True) as connection:
        yield connection


@pytest.fixture
def recorded(reader):
    """(kind, from, to) of each recorded move."""
    moves = "select kind, from_version, to_version from champion_moves order by id"
    return lambda: reader.execute(moves).fetchall()


def test_a_promotion_and_a_rollback_ring_when_they_are_recorded(models, rings, recorded, reader):
    models.arrive(1, wrong(0, 50))
    assert rings() == [ChampionMoved(v=1, version=1)]
    models.arrive(2, wrong(0, 40))
    models.roll_back()
    assert rings() == [ChampionMoved(v=1, version=2), ChampionMoved(v=1, version=1)]
    assert recorded() == [("promotion", None, 1), ("promotion", 1, 2), ("rollback", 2, 1)]
    [(version, moved_by, reason)] = reader.execute(
        "select version, moved_by, reason from champion"
    ).fetchall()
    assert (version, moved_by, reason) == (1, "somebody", "labels of week 3 are wrong")


def test_a_model_that_is_not_promoted_does_not_ring(models, three_champions, rings, recorded):
    before = recorded()
    models.arrive(4, wrong(0, 900))
    assert (rings(), recorded()) == ([], before)


def test_a_move_by_hand_and_a_deleted_alias_are_recorded_when_they_are_noticed(
    models, three_champions, rings, recorded
):
    models.move_by_hand(1)
    assert recorded()[-1] == ("promotion", 2, 3)
    models.promote(three_champions[2])
    assert rings() == [ChampionMoved(v=1, version=1)]
    models.client.delete_registered_model_alias(REGISTERED_MODEL, CHAMPION)
    models.arrive(4, wrong(0, 40))
    assert recorded()[-3:] == [("by hand", 3, 1), ("by hand", 1, None), ("promotion", None, 4)]


def test_what_could_not_be_recorded_is_recorded_by_the_next_process(models, three_champions, rings, recorded):
    """As after a kill between MLflow and PostgreSQL, or the restore of an older dump."""
    complete = recorded()
    with psycopg.connect(models.superuser, autocommit=True) as connection:
        connection.execute("delete from champion_moves where to_version > 1")
    models.promote(three_champions[2])
    assert recorded() == complete
    assert rings() == [ChampionMoved(v=1, version=3)]
    models.promote(three_champions[2])
    assert (rings(), recorded()) == ([], complete)


def test_the_champion_has_what_the_training_stage_recorded(models, three_champions, reader):
    result = {"run_id": three_champions[2][0].info.run_id, "manifest_sha256": "ab" * 32}
    with psycopg.connect(models.superuser, autocommit=True) as connection:
        connection.execute("alter table data_loads disable trigger all")
        connection.execute(
            "update data_loads set metadata = metadata || jsonb_build_object('training', jsonb_build_object('result', %s::jsonb))"
            " where batch_name = 'week_3'",
            [json.dumps(result)],
        )
        connection.execute("alter table data_loads enable trigger all")
    champion = "select version, run_id, batch_name, manifest_sha256 from champion"
    assert reader.execute(champion).fetchall() == [(3, result["run_id"], "week_3", "ab" * 32)]
    models.roll_back()
    assert reader.execute(champion).fetchall() == [(2, three_champions[1][0].info.run_id, None, None)]


@pytest.mark.parametrize("role", [Role.LOADER, Role.SNAPSHOT, Role.READER])
def test_only_the_training_role_records_moves(database, role):
    with (
        connect(database.conninfo(role), "test", autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("select internal.record_champion_moves('[]')")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("update champion_moves set to_version = 1 where number = 2", "move 2 differs from MLflow's record"),
        (
            "update champion_moves set reason = 'another' where number = 1",
            "move 1 differs from MLflow's record",
        ),
        ("delete from champion_moves where number = 3", "the last move is not the last one in MLflow"),
        ("truncate champion_moves", "the last move is not the last one in MLflow"),
    ],
)
def test_verify_notices_a_changed_copy(models, three_champions, reader, change, problem):
    def problems():
        copies = rows(reader, query("provenance/recorded_moves"))
        checks = verify_champions(models.tracking, [], [], copies)
        return [check.problem for check in checks if check.problem and "copy" in check.subject]

    assert problems() == []
    with psycopg.connect(models.superuser, autocommit=True) as connection:
        connection.execute(change)
    assert problems() == [problem]
