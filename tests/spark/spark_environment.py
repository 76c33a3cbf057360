"""Start what the fault suite has (tests/chaos/environment.py), and a Spark cluster and a small disk for DATASET_STORE."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from environment import Environment, open_environment
from spark_cluster import SparkCluster, open_cluster

STORE_BYTES = 64 * 2**20
# The limit of an undisturbed job that waits for executors, on a machine that does other work, too.
STALL_TIMEOUT_S = 60


@dataclass
class SparkParts:
    """The cluster, and the folder of DATASET_STORE. `store_is_limited` says whether the folder has a small disk of its own."""

    cluster: SparkCluster
    store: Path
    disk: Path
    store_is_limited: bool

    def mend(self) -> None:
        """Bring back all that an unfinished fault may have left broken."""
        self.cluster.configure()
        self.cluster.mend()
        if self.store_is_limited and not self.store.is_mount():
            _mount("--bind", self.disk, self.store)

    def logs(self) -> list[Path]:
        return sorted((self.cluster.directory / "logs").iterdir())

    @contextmanager
    def unmounted_store(self) -> Iterator[None]:
        """The disk of DATASET_STORE is gone, and its empty mount point is there."""
        _unmount(self.store)
        try:
            yield
        finally:
            left = [path.name for path in self.store.iterdir()]
            _mount("--bind", self.disk, self.store)
        assert not left, f"written to the mount point of a missing disk: {left}"

    @contextmanager
    def missing_store(self) -> Iterator[None]:
        """The folder of DATASET_STORE is gone, with its mount point."""
        away = self.store.with_name("away")
        _unmount(self.store)
        self.store.rename(away)
        try:
            yield
        finally:
            made = self.store.exists()
            away.rename(self.store)
            _mount("--bind", self.disk, self.store)
        assert not made, "a missing DATASET_STORE was made anew"


@contextmanager
def open_spark_environment(*, bindir: Path | None = None) -> Iterator[Environment]:
    """An environment with a cluster of one master and two workers. At first, both stages work in their own process."""
    with (
        tempfile.TemporaryDirectory(prefix="rakuten-spark-", ignore_cleanup_errors=True) as folder,
        open_cluster(Path(folder) / "cluster") as cluster,
        _small_disk(Path(folder)) as parts,
        open_environment(
            bindir=bindir,
            spark_master=cluster.master_url,
            spark_conf=cluster.conf,
            dataset_store=str(parts[0]),
            stall_timeout_s=STALL_TIMEOUT_S,
            spark_postgres_connections=2,
        ) as environment,
    ):
        environment.spark = SparkParts(cluster, *parts)
        yield environment


@contextmanager
def _small_disk(directory: Path) -> Iterator[tuple[Path, Path, bool]]:
    """Yield the folder of the store, its disk, and whether this user may mount it."""
    store, disk = directory / "store", directory / "disk"
    store.mkdir()
    disk.mkdir()
    try:
        _mount("-t", "tmpfs", "-o", f"size={STORE_BYTES}", "spark-store", disk)
        _mount("--bind", disk, store)
    except (FileNotFoundError, subprocess.CalledProcessError):
        yield store, store, False
        return
    try:
        yield store, disk, True
    finally:
        _unmount(store)
        _unmount(disk)


def _mount(*options: object) -> None:
    subprocess.run(["mount", *map(str, options)], check=True, capture_output=True)  # noqa: S607


def _unmount(path: Path) -> None:
    subprocess.run(["umount", "--lazy", path], check=True, capture_output=True)  # noqa: S607
