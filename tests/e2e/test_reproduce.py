"""Twenty-one weeks with fifty corrections in between: every dataset is built again byte for byte, and its model with it."""

import csv
import shutil

import numpy as np
import pytest
from jobs import claim_job, finish

from db.database import Role
from db.load.correction import correct
from listeners.snapshot import handle as snapshot
from listeners.tracking.runs import Tracking
from listeners.training import handle as training
from rakuten.provenance.reproduce import reproduce
from shared.events import Stage

WEEKS = 21
TRAINED = ("week_1", "week_11", "week_21")


@pytest.fixture
def work(database, settings):
    """Do one stage of a batch, as the listener's child does."""
    handle = {Stage.SNAPSHOT: snapshot.handle, Stage.TRAINING: training.handle}

    def done(stage: Stage, batch_id: int) -> str:
        job = claim_job(stage, database.conninfo(Role[stage.upper()]), settings, batch_id)
        result = handle[stage](job)
        finish(job, result)
        return result["run_id"]

    return done


@pytest.fixture
def correct_five(as_role, settings, tmp_path):
    """Five corrections in a file: two changed texts, a changed label, a deletion, and the return of what was deleted before."""
    random = np.random.default_rng(5)
    deleted: list[tuple[int, int]] = []

    def corrected(number: int) -> None:
        with as_role(Role.LOADER) as connection:
            held = connection.execute(
                "select productid, prdtypecode from products join labels using (productid) order by productid"
            ).fetchall()
            connection.commit()
            first, second, relabelled, gone = (
                held[row] for row in random.choice(len(held), 4, replace=False)
            )
            rows = [
                ("update", first[0], f"Corrigé {number}", "<p>texte &eacute;crit à nouveau</p>", first[1]),
                ("update", second[0], f"Corrigé aussi {number}", None, second[1]),
                ("update", relabelled[0], f"Reclassé {number}", "x", 10 if relabelled[1] != 10 else 40),
                ("delete", gone[0], None, None, None),
            ]
            if deleted:
                productid, code = deleted.pop(0)
                rows.append(("insert", productid, f"De retour {number}", "y", code))
            else:
                rows.append(("update", held[0][0], f"Le premier {number}", "z", held[0][1]))
            deleted.append(gone)
            path = tmp_path / f"correction_{number}.csv"
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["operation", "productid", "designation", "description", "prdtypecode"])
                writer.writerows(rows)
            assert correct(connection, settings, path, reason="a test").rows == 5

    return corrected


def test_every_week_is_built_again_byte_for_byte(database, settings, load_weeks, work, correct_five, as_role):
    corrections = iter(range(1, 11))
    for week in range(1, WEEKS + 1):
        load_weeks(1)
        if week % 2 == 0:
            correct_five(next(corrections))
    with as_role(Role.READER) as connection:
        batches = connection.execute("select id, batch_name from data_loads order by id").fetchall()
        operations = connection.execute(
            "select operation_type, count(*) from products_history"
            " where load_batch_id in (select id from data_loads where batch_name like 'correction%')"
            " group by operation_type order by operation_type"
        ).fetchall()
    assert [name for _, name in batches].count("week_21") == 1
    assert len(batches) == WEEKS + 10
    assert [operation for operation, _ in operations] == ["DELETE", "INSERT", "UPDATE"]

    runs = {name: [work(Stage.SNAPSHOT, batch_id)] for batch_id, name in batches}
    for batch_id, name in batches:
        if name in TRAINED:
            runs[name].append(work(Stage.TRAINING, batch_id))
    shutil.rmtree(settings.state_path / "training_snapshots")

    tracking = Tracking(settings)
    for batch_id, name in batches:
        dataset, *trained = (tracking.client.get_run(run_id) for run_id in runs[name])
        verdicts = list(
            reproduce(
                database.conninfo(Role.READER),
                tracking,
                settings,
                (batch_id, name),
                (dataset, trained[0] if trained else None),
            )
        )
        assert all(verdict.same for verdict in verdicts), (name, verdicts)
        assert len(verdicts) == (5 if name in TRAINED else 3), name
