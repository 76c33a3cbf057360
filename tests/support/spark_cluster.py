"""A standalone cluster of Apache Spark as processes of this machine, for faults: one master, and workers with one core each.

Everything listens on 127.0.0.1 only, and a secret protects what the processes send each other. The driver is not part of the
cluster: it is whoever uses `master_url` and the file `conf` (SPARK_MASTER and SPARK_CONF).
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pyspark
from free_port import free_port
from process_table import listening_ports, program_of, send, session_of
from waiting import eventually

START_S = 120
CATCH_S = 300  # until a job has a task of the wanted stage
END_S = 30
ANSWER_S = 5
_MASTER = "org.apache.spark.deploy.master.Master"
_WORKER = "org.apache.spark.deploy.worker.Worker"
# The timeouts of a frozen executor are minutes by default. The master keeps what it knows in files, so that it can be started again.
_CONF = {
    "spark.authenticate": "true",
    "spark.master.rest.enabled": "false",
    "spark.deploy.recoveryMode": "FILESYSTEM",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "768m",
    "spark.executor.memory": "512m",
    "spark.executor.heartbeatInterval": "1s",
    "spark.network.timeout": "15s",
    "spark.network.timeoutInterval": "1s",
    "spark.sql.shuffle.partitions": "3",
    "spark.ui.enabled": "true",
    "spark.ui.liveUpdate.period": "0",  # what the driver says is what is
    "spark.ui.showConsoleProgress": "false",
}


@dataclass
class Node:
    """A master or worker. It leads a session of its own, in which its executors and their Python processes are, too."""

    process: subprocess.Popen
    log: Path
    was_killed: bool = False

    @property
    def pids(self) -> list[int]:
        """All processes of its session, its own first. None after `kill`: the number may be another session's by then."""
        if self.was_killed:
            return []
        return sorted(session_of(self.process.pid), key=lambda pid: pid != self.process.pid)

    @property
    def executors(self) -> list[int]:
        """The processes that work: executors and their Python workers."""
        return [pid for pid in self.pids if pid != self.process.pid]

    def kill(self) -> None:
        """End it and its executors with SIGKILL, as the loss of a machine does."""

        def is_gone() -> bool:
            self.signal(signal.SIGKILL)  # again and again: a dying worker may have started one more executor
            self.process.poll()
            return not self.pids

        eventually(is_gone, END_S)
        self.was_killed = True

    def signal(self, number: signal.Signals) -> None:
        send(self.pids, number)


@dataclass
class SparkCluster:
    """Use `open_cluster`. `conf` is the file for SPARK_CONF."""

    directory: Path
    settings: dict[str, str] = field(default_factory=dict)
    workers: list[Node] = field(default_factory=list)
    master: Node | None = None

    def __post_init__(self) -> None:
        self.port, self.page, self.driver_page = free_port(), free_port(), free_port()
        self._secret = secrets.token_hex(16)
        self._numbers = 0
        for name in ("recovery", "local", "logs", "driver"):
            (self.directory / name).mkdir(parents=True)
        self.configure()

    @property
    def master_url(self) -> str:
        return f"spark://127.0.0.1:{self.port}"

    @property
    def conf(self) -> Path:
        return self.directory / "spark.conf"

    @property
    def driver_files(self) -> Path:
        """The folder of a driver's temporary files."""
        return self.directory / "driver"

    def configure(self, **settings: str) -> None:
        """Write the file SPARK_CONF: the cluster's settings and these, with _ for the dots. The next job reads it."""
        own = {
            "spark.authenticate.secret": self._secret,
            "spark.deploy.recoveryDirectory": str(self.directory / "recovery"),
            "spark.ui.port": str(self.driver_page),
            "spark.local.dir": str(self.driver_files),  # of the driver; the workers have SPARK_LOCAL_DIRS
        }
        given = {f"spark.{name.replace('__', '.')}": value for name, value in settings.items()}
        lines = (_CONF | own | self.settings | given).items()
        self.conf.touch(mode=0o600)
        self.conf.write_text("".join(f"{name} {value}\n" for name, value in lines))

    def start_master(self) -> None:
        """Start the master, again at the same address."""
        self.master = self._start("master", _MASTER, "--port", self.port, "--webui-port", self.page)
        eventually(lambda: self._about_master() is not None, START_S, report=self.master.log.read_text)

    def kill_master(self) -> None:
        self.master.kill()

    def add_worker(self) -> Node:
        """Start one more worker, and wait until the master knows it."""
        known = len(self.alive())
        self._numbers += 1
        name = f"worker-{self._numbers}"
        options = ["--webui-port", 0, "--cores", 1, "--memory", "1g", "--work-dir", self.directory / name]
        node = self._start(name, _WORKER, *options, self.master_url)
        self.workers.append(node)
        eventually(lambda: len(self.alive()) > known, START_S, report=node.log.read_text)
        return node

    def mend(self, workers: int = 2) -> None:
        """Bring the cluster back to one master and so many workers, whatever was killed or frozen."""
        if self.master is None or self.master.process.poll() is not None:
            self.start_master()
        for node in list(self.workers):
            node.signal(signal.SIGCONT)
            if node.process.poll() is not None:
                self.workers.remove(node)
        eventually(lambda: len(self.alive()) == len(self.workers), START_S)
        while len(self.workers) < workers:
            self.add_worker()

    def alive(self) -> list[dict[str, Any]]:
        """What the master says about the workers that it can use."""
        return [
            worker for worker in (self._about_master() or {}).get("workers", []) if worker["state"] == "ALIVE"
        ]

    def applications(self) -> list[dict[str, Any]]:
        """What the master says about the jobs that run or wait."""
        return (self._about_master() or {}).get("activeapps", [])

    def executors(self) -> list[dict[str, Any]]:
        """What the driver says about its executors, for example `activeTasks`. None if there is no driver."""
        return [
            each for each in self._ask_driver("allexecutors") if each["id"] != "driver" and each["isActive"]
        ]

    def finished_stages(self) -> int:
        """How many of Spark's stages the driver has finished."""
        return len(self._ask_driver("stages?status=complete"))

    @contextmanager
    def caught_at_work(
        self, *, after_stages: int = 0, application: str = "", program: str = "java"
    ) -> Iterator[Node]:
        """Yield a worker whose executors are frozen in the middle of a task, in a job whose name contains `application`.

        The executor has a process of this program: `java`, or `python` if it has already run Python code.
        """
        catch = lambda: self._catch(after_stages, application, program)  # noqa: E731
        node = eventually(catch, CATCH_S, report=self.describe)
        try:
            yield node
        finally:
            node.signal(signal.SIGCONT)

    def runs(self, application: str) -> bool:
        """Whether there is a job whose name contains `application`."""
        return any(application in each["name"] for each in self.applications())

    def _catch(self, after_stages: int, application: str, program: str) -> Node | None:
        if not self.runs(application) or self.finished_stages() < after_stages:
            return None
        for node in filter(self._is_busy, self.workers):
            send(node.executors, signal.SIGSTOP)
            if self._is_busy(node) and program in map(program_of, node.executors):
                return node
            send(node.executors, signal.SIGCONT)
        return None

    def _is_busy(self, node: Node) -> bool:
        ports = listening_ports(node.executors)
        return any(
            each["activeTasks"] and int(each["hostPort"].rpartition(":")[2]) in ports
            for each in self.executors()
        )

    def describe(self) -> str:
        jobs = [each["name"] for each in self.applications()]
        tasks = [each["activeTasks"] for each in self.executors()]
        return f"jobs {jobs}, tasks of each executor {tasks}, {self.finished_stages()} stages finished"

    def end(self) -> None:
        """End all processes that were started here."""
        for node in [*self.workers, *([self.master] if self.master else [])]:
            node.kill()

    def _start(self, name: str, main: str, *options: object) -> Node:
        log = self.directory / "logs" / f"{name}.log"
        command = [Path(pyspark.__file__).parent / "bin" / "spark-class", main]
        variables = {
            "SPARK_LOCAL_IP": "127.0.0.1",  # also of the pages, which cannot be turned off
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_LOCAL_DIRS": str(self.directory / "local"),
            "SPARK_NO_DAEMONIZE": "1",
        }
        with log.open("ab") as file:
            process = subprocess.Popen(
                [*map(str, [*command, "--host", "127.0.0.1", "--properties-file", self.conf, *options])],
                env=os.environ | variables,  # noqa: TID251
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=self.directory,
                start_new_session=True,
            )
        return Node(process, log)

    def _about_master(self) -> dict[str, Any] | None:
        return _ask(f"http://127.0.0.1:{self.page}/json/")

    def _ask_driver(self, question: str) -> list[dict[str, Any]]:
        base = f"http://127.0.0.1:{self.driver_page}/api/v1/applications"
        return [
            found
            for application in _ask(base) or []
            for found in _ask(f"{base}/{application['id']}/{question}") or []
        ]


@contextmanager
def open_cluster(directory: Path, *, workers: int = 2) -> Iterator[SparkCluster]:
    """Start a cluster whose files are in `directory`. At the end, end its processes and remove their files."""
    cluster = SparkCluster(directory)
    try:
        cluster.start_master()
        for _ in range(workers):
            cluster.add_worker()
        yield cluster
    finally:
        cluster.end()
        shutil.rmtree(directory, ignore_errors=True)


def _ask(address: str) -> Any:
    """The JSON at an address. None if nobody answers, or nobody yet."""
    with suppress(OSError, URLError, ValueError), urlopen(address, timeout=ANSWER_S) as answer:  # noqa: S310
        return json.load(answer)
    return None
