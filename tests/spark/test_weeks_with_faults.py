"""Weeks go through both stages on a cluster with two workers, whatever happens to it. `make chaos-spark` is the long version."""

import subprocess

import pytest

pytest.importorskip("pyspark")

import invariants
from caught_jobs import DEADLINE_S, MIDDLE, caught
from listener_processes import RAKUTEN
from measure import is_done, wait_until
from runs import Run, execute, settle
from spark_environment import open_spark_environment
from spark_faults import FAULTS
from spark_on_this_machine import skip_without_spark

from db.database import Role
from shared.config import read_settings
from shared.events import Stage

SHORT = [fault for fault in FAULTS if fault.short]
NOISE_FACTOR = 3


@pytest.fixture(scope="module")
def environment():
    skip_without_spark()
    with open_spark_environment(bindir=read_settings(_env_file=None).pg_bindir) as opened:
        yield opened


def rakuten(environment, *arguments):
    return subprocess.run(
        [RAKUTEN, *arguments],
        env=environment.variables(Role.READER) | {"ENGINE": "spark"},
        cwd=environment.settings.state_path,
        capture_output=True,
        text=True,
        check=False,
    )


def test_three_weeks_have_their_datasets_and_models_though_workers_are_killed_at_work(environment):
    environment.use_spark(*Stage)
    run = Run(environment)
    run.load()
    finished = lambda: is_done(environment, run.batch_ids)  # noqa: E731
    assert wait_until(finished, deadline_s=NOISE_FACTOR * DEADLINE_S)
    for stage in (Stage.SNAPSHOT, Stage.TRAINING):
        with caught(run, stage, MIDDLE[stage]) as worker:
            worker.kill()
        assert wait_until(finished, deadline_s=NOISE_FACTOR * DEADLINE_S)
        run.require_no_failure(stage)
        environment.spark.mend()
    assert [environment.attempt(batch_id, stage) for batch_id in run.batch_ids for stage in Stage] == 6 * [1]
    # each dataset has the digest that the local engine gives it
    verdict = invariants.check(environment, run.batch_ids)
    assert (verdict.lost, verdict.doubled, verdict.problems + run.problems) == (0, 0, [])
    checked = rakuten(environment, "verify")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    again = rakuten(environment, "reproduce", "week_3")
    assert again.returncode == 0, again.stdout + again.stderr


@pytest.mark.parametrize("fault", SHORT, ids=lambda fault: fault.name)
def test_a_week_becomes_one_dataset_and_one_model_whatever_goes_wrong(environment, fault):
    if reason := fault.unavailable(environment):
        pytest.skip(reason)
    assert settle(environment, fault)
    result = execute(environment, fault)
    if result.done_s == float("inf"):
        environment.mend()
    assert (result.lost, result.doubled, result.problems) == (0, 0, [])
    assert result.recovery_s <= NOISE_FACTOR * fault.bound_s
