"""The fixtures of tests/conftest.py, seen from outside: pytest is run on a small file of tests."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(tmp_path, pytestconfig):
    """Runs pytest on some source; returns what it printed."""

    def run_pytest(source: str) -> str:
        file = tmp_path / "test_it.py"
        shutil.copy(ROOT / "tests/conftest.py", tmp_path)
        file.write_text("import pytest\n" + textwrap.dedent(source))
        options = ["-c", "pyproject.toml", "--server", pytestconfig.getoption("server")]
        command = [sys.executable, "-m", "pytest", *options, "-v", str(file)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50).stdout

    return run_pytest


def test_a_leaked_key_fails_its_test_and_not_the_next(run):
    said = run("""
        def test_leaks(server): server.client().set("shop:rl:{api}:x", "y")
        def test_expires(server): server.client().set("shop:rl:{api}:x", "y", px=1000)
    """)
    assert "keys without TTL left behind: shop:rl:{api}:x" in said
    assert re.search("2 passed, 1 error", said)


def test_a_leaked_thread_fails_its_test(run):
    said = run("""
        import threading, time
        def test_leaks(): threading.Thread(target=time.sleep, args=[3], name="forgotten").start()
    """)
    assert "threads left behind: forgotten" in said
    assert "1 passed, 1 error" in said


def test_async_tests_run_on_every_backend_and_with_a_face_through_the_blocking_twins_too(run):
    said = run("""
        @pytest.mark.anyio
        async def test_plain(): pass
        @pytest.mark.anyio
        async def test_faced(face): pass
        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", ["asyncio"])
        async def test_chosen(): pass
    """)
    ran = set(re.findall(r"test_(\w+\[\w+\]) PASSED", said))
    plain = {f"plain[{mode}]" for mode in ("asyncio", "uvloop", "trio")}
    faced = {f"faced[{mode}]" for mode in ("asyncio", "uvloop", "trio", "blocking")}
    assert ran == {*plain, *faced, "chosen[asyncio]"}


def test_kits_are_closed_in_async_and_in_plain_tests(run):
    said = run("""
        def test_blocking(kit, namespace): assert kit.namespace == namespace
        @pytest.mark.anyio
        async def test_async(kit, namespace): assert kit.namespace == namespace
    """)
    assert "4 passed" in said, said


def test_a_call_with_keys_in_two_slots_fails_its_test(run):
    said = run("""
        from sync_kit._io.scripts import Script
        both = Script("both", "-- both: of the tests\\n-- KEYS: one two\\n-- ARGV:\\n-- returns: ok\\n")
        def test_crosses(): both.call(["shop:{a}:x", "shop:{b}:x"], [])
        def test_stays(): both.call(["shop:{a}:x", "shop:{a}:y"], [])
    """)
    assert "several slots of a cluster: both on shop:{a}:x, shop:{b}:x" in said
    assert re.search("2 passed, 1 error", said)
