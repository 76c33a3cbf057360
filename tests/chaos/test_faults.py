"""The short version of the fault suite: each kind of fault that is cheap to have, once. `make chaos` is the long one."""

import pytest
from environment import open_environment
from faults import FAULTS
from runs import execute, settle

from shared.config import read_settings

SHORT = sorted((fault for fault in FAULTS if fault.short), key=lambda fault: fault.replicas)
# The bounds are those of the long version, generously: other tests may be busy on the same machine, and a start costs CPU.
NOISE_FACTOR, NOISE_MARGIN_S = 3, 10


@pytest.fixture(scope="module")
def environment():
    with open_environment(bindir=read_settings(_env_file=None).pg_bindir) as opened:
        yield opened


@pytest.mark.parametrize("fault", SHORT, ids=lambda fault: fault.name)
def test_every_week_becomes_one_dataset_and_one_model_whatever_goes_wrong(environment, fault):
    if reason := fault.unavailable(environment):
        pytest.skip(reason)
    assert settle(environment, fault)
    result = execute(environment, fault)
    if result.done_s == float("inf"):
        environment.mend()
    assert (result.lost, result.doubled, result.problems) == (0, 0, [])
    assert result.recovery_s <= NOISE_FACTOR * fault.bound_s + NOISE_MARGIN_S
