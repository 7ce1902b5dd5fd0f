"""Eight worker processes with the same schedules."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from tests.jobs.conftest import until
from tests.jobs.schedules.conftest import slots

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"]), pytest.mark.timeout(120)]

ROOT = Path(__file__).resolve().parents[3]
POD = Path(__file__).with_name("pod.py")
PODS, SECONDS = 8, 20


@contextmanager
def pod(url: str, namespace: str) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, str(POD), url, namespace], env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        yield child
    finally:
        child.kill()
        child.wait()


async def test_one_run_for_each_slot_and_no_drift_on_eight_pods(server, namespace, jobs, shelf):
    with ExitStack() as stack:
        pods = [stack.enter_context(pod(server.url, namespace)) for _ in range(PODS)]
        await until(lambda: _all_there(jobs), 60)
        since = shelf.now() + 500
        await anyio.sleep(SECONDS + 1.5)
        assert [child.poll() for child in pods] == [None] * PODS
        for child in pods:
            child.terminate()
        assert [child.wait(20) for child in pods] == [0] * PODS
    ticks, beats = [[slot for slot in await slots(jobs, name) if slot >= since] for name in ("tick", "beat")]
    assert len(ticks) == len(set(ticks)) >= SECONDS - 1
    assert {slot % 1000 for slot in ticks} == {0}
    assert len([slot for slot in ticks if slot < since + 1000 * SECONDS]) in (SECONDS - 1, SECONDS, SECONDS + 1)
    assert beats[: 5 * SECONDS] == [beats[0] + 200 * number for number in range(5 * SECONDS)]


async def _all_there(jobs):
    return len(await jobs.workers()) == PODS
