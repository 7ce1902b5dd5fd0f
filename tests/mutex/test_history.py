"""Many processes contend for one mutex and are injured; the history that they leave is one that is allowed.

Proven of each run: no two live leases of a resource overlap; fences grow; a stale fence is refused by the register that
the leases protect, and whoever was refused is told of the loss; everybody comes in again after each injury; no key but
the fence is left.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.mutex.contender import TTL
from tests.mutex.crew import SOON, Crew
from tests.mutex.history import Row, violations
from tests.mutex.tools import wait_until
from tests.support.proxy import Proxy

PROCESSES = 5
LEAST = 100
"""Sections of a whole run: even a slow machine has several times as many."""


@pytest.fixture
def crew(tmp_path, server, proxy, namespace) -> Iterator[Crew]:
    """Three processes that talk to Redis directly, and two that do so through the proxy."""
    with Crew(tmp_path, namespace) as made:
        for number in range(PROCESSES):
            made.start((server if number < 3 else proxy).url)
        yield made


def proxied(crew: Crew) -> list[Any]:
    return list(crew.members.values())[3:]


def kill(crew: Crew, proxy: Proxy) -> None:
    """SIGKILL, three times of somebody inside: its resource is free when its lease is over."""
    for _ in range(3):
        member, last = crew.inside(signal.SIGKILL)
        crew.bury(member)
        somebody_follows(crew, last)
        crew.start(proxy.server.url)
        crew.goes_on()


def stop(crew: Crew, proxy: Proxy) -> None:
    """SIGSTOP of somebody inside, until somebody else is: what it writes then is refused."""
    for _ in range(2):
        member, last = crew.inside(signal.SIGSTOP)
        somebody_follows(crew, last)
        member.injure(signal.SIGCONT)
        wait_until(lambda: any(refused(row, last) for row in crew.register.rows(last.number)), SOON)
        crew.goes_on()


def delay(crew: Crew, proxy: Proxy) -> None:
    """The network of some is slow, and slow by turns."""
    for seconds in (0.02, 0.0, 0.02, 0.005):
        proxy.delay = seconds
        crew.goes_on()
        time.sleep(0.7)


def drop_replies(crew: Crew, proxy: Proxy) -> None:
    """What some ask is done, and they do not hear of it: for longer than a lease lives."""
    for seconds in (0.3, 1.2, 2.5):
        proxy.drop_replies = True
        healthy_go_on(crew, seconds)
        proxy.heal()
        crew.goes_on()


def black_hole(crew: Crew, proxy: Proxy) -> None:
    """Nothing reaches anybody on the other side: for longer than a lease lives, and than a waiter is believed in."""
    for seconds in (1.2, 2.5):
        proxy.black_hole()
        healthy_go_on(crew, seconds)
        proxy.heal()
        crew.goes_on()


def cut(crew: Crew, proxy: Proxy) -> None:
    """All connections break, again and again; then connecting is refused for longer than a lease lives."""
    dice = random.Random(5)
    for _ in range(12):
        proxy.cut()
        time.sleep(dice.uniform(0.01, 0.3))
    crew.goes_on()
    proxy.refuse()
    healthy_go_on(crew, 1.2)
    proxy.heal()
    crew.goes_on()


def healthy_go_on(crew: Crew, seconds: float) -> None:
    """Who is not behind the proxy comes in during the injury, which lasts at least this long."""
    until = time.monotonic() + seconds
    crew.goes_on(crew.others(*proxied(crew)))
    time.sleep(max(0.0, until - time.monotonic()))


def somebody_follows(crew: Crew, last: Row) -> None:
    """Somebody else comes into the section that was left by nobody."""
    wait_until(lambda: any(follows(row, last) for row in crew.register.rows(last.number)), SOON)


def follows(row: Row, last: Row) -> bool:
    return row.kind == "enter" and row.resource == last.resource and row.fence > last.fence


def refused(row: Row, last: Row) -> bool:
    return row.section == last.section and row.accepted is False


@pytest.mark.parametrize("injure", [kill, stop, delay, drop_replies, black_hole, cut])
def test_the_history_of_injured_processes_is_allowed(
    crew: Crew, proxy: Proxy, namespace: str, injure: Callable[[Crew, Proxy], None]
) -> None:
    crew.goes_on()
    injure(crew, proxy)
    crew.end()
    wait_until(lambda: left(proxy, namespace) == [f"{namespace}:mx:{{reports}}:fence"], TTL + 5)
    rows = crew.register.rows()
    assert violations(rows) == []
    assert sum(row.kind == "enter" for row in rows) >= LEAST


def left(proxy: Proxy, namespace: str) -> list[str]:
    """The keys that are on the server."""
    with proxy.server.client() as client:
        return sorted(str(key, "ascii") for key in client.keys(f"{namespace}:*"))
