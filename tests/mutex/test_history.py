"""Many processes contend for one mutex and are injured; the history that they leave is one that is allowed.

Proven of each run: no two live leases of a resource overlap; fences grow; a stale fence is refused by the register that
the leases protect, and whoever was refused is told of the loss; everybody comes in again after each injury; no key but
the fence is left.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

import pytest

from tests.mutex.contender import LONG, TTL
from tests.mutex.crew import SOON, Crew, Member
from tests.mutex.history import Row, violations
from tests.mutex.tools import wait_until
from tests.support.proxy import Proxy

PROCESSES = 5
LEAST = 50
"""Sections of a whole run: even a slow machine has several times as many."""


@pytest.fixture
def crew(tmp_path, server, proxy, namespace) -> Iterator[Crew]:
    """Three processes that talk to Redis directly, and two that do so through the proxy."""
    with Crew(tmp_path, namespace) as made:
        for long in ("thread", "-", "-"):
            made.start(server.url, long)
        for long in ("task", "thread"):
            made.start(proxy.url, long)
        yield made


def kill(crew: Crew, proxy: Proxy) -> None:
    """SIGKILL, twice of somebody inside: its resource is free when its lease is over."""
    for resource in (LONG, "a"):
        member, last = crew.inside(Member.kill, on(resource))
        crew.bury(member)
        wait_for(crew, last, follows)
        crew.start(proxy.server.url, "task")
        crew.goes_on()


def stop(crew: Crew, proxy: Proxy) -> None:
    """SIGSTOP of somebody inside, until somebody else is: what it writes then is refused."""
    for resource in ("a", LONG, "b"):
        member, last = crew.inside(Member.stop, on(resource))
        wait_for(crew, last, follows)
        member.resume()
        wait_for(crew, last, refused)
        crew.goes_on()


def delay(crew: Crew, proxy: Proxy) -> None:
    """The network of some is slow, and slow by turns."""
    for seconds in (0.02, 0.0, 0.02, 0.005):
        proxy.delay = seconds
        crew.goes_on()
        time.sleep(0.7)


def drop_replies(crew: Crew, proxy: Proxy) -> None:
    """What some ask is done, and they do not hear of it."""

    def drop(*_: Member) -> None:
        proxy.drop_replies = True

    drop()
    time.sleep(TTL / 2)
    mend(proxy)
    crew.goes_on()
    lose_the_lease(crew, proxy, drop)


def black_hole(crew: Crew, proxy: Proxy) -> None:
    """Nothing reaches anybody on the other side."""
    proxy.black_hole()
    time.sleep(TTL / 2)
    mend(proxy)
    crew.goes_on()
    lose_the_lease(crew, proxy, lambda _: proxy.black_hole())


def cut(crew: Crew, proxy: Proxy) -> None:
    """All connections break, again and again; then connecting is refused."""
    dice = random.Random(5)
    for _ in range(12):
        proxy.cut()
        time.sleep(dice.uniform(0.01, 0.3))
    crew.goes_on()
    lose_the_lease(crew, proxy, lambda _: proxy.refuse())


def lose_the_lease(crew: Crew, proxy: Proxy, injure: Callable[[Member], object]) -> None:
    """Injure the proxy while somebody behind it needs a renewal: they see the loss, and the others go on meanwhile."""
    distant = proxied(crew)
    names = {member.name for member in distant}
    _, last = crew.inside(injure, lambda row: (row.kind, row.resource) == ("enter", LONG) and row.process in names)
    wait_for(crew, last, lost)
    wait_for(crew, last, follows)
    crew.goes_on(crew.others(*distant))
    mend(proxy)
    crew.goes_on()


def proxied(crew: Crew) -> list[Member]:
    """Those behind the proxy."""
    return list(crew.members.values())[3:]


def mend(proxy: Proxy) -> None:
    """Heal, but on new connections only: no network loses bytes in the middle of a stream and then goes on with it."""
    proxy.refuse()
    proxy.heal()


def on(resource: str) -> Callable[[Row], bool]:
    """Whether a row is about `resource`."""
    return lambda row: row.resource == resource


def wait_for(crew: Crew, last: Row, what: Callable[[Row, Row], bool]) -> None:
    """Wait for a row after `last` of which `what(row, last)` is true."""
    wait_until(lambda: any(what(row, last) for row in crew.register.rows(last.number)), SOON)


def follows(row: Row, last: Row) -> bool:
    """Somebody else came into the resource."""
    return row.kind == "enter" and row.resource == last.resource and row.fence > last.fence


def refused(row: Row, last: Row) -> bool:
    """The same section wrote with a stale fence."""
    return row.section == last.section and row.accepted is False


def lost(row: Row, last: Row) -> bool:
    """The same section saw that its lease was lost."""
    return row.section == last.section and row.kind == "lost"


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
