"""What a job's own process makes of the faults of a cluster: which are outages, and which count for the batch."""

import pytest

pytest.importorskip("pyspark")

import spark_drivers
from spark_cluster import open_cluster
from spark_on_this_machine import skip_without_spark

from shared.config import read_settings
from shared.errors import OutageError, StageError

PATIENCE_S = 10


@pytest.fixture(scope="module")
def whole_cluster(tmp_path_factory):
    skip_without_spark()
    with open_cluster(tmp_path_factory.mktemp("spark") / "cluster") as started:
        yield started


@pytest.fixture
def cluster(whole_cluster):
    whole_cluster.configure()
    whole_cluster.mend()
    return whole_cluster


@pytest.fixture
def submit(cluster):
    """Run a job in a driver process of its own: `submit(spark_drivers.count).result()`."""
    where = {"spark_master": cluster.master_url, "spark_conf": cluster.conf}
    with spark_drivers.driver() as run:

        def in_a_process(job, *arguments, patience_s=PATIENCE_S):
            settings = read_settings(**where, stall_timeout_s=patience_s, _env_file=None)
            return run(job, settings, *arguments)

        yield in_a_process


def test_without_a_master_a_job_does_not_start_until_the_master_is_back(cluster, submit):
    cluster.kill_master()
    with pytest.raises(OutageError, match="does not start with SPARK_MASTER=spark://") as failed:
        submit(spark_drivers.count).result()
    assert "start the master" in failed.value.remedy
    cluster.start_master()
    assert submit(spark_drivers.count).result() == 1


def test_a_setting_that_java_refuses_is_no_fault_of_a_batch(cluster, submit):
    cluster.configure(driver__memory="much")
    with pytest.raises(OutageError, match="does not start") as failed:
        submit(spark_drivers.count).result()
    assert "SPARK_CONF" in failed.value.remedy
    cluster.configure()
    assert submit(spark_drivers.count).result() == 1


def test_a_job_without_an_executor_is_an_outage_until_a_worker_is_there(cluster, submit):
    for worker in cluster.workers:
        worker.kill()
    with pytest.raises(OutageError, match=f"no executor for this job for {PATIENCE_S} s") as failed:
        submit(spark_drivers.count).result()
    assert "start a worker" in failed.value.remedy
    cluster.mend(workers=1)
    assert submit(spark_drivers.count).result() == 1


def test_a_worker_that_is_lost_again_and_again_does_not_fail_the_job(cluster, submit, tmp_path):
    running = submit(spark_drivers.count, tmp_path / "go on", patience_s=300)
    for _ in range(5):  # a task may fail four times
        with cluster.caught_at_work(application=spark_drivers.NAME) as worker:
            worker.kill()
        cluster.mend()
    (tmp_path / "go on").touch()
    assert running.result() == 1


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (spark_drivers.exhaust_memory, "OutOfMemoryError"),
        (spark_drivers.kill_python, "Python worker exited"),
    ],
)
def test_a_task_that_takes_all_memory_fails_its_batch_and_the_setting_is_named(submit, job, said):
    with pytest.raises(StageError, match=said) as failed:
        submit(job).result()
    assert not isinstance(failed.value, OutageError)
    assert "spark.executor.memory" in failed.value.remedy


def test_a_driver_that_loses_its_java_fails_like_a_killed_child(submit):
    with pytest.raises(
        StageError, match="Java process of the driver of Apache Spark died with exit code -9"
    ) as failed:
        submit(spark_drivers.kill_java).result()
    assert not isinstance(failed.value, OutageError)
    assert "spark.driver.memory" in failed.value.remedy
