"""One limit for many processes, whatever their clocks say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sync_kit import RateLimiter

ROOT = Path(__file__).resolve().parents[2]

CHILD = """
import asyncio, json, sys, time
url, namespace, skew = sys.argv[1], sys.argv[2], float(sys.argv[3])
true_time, true_ns = time.time, time.time_ns
time.time = lambda: true_time() + skew
time.time_ns = lambda: true_ns() + int(skew * 1e9)

from sync_kit import RateLimiter, SyncKit

async def main():
    async with SyncKit(url, namespace=namespace) as kit:
        limiter = RateLimiter("api", limit=100, window=3600, kit=kit)
        await limiter.peek("everybody")
        print("ready", flush=True)
        sys.stdin.readline()
        decisions = await asyncio.gather(*(limiter.check("everybody") for _ in range(50)))
        print(json.dumps([[d.allowed, d.retry_after] for d in decisions]))

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "skews",
    [(0, 0, 0, 0), (0, 60, -60, 60), (0, 86_400, -86_400, -1_000_000_000)],
    ids=["same clocks", "a minute apart", "days and years apart"],
)
def test_200_checks_from_4_processes_admit_exactly_the_limit(server, kit, namespace, skews):
    children = [child(server.url, namespace, skew) for skew in skews]
    for running in children:
        assert running.stdout.readline() == "ready\n"
    for running in children:
        running.stdin.write("go\n")
        running.stdin.flush()
    answers = [answer for running in children for answer in json.loads(running.communicate(timeout=20)[0])]
    assert len(answers) == 200
    assert sum(allowed for allowed, _ in answers) == 100
    assert all(3600 - 5 < wait <= 3780 for allowed, wait in answers if not allowed)
    assert RateLimiter("api", limit=100, window=3600, kit=kit).blocking.check("everybody").limited


def child(url, namespace, skew):
    command = [sys.executable, "-c", CHILD, url, namespace, str(skew)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
