"""The embedded PostgreSQL, with real servers, real processes and real kills."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import pytest
from waiting import eventually

import db
from db.database import Role, prepare_embedded
from db.embedded import EmbeddedPostgres, account
from db.embedded.programs import load_programs
from rakuten.commands.db import url_of
from shared.config import read_settings
from shared.errors import DatabaseUnavailableError

DEADLINE_S = 60
BINDIR = Path(os.environ["PG_BINDIR"]) if os.environ.get("PG_BINDIR") else None  # noqa: TID251

# A process that opens the server in one way, says so, and lives until its standard input closes.
CHILD = """
import os, sys
from pathlib import Path
from db.embedded import EmbeddedPostgres
directory, bindir, method, fork = sys.argv[1:]
postgres = EmbeddedPostgres(Path(directory), bindir=Path(bindir) if bindir else None, durable=False)
getattr(postgres, method)()
forked_pid = os.fork() if fork else 0
if not fork or forked_pid:
    print(int(postgres.owned), postgres.port, forked_pid, flush=True)
sys.stdin.read()
"""


def open_postgres(directory, **options):
    return EmbeddedPostgres(directory, **{"bindir": BINDIR, "durable": False, **options})


def query(postgres, sql, **connection):
    with psycopg.connect(postgres.conninfo(**connection)) as client:
        return client.execute(sql).fetchone()[0]


def execute(postgres, sql):
    with psycopg.connect(postgres.conninfo()) as client:
        client.execute(sql)


def postmaster_pid(directory):
    return int((directory / "data/postmaster.pid").read_text().split()[0])


def server_processes(directory):
    """All postgres processes of the directory's server, the postmaster among them."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.name() == "postgres" and process.cwd() == str(directory / "data"):
                found.append(process)
    return found


def postmasters(directory):
    pids = {process.pid for process in server_processes(directory)}
    return [process for process in server_processes(directory) if process.ppid() not in pids]


def is_alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def spawn_child(directory, method="start", *, fork=False):
    command = [sys.executable, "-c", CHILD, str(directory), str(BINDIR or ""), method, "fork" if fork else ""]
    pythonpath = os.pathsep.join([str(Path(db.__file__).parents[1]), *filter(None, sys.path)])
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": pythonpath},  # noqa: TID251
    )


def read_answer(child):
    owned, port, forked_pid = map(int, child.stdout.readline().split())
    return bool(owned), port, forked_pid


@contextmanager
def child_process(directory, method="start", **options):
    with spawn_child(directory, method, **options) as child:
        try:
            yield child
        finally:
            child.kill()


@pytest.fixture
def new_children():
    """The child processes that the test has left: the suite's own server is none of its business."""
    before = {process.pid for process in psutil.Process().children()}
    return lambda: [process for process in psutil.Process().children() if process.pid not in before]


@pytest.fixture
def directory():
    """A directory in RAM; whatever still serves it is a failure, and is stopped."""
    in_ram = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
    parent = Path(tempfile.mkdtemp(prefix="test-embedded-", dir=in_ram)).resolve()
    yield parent / "postgres"
    left_running = server_processes(parent / "postgres")
    EmbeddedPostgres(parent / "postgres").stop_background()
    for process in server_processes(parent / "postgres"):
        process.kill()
    shutil.rmtree(parent)
    assert not left_running


def test_a_new_server_answers_in_utf8_and_utc_on_this_machine_only(directory):
    with open_postgres(directory, settings={"work_mem": "7MB", "listen_addresses": "*"}) as postgres:
        assert postgres.owned
        assert postgres.running
        assert int(query(postgres, "show server_version_num")) // 10000 == postgres.version
        assert query(postgres, "select lower('ÉÀ')") == "éà"
        assert query(postgres, "show timezone") == "UTC"
        assert query(postgres, "show work_mem") == "7MB"
        assert query(postgres, "show listen_addresses") == postgres.host == "127.0.0.1"
        assert query(postgres, "show unix_socket_directories") == ""


@pytest.mark.parametrize(("durable", "fsync"), [(True, "on"), (False, "off")])
def test_only_a_durable_server_waits_for_the_disk(directory, durable, fsync):
    with open_postgres(directory, durable=durable) as postgres:
        assert query(postgres, "show fsync") == query(postgres, "show full_page_writes") == fsync
        assert query(postgres, "show synchronous_commit") == "on"


def test_nothing_is_left_running_after_stop_and_the_data_are_there_at_the_next_start(directory, new_children):
    with open_postgres(directory) as postgres:
        execute(postgres, "create table kept as select 42 as answer")
        assert server_processes(directory)
        password = postgres.password
    assert not postgres.running
    assert not postgres.owned
    assert not server_processes(directory)
    assert not new_children()
    with pytest.raises(DatabaseUnavailableError, match="not started"):
        postgres.conninfo()

    with open_postgres(directory) as postgres:
        assert query(postgres, "select answer from kept") == 42
        assert postgres.password == password


def test_the_password_is_for_the_owner_only_and_neither_logged_nor_shown(directory):
    with open_postgres(directory) as postgres:
        path = directory / "password"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert len(postgres.password) >= 32
        assert path.read_text() == postgres.password
        assert postgres.password not in (directory / "server.log").read_text()
        assert postgres.password not in repr(postgres)
        assert all(postgres.password not in " ".join(p.cmdline()) for p in psutil.Process().children())


def test_a_wrong_or_missing_password_is_refused(directory):
    with open_postgres(directory) as postgres:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            query(postgres, "select 1", password="wrong")  # noqa: S106
        with pytest.raises(psycopg.OperationalError):
            query(postgres, "select 1", user="somebody")


def test_names_and_passwords_with_any_characters_survive_conninfo_and_url(directory):
    with open_postgres(directory) as postgres:
        execute(postgres, """create role "us:er/@" login password 'p@ss ''w/:%rd'""")
        with psycopg.connect(postgres.conninfo(), autocommit=True) as client:
            client.execute('create database "a b/c?"')
        names = {"dbname": "a b/c?", "user": "us:er/@", "password": "p@ss 'w/:%rd"}
        for target in (postgres.conninfo(**names), url_of(postgres.conninfo(**names))):
            with psycopg.connect(target) as client:
                assert client.execute("select current_user").fetchone() == ("us:er/@",)
                assert client.info.dbname == "a b/c?"


def test_starting_a_started_server_changes_nothing(directory):
    with open_postgres(directory) as postgres:
        port = postgres.port
        assert postgres.start() is postgres
        assert postgres.start_in_background() is postgres
        assert (postgres.port, postgres.owned) == (port, True)


def test_a_second_process_attaches_and_its_end_does_not_stop_the_server(directory):
    with open_postgres(directory) as postgres:
        with child_process(directory) as child:
            assert read_answer(child) == (False, postgres.port, 0)
            child.stdin.close()
            assert child.wait(DEADLINE_S) == 0
        assert query(postgres, "select 1") == 1


def test_attaching_needs_no_binaries_and_stop_leaves_the_server_alone(directory):
    with open_postgres(directory) as postgres:
        guest = EmbeddedPostgres(directory, bindir=directory / "nothing").start()
        assert not guest.owned
        assert guest.running
        guest.stop()
        assert not guest.running
        assert query(postgres, "select 1") == 1


def test_processes_that_start_at_the_same_moment_end_with_one_server(directory):
    children = [spawn_child(directory) for _ in range(4)]
    try:
        answers = [read_answer(child) for child in children]
        assert sum(owned for owned, _, _ in answers) == 1
        assert len({port for _, port, _ in answers}) == 1
        assert len(postmasters(directory)) == 1
    finally:
        for child in children:
            child.kill()
            child.communicate()
    eventually(lambda: not server_processes(directory))


def test_a_server_ends_with_its_process_even_without_stop(directory):
    with child_process(directory) as child:
        read_answer(child)
        child.stdin.close()
        assert child.wait(DEADLINE_S) == 0
    assert not server_processes(directory)
    assert "shutting down" in (directory / "server.log").read_text()


def test_kill_9_of_the_owner_stops_the_server_and_the_next_start_has_the_data(directory):
    with child_process(directory) as child:
        read_answer(child)
        execute(open_postgres(directory).start(), "create table kept as select 42 as answer")
        family = psutil.Process(child.pid).children(recursive=True)
        assert len(family) > 2  # the watchdog, the postmaster and its children
        child.kill()
        child.wait(DEADLINE_S)
    # At once: the dying server must not be taken for one to attach to.
    with open_postgres(directory) as postgres:
        assert postgres.owned
        assert query(postgres, "select answer from kept") == 42
        assert eventually(lambda: not any(map(is_alive, family)))


def test_kill_9_of_the_owner_leaves_no_process_even_if_nobody_starts_again(directory):
    with child_process(directory) as child:
        read_answer(child)
        family = psutil.Process(child.pid).children(recursive=True)
        child.kill()
    assert eventually(lambda: not any(map(is_alive, family)))


def test_kill_9_of_the_owner_and_its_watchdog_leaves_a_server_that_the_next_start_replaces(directory):
    with child_process(directory) as child:
        _, port, _ = read_answer(child)
        (watchdog,) = (p for p in psutil.Process(child.pid).children() if p.name() == "sh")
        watchdog.kill()
        child.kill()
        child.wait(DEADLINE_S)
    assert postmasters(directory)
    with open_postgres(directory) as postgres:
        assert postgres.owned
        assert postgres.port != port


def test_a_forked_child_of_the_owner_neither_stops_the_server_nor_keeps_it_alive(directory):
    with child_process(directory, fork=True) as child:
        _, _, forked_pid = read_answer(child)
        forked = psutil.Process(forked_pid)
        child.kill()
        assert eventually(lambda: not server_processes(directory))
        assert is_alive(forked)
        forked.kill()

    with open_postgres(directory) as postgres:
        forked_pid = os.fork()
        if forked_pid == 0:
            postgres.stop()
            os._exit(1 if postgres.owned else 0)
        assert os.waitpid(forked_pid, 0)[1] == 0
        assert query(postgres, "select 1") == 1


def test_kill_9_of_the_postmaster_is_noticed_and_the_next_start_works(directory, new_children):
    with open_postgres(directory) as postgres:
        execute(postgres, "create table kept as select 42 as answer")
        os.kill(postmaster_pid(directory), signal.SIGKILL)
        eventually(lambda: not postgres.running)
        postgres.start()
        assert postgres.owned
        assert query(postgres, "select answer from kept") == 42
        assert len(postmasters(directory)) == 1
    assert not new_children()


def test_a_backend_that_still_computes_after_its_postmaster_was_killed_does_not_block_the_next_start(
    directory,
):
    with open_postgres(directory) as postgres:
        execute(
            postgres,
            "create function spin() returns void language plpgsql as $$ begin loop null; end loop; end $$",
        )
        client = psycopg.connect(postgres.conninfo())
        client.pgconn.send_query(b"select spin()")
        backend = psutil.Process(client.info.backend_pid)
        eventually(
            lambda: query(postgres, "select count(*) from pg_stat_activity where query like '%spin()'")
        )
        os.kill(postmaster_pid(directory), signal.SIGKILL)
        eventually(lambda: not postgres.running)
        assert is_alive(backend)
        postgres.start()
        client.close()
        assert not is_alive(backend)
        assert query(postgres, "select 1") == 1


@pytest.mark.parametrize("impostor", ["this process", "a zombie", "nobody", "another server", "rubbish"])
def test_a_stale_pid_file_does_not_stop_a_start_and_its_pid_is_not_touched(directory, impostor):
    with open_postgres(directory) as postgres:
        _, _, lines_after_pid = (directory / "data/postmaster.pid").read_text().partition("\n")
    zombie = subprocess.Popen(["/bin/true"])
    eventually(lambda: psutil.Process(zombie.pid).status() == psutil.STATUS_ZOMBIE)
    with open_postgres(directory.with_name("another")) as another:
        pid = {
            "this process": os.getpid(),
            "a zombie": zombie.pid,
            "nobody": 4_194_303,
            "another server": postmaster_pid(directory.with_name("another")),
            "rubbish": "",
        }[impostor]
        (directory / "data/postmaster.pid").write_text(f"{pid}\n{lines_after_pid}" if pid else "")

        assert not open_postgres(directory).stop_background()
        with postgres.start():
            assert postgres.owned
            assert query(postgres, "select 1") == 1
        assert another.running
    zombie.wait()


def test_a_background_server_outlives_its_process_and_another_one_stops_it(directory):
    with child_process(directory, "start_in_background") as child:
        owned, port, _ = read_answer(child)
        child.kill()
        child.wait(DEADLINE_S)
    assert not owned

    guest = open_postgres(directory).start()
    assert (guest.owned, guest.port) == (False, port)
    assert query(guest, "select 1") == 1
    guest.stop()
    assert len(postmasters(directory)) == 1

    assert open_postgres(directory).stop_background()
    assert not any(map(is_alive, server_processes(directory)))
    assert not open_postgres(directory).stop_background()


def test_a_background_server_can_be_stopped_by_the_object_that_started_it(directory, new_children):
    postgres = open_postgres(directory).start_in_background()
    assert query(postgres, "select 1") == 1
    assert postgres.stop_background()
    assert not postgres.running
    assert not new_children()


def test_stopping_a_directory_without_a_server_creates_nothing(directory):
    assert not open_postgres(directory).stop_background()
    assert not directory.exists()


def test_an_initdb_that_was_killed_leaves_no_half_cluster(directory):
    directory.mkdir()
    (directory / "initdb-killed").mkdir()
    (directory / "initdb-killed/PG_VERSION").write_text("18\n")
    (directory / "password").write_text("")
    with open_postgres(directory) as postgres:
        assert query(postgres, "select 1") == 1
    assert not list(directory.glob("initdb-*"))


def test_a_port_taken_by_another_program_is_replaced(directory, monkeypatch):
    with open_postgres(directory.with_name("another")) as another:
        ports = iter([another.port, another.port])
        free_port = EmbeddedPostgres.start.__globals__["_free_port"]
        monkeypatch.setattr("db.embedded.server._free_port", lambda: next(ports, None) or free_port())
        for start, stop in (("start", "stop"), ("start_in_background", "stop_background")):
            postgres = open_postgres(directory)
            getattr(postgres, start)()
            assert postgres.port != another.port
            assert query(postgres, "select 1") == 1
            getattr(postgres, stop)()
            ports = iter([another.port])


@pytest.mark.parametrize("method", ["start", "start_in_background"])
def test_a_server_that_cannot_start_shows_the_end_of_its_log(directory, method, new_children):
    postgres = open_postgres(directory, settings={"shared_buffers": "nonsense"})
    with pytest.raises(DatabaseUnavailableError, match=r"server\.log ends with:[\s\S]*shared_buffers"):
        getattr(postgres, method)()
    assert not postgres.running
    assert not new_children()


def test_missing_binaries_are_reported_with_a_remedy(directory, monkeypatch):
    with pytest.raises(DatabaseUnavailableError, match="does not hold") as error:
        EmbeddedPostgres(directory, bindir=Path("/nowhere")).start()
    assert "PG_BINDIR" in error.value.remedy

    monkeypatch.setattr("db.embedded.programs._candidates", lambda: iter([Path("/nowhere")]))
    with pytest.raises(DatabaseUnavailableError, match="not found") as error:
        EmbeddedPostgres(directory).start()
    assert "PG_BINDIR" in error.value.remedy
    assert not (directory / "data").exists()


def test_a_directory_of_another_major_version_is_refused_with_a_remedy(directory):
    ours = load_programs(BINDIR)
    candidates = [None, *Path("/usr/lib/postgresql").glob("*/bin")]
    others = [found for found in map(load_programs, candidates) if found.version != ours.version]
    if not others:
        pytest.skip("only one major version of PostgreSQL is installed")
    with open_postgres(directory):
        pass
    with pytest.raises(DatabaseUnavailableError) as error:
        EmbeddedPostgres(directory, bindir=others[0].bindir).start()
    assert f"created by PostgreSQL {ours.version}" in error.value.message
    assert f"holds PostgreSQL {others[0].version}" in error.value.message
    assert "PG_BINDIR" in error.value.remedy


def test_a_directory_that_cannot_be_made_is_a_clear_error(directory):
    directory.write_text("a file")
    with pytest.raises(DatabaseUnavailableError, match="cannot be used"):
        open_postgres(directory).start()
    directory.unlink()
    with open_postgres(directory) as postgres:
        assert postgres.running


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another account")
def test_root_without_user_namespaces_runs_the_server_as_a_plain_account(directory, monkeypatch):
    monkeypatch.setattr(account, "_in_user_namespace", lambda: None)
    directory.parent.chmod(0o755)
    with open_postgres(directory) as postgres:
        assert psutil.Process(postmaster_pid(directory)).uids().real != 0
        execute(postgres, "create table kept as select 42 as answer")
        os.kill(postmaster_pid(directory), signal.SIGKILL)
        eventually(lambda: not postgres.running)
        assert query(postgres.start(), "select answer from kept") == 42
    background = open_postgres(directory).start_in_background()
    assert query(background, "select answer from kept") == 42
    assert background.stop_background()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another account")
def test_a_directory_closed_to_that_account_is_a_clear_error(directory, monkeypatch):
    monkeypatch.setattr(account, "_in_user_namespace", lambda: None)
    directory.parent.chmod(0o700)
    with pytest.raises(DatabaseUnavailableError, match="initdb failed"):
        open_postgres(directory).start()
    directory.parent.chmod(0o755)
    with open_postgres(directory) as postgres:
        assert postgres.running


def test_a_read_only_server_starts_if_nothing_is_missing(directory, tmp_path):
    settings = read_settings(state_path=tmp_path, _env_file=None)
    with open_postgres(directory) as postgres:
        prepare_embedded(settings, postgres)
    with open_postgres(directory, settings={"default_transaction_read_only": "on"}) as postgres:
        database = prepare_embedded(settings, postgres)
        with database.connect(Role.READER, "test") as connection:
            assert connection.execute("select count(*) from data_loads").fetchone() == (0,)
