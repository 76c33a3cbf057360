"""A run whose worker died before it recorded the result is adopted, and the next attempt records the same."""

from jobs import claim_job, finish
from stage_work import work_on

from db.database import Role
from listeners.snapshot import handle as snapshot
from listeners.training import handle as training
from shared.events import Stage


def test_the_second_attempt_at_a_batch_records_the_same_dataset_and_model(load_weeks, database, settings):
    first, second = load_weeks(2)
    work_on(database, settings, first)

    def attempt(stage, handle):
        job = claim_job(stage, database.conninfo(Role[stage.upper()]), settings, second)
        return job, handle(job)

    for stage, handle in ((Stage.SNAPSHOT, snapshot.handle), (Stage.TRAINING, training.handle)):
        _, made = attempt(stage, handle)
        job, again = attempt(stage, handle)
        if not made.get(
            "champion", True
        ):  # each attempt compares the model, and logs that under a name of its own
            assert again["promotion"] != made["promotion"]
            again["promotion"] = made["promotion"]
        assert again == made
        assert made["drift"]
        finish(job, again)
    assert made["f1_by_class"]
    assert {"count", "top"} <= made["suspects"].keys()
