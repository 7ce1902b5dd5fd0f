"""Calls find the node that serves their key, wherever it goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from sync_kit import RateLimiter, ServerError, SyncKit, Unavailable
from sync_kit._io.flow import Batch, Eval, Pop
from sync_kit._io.scripts import Script
from tests.io.test_address import current_is_asyncio
from tests.io.tools import COUNT, ECHO, PUSH, Caller, connections, named, one, until, within
from tests.support.cluster import Cluster
from tests.support.servers import Server

pytestmark = pytest.mark.anyio

PAIR = Script(
    "pair",
    "-- pair: of the tests\n-- KEYS: one two\n-- ARGV: value\n-- returns: ok\n\n"
    "redis.call('SET', KEYS[1], ARGV[1], 'PX', 60000)\nredis.call('SET', KEYS[2], ARGV[1], 'PX', 60000)\n"
    "return {'ok'}\n",
)


@pytest.fixture
def place(cluster: Cluster) -> Cluster:
    return cluster


@pytest.fixture
def tags(cluster: Cluster) -> list[str]:
    """A hash tag for each node, in the order of `cluster.nodes`."""
    found: dict[Server, str] = {}
    for number in range(100):
        found.setdefault(cluster.owner(f"{{tag{number}}}"), f"{{tag{number}}}")
        if len(found) == len(cluster.nodes):
            break
    return [found[node] for node in cluster.nodes]


def count(key: str, by: int = 1, **options: Any) -> Eval:
    return Eval(COUNT, (key,), (by,), **options)


def replies(node: Server, cluster: Cluster, word: str) -> int:
    """How often a node has replied with an error of that name."""
    stats: Any = cluster.clients()[cluster.nodes.index(node)].info("errorstats")
    return int(stats.get(f"errorstat_{word}", {"count": 0})["count"])


async def test_each_node_is_asked_on_one_connection_of_a_loop(cluster, namespace, tags):
    async with SyncKit(named(cluster.url, namespace), namespace=namespace) as kit:
        async with anyio.create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(kit.driver.run, one(count(f"{tags[number % 3]}:{number}")))
        for node, client in zip(cluster.nodes, cluster.clients(), strict=True):
            assert len(client.keys("*")) == 10
            if current_is_asyncio():
                assert len(connections(client, namespace)) == 1, node


async def test_a_moved_slot_is_followed_and_learnt(driver, cluster, tags):
    key = f"{tags[0]}:a"
    await driver(count(key))
    source, target = cluster.nodes[0], cluster.nodes[1]
    cluster.move(key, target)
    before = replies(source, cluster, "MOVED")
    for _ in range(3):
        await driver(count(key))  # without an id: MOVED says that it was not carried out
    assert cluster.ask(target, "GET", key) == b"4"
    assert replies(source, cluster, "MOVED") == before + 1


async def test_a_slot_under_way_is_asked_for_where_its_key_is(driver, cluster, tags):
    stays, goes = f"{tags[0]}:stays", f"{tags[0]}:goes"
    await driver(count(stays))
    source, target = cluster.begin_move(stays, cluster.nodes[1]), cluster.nodes[1]
    before = replies(source, cluster, "ASK")
    for _ in range(2):
        await driver(count(stays))
        await driver(count(goes))
        assert await driver(Pop((f"{tags[0]}:list",), 0.01)) is None
    assert replies(source, cluster, "ASK") == before + 4, "pointing there is not learnt"
    assert cluster.ask(source, "GET", stays) == b"3"
    cluster.move_keys(stays, source, target)
    cluster.end_move(stays, source, target)
    assert [cluster.ask(target, "GET", key) for key in (stays, goes)] == [b"3", b"2"]
    await driver(Eval(PUSH, (f"{tags[0]}:list",), ("x",)))
    assert await driver(Pop((f"{tags[0]}:list",), 1)) == b"x"


async def test_a_call_whose_keys_are_split_waits_and_is_then_not_carried_out(driver, cluster, tags, monkeypatch):
    monkeypatch.setattr("sync_kit._io.cluster.REDIRECTIONS", 4)
    both = (f"{tags[0]}:one", f"{tags[0]}:two")
    await driver(count(both[0]))
    source = cluster.begin_move(both[0], cluster.nodes[1])
    with pytest.raises(Unavailable, match=f"pair on '{both[0]}'.*not carried out"):
        await driver(Eval(PAIR, both, ("x",)))
    assert cluster.ask(source, "GET", both[0]) == b"1"
    cluster.move_keys(both[0], source, cluster.nodes[1])
    cluster.end_move(both[0], source, cluster.nodes[1])
    assert await driver(Eval(PAIR, both, ("y",))) == [b"ok"]


async def test_a_split_call_goes_on_when_the_move_has_ended(kit, face, cluster, tags):
    both = (f"{tags[0]}:one", f"{tags[0]}:two")
    caller = face(Caller(kit))
    await caller.call(COUNT, 1, key=both[0])
    source, target, answers = cluster.begin_move(both[0], cluster.nodes[1]), cluster.nodes[1], []

    async def ask() -> None:
        answers.append(await caller.run(one(Eval(PAIR, both, ("x",)))))

    before = replies(source, cluster, "TRYAGAIN")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await until(lambda: replies(source, cluster, "TRYAGAIN") > before)
        cluster.move_keys(both[0], source, target)
        cluster.end_move(both[0], source, target)
    assert answers == [[b"ok"]]


async def test_scripts_are_taught_to_each_node(driver, cluster, tags):
    for _ in range(2):
        cluster.ask_all("SCRIPT", "FLUSH")
        for tag in tags:
            assert await driver(Eval(ECHO, (tag,), (tag,))) == [b"ok", tag.encode()]


async def test_a_batch_asks_every_node_and_answers_in_order(driver, cluster, tags):
    calls = [count(f"{tags[number % 3]}:n{number}", number) for number in range(12)]
    assert await driver(Batch(calls)) == [[b"ok"]] * 12
    values = [cluster.ask(cluster.nodes[number % 3], "GET", f"{tags[number % 3]}:n{number}") for number in range(12)]
    assert values == [str(number).encode() for number in range(12)]
    echoes = [Eval(ECHO, (tags[number % 3],), (number,)) for number in range(12)]
    assert await driver(Batch(echoes)) == [[b"ok", str(number).encode()] for number in range(12)]
    assert await driver(Batch([])) == []


async def test_a_batch_survives_moved_slots_unknown_scripts_and_errors(driver, cluster, tags):
    first = f"{tags[0]}:a"
    await driver(Batch([count(f"{tag}:a") for tag in tags]))
    cluster.move(first, cluster.nodes[1])
    cluster.ask(cluster.nodes[1], "SCRIPT", "FLUSH")
    wrong = Eval(PUSH, (f"{tags[2]}:a",), ("x",))
    answers = await driver(Batch([count(f"{tags[1]}:a"), count(first), wrong, count(f"{tags[2]}:a"), count(first)]))
    assert isinstance(answers.pop(2), ServerError)
    assert answers == [[b"ok"]] * 4
    assert cluster.ask(cluster.nodes[1], "GET", first) == b"3"
    assert cluster.ask(cluster.nodes[2], "GET", f"{tags[2]}:a") == b"2"


async def test_a_limit_is_exact_while_its_slot_moves(kit, face, cluster):
    limiter = RateLimiter("api", limit=150, window=60, kit=kit)
    decisions: list[bool] = []

    async def ask() -> None:
        while len(decisions) < 300 and (moving or len(decisions) < 200):
            decisions.append((await face(limiter).check("user")).allowed)

    await face(limiter).check("user")
    key = next(bytes(key).decode() for client in cluster.clients() for key in client.keys("*"))
    moving = True
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(ask)
        for turn in range(12):
            target = cluster.nodes[turn % 3]
            if target is not cluster.owner(key):
                source = cluster.begin_move(key, target)
                await anyio.sleep(0.01)
                cluster.move_keys(key, source, target)
                await anyio.sleep(0.01)
                cluster.end_move(key, source, target)
        moving = False
    assert len(decisions) >= 200
    assert 1 + sum(decisions) == 150


@pytest.fixture(scope="module")
def frail(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """A cluster whose nodes may die; the others go on."""
    with Cluster(pytestconfig.getoption("server"), "--cluster-require-full-coverage", "no") as started:
        yield started


async def test_when_a_node_dies_its_keys_are_unavailable_and_the_others_go_on(frail, face, namespace):
    url = f"{frail.url}?socket_connect_timeout=1"
    dead = frail.nodes[0]
    keys = {frail.owner(f"{{{number}}}"): f"{{{number}}}" for number in range(50)}
    async with SyncKit(url, namespace=namespace) as kit:
        caller = face(Caller(kit, deadline=0.5))
        for key in keys.values():
            await caller.call(ECHO, "x", key=key)
        dead.kill()
        asked = sum(slots_asked(frail, node) for node in frail.others(dead))
        with within(4):
            for _ in range(40):
                with pytest.raises(Unavailable, match=f"127.0.0.1:{dead.port}"):
                    await caller.call(ECHO, "x", key=keys[dead])
                for node in frail.others(dead):
                    assert await caller.call(ECHO, "y", key=keys[node]) == [b"ok", b"y"]
        assert sum(slots_asked(frail, node) for node in frail.others(dead)) - asked <= 8, "an outage is no storm"
        answers = await caller.run(one(Batch([Eval(ECHO, (key,), ("z",), deadline=0.5) for key in keys.values()])))
        assert {type(answer) for answer in answers} == {list, Unavailable}
        dead.start()

        async def again() -> bool:
            try:
                return bool(await caller.call(ECHO, "x", key=keys[dead]))
            except Unavailable:
                return False

        with anyio.fail_after(15):
            while not await again():
                await anyio.sleep(0.05)
    await anyio.to_thread.run_sync(kit.close)


@pytest.fixture(scope="module")
def doubled(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """A cluster whose first node has a replica; a dead primary is noticed soon."""
    with Cluster(pytestconfig.getoption("server"), node_timeout=600) as started:
        started.follow(started.join(), started.nodes[0])
        yield started


async def test_when_a_replica_is_promoted_its_keys_are_served_again(doubled, face, namespace):
    """Nobody says MOVED: the primary is dead. Asking the others again finds its successor."""
    key = next(f"{{{number}}}" for number in range(50) if doubled.owner(f"{{{number}}}") in doubled.pair)
    old = doubled.owner(key)
    async with SyncKit(f"{doubled.url}?socket_connect_timeout=1", namespace=namespace) as kit:
        caller = face(Caller(kit, deadline=0.5))
        await caller.call(ECHO, "x", key=key)
        old.kill()

        async def served() -> bool:
            try:
                return bool(await caller.call(ECHO, "x", key=key))
            except Unavailable:
                return False

        assert not await served()
        with anyio.fail_after(15):
            while not await served():
                await anyio.sleep(0.02)
        assert doubled.owner(key) is not old
        await anyio.to_thread.run_sync(old.start)
        await anyio.to_thread.run_sync(doubled.follow, old, doubled.owner(key))
    await anyio.to_thread.run_sync(kit.close)


def slots_asked(cluster: Cluster, node: Server) -> int:
    stats: Any = cluster.clients()[cluster.nodes.index(node)].info("commandstats")
    return int(stats.get("cmdstat_cluster|slots", {"calls": 0})["calls"])
