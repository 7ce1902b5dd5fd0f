"""A kit on a cluster is a kit like any other: what clients lend it, and how it is closed, forked and used again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import redis.asyncio.cluster
import redis.cluster
from redis.crc import key_slot

from sync_kit import SyncKit, Unavailable
from sync_kit._io.cluster import Visit
from sync_kit._io.flow import Batch
from tests.io.test_address import current_is_asyncio
from tests.io.tools import COUNT, ECHO, Caller, connections, named, one, run_program, until
from tests.support.cluster import Cluster

pytestmark = pytest.mark.anyio


@pytest.fixture
def place(cluster: Cluster) -> Cluster:
    return cluster


async def use_all_nodes(caller: Any, cluster: Cluster) -> None:
    for number in range(20):
        assert await caller.call(COUNT, 1, key=f"{{{number}}}") == [b"ok"]
    assert all(client.keys("*") for client in cluster.clients())


async def test_a_blocking_client_lends_its_settings_only(place, face, namespace):
    with redis.cluster.RedisCluster(port=place.nodes[0].port, host="127.0.0.1", client_name=namespace) as client:
        async with SyncKit(client=client, namespace=namespace) as kit:
            await use_all_nodes(face(Caller(kit)), place)
            assert connections(place.clients()[1], namespace)
        await anyio.to_thread.run_sync(kit.close)
        assert client.set("{0}", "still works", px=1000)


@pytest.mark.parametrize("by_url", [True, False], ids=["url", "host"])
async def test_an_async_client_lends_its_settings_only(place, face, namespace, by_url):
    port = place.nodes[1].port
    if by_url:
        client = redis.asyncio.cluster.RedisCluster.from_url(f"redis://127.0.0.1:{port}?client_name={namespace}")
    else:
        client = redis.asyncio.cluster.RedisCluster(host="127.0.0.1", port=port, client_name=namespace)
    async with SyncKit(client=client, namespace=namespace) as kit:
        await use_all_nodes(face(Caller(kit)), place)
        assert connections(place.clients()[0], namespace)
    await anyio.to_thread.run_sync(kit.close)
    assert "127.0.0.1" in repr(kit)


async def test_addresses_are_remapped_as_the_client_says(place, face, namespace):
    """Nodes announce 127.0.0.1; the client knows that they are reached by another name."""
    seen: list[tuple[str, int]] = []

    def remap(node: tuple[str, int]) -> tuple[str, int]:
        seen.append(node)
        return "localhost", node[1]

    with redis.cluster.RedisCluster(port=place.nodes[0].port, host="127.0.0.1", address_remap=remap) as client:
        seen.clear()
        async with SyncKit(client=client, namespace=namespace) as kit:
            await use_all_nodes(face(Caller(kit)), place)
            assert {node[1] for node in seen} == {node.port for node in place.nodes}
            assert {host for host, _ in kit._address.nodes} == {"localhost"}  # type: ignore[union-attr]
        await anyio.to_thread.run_sync(kit.close)


async def test_a_closed_kit_has_no_connections_and_may_be_used_again(place, face, namespace):
    kit = SyncKit(named(place.url, namespace), namespace=namespace)

    def left() -> int:
        return sum(len(connections(client, namespace)) for client in place.clients())

    for _ in range(2):
        await use_all_nodes(face(Caller(kit)), place)
        assert await face(Caller(kit)).pop("{nothing}", 0.001) is None
        assert left() >= 3
        await kit.aclose()
        await anyio.to_thread.run_sync(kit.close)
        await until(lambda: left() == 0)


async def test_connections_to_nodes_that_are_gone_are_closed(place, face, namespace):
    """As in clouds, where every restart of a node is a new address."""
    async with SyncKit(named(place.url, namespace), namespace=namespace) as kit:
        await use_all_nodes(face(Caller(kit)), place)
        kit._address.nodes = frozenset()  # type: ignore[union-attr]
        elsewhere = ("localhost", place.nodes[0].port)
        visit: Any = Visit(elsewhere, Batch([]))
        if current_is_asyncio() and not face.blocking:
            assert await kit.driver.run(one(visit)) == []
        else:
            assert await anyio.to_thread.run_sync(kit.thread_driver.perform, visit) == []
        await until(lambda: not any(connections(client, namespace) for client in place.clients()[1:]))
    await anyio.to_thread.run_sync(kit.close)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "uvloop"], indirect=True)
async def test_calls_under_way_end_when_the_kit_is_closed(place, namespace):
    kit = SyncKit(named(place.url, namespace), namespace=namespace)
    caller, ended = Caller(kit), []

    async def ask(number: int) -> None:
        try:
            await caller.call(COUNT, 1, key=f"{{{number}}}")
        except Unavailable:
            ended.append("unavailable")
        else:
            ended.append("answered")

    with anyio.fail_after(3):
        async with anyio.create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(ask, number)
            await anyio.lowlevel.checkpoint()
            await kit.aclose()  # most of them still wait to learn who serves what; some may have been answered
    assert len(ended) == 30, "every call has ended"
    assert "unavailable" in ended
    await until(lambda: not any(connections(client, namespace) for client in place.clients()))


def test_forks_and_further_loops(cluster):
    said = run_program(
        """
from tests.io.tools import COUNT
kit = SyncKit(sys.argv[1])

async def main(by):
    for number in range(9):
        await Caller(kit).call(COUNT, by, key=f"{{{number}}}")

asyncio.run(main(1))
Caller(kit).blocking.call(COUNT, 1, key="{0}")
child = os.fork()
asyncio.run(main(1))
Caller(kit).blocking.call(COUNT, 1, key="{0}")
if child == 0:
    kit.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
kit.close()
print("done")
""",
        cluster.url,
    )
    counts = [cluster.ask(cluster.owner(f"{{{number}}}"), "GET", f"{{{number}}}") for number in range(9)]
    cluster.clear()
    assert said == "done"
    assert counts == [b"6"] + [b"3"] * 8


@pytest.fixture(scope="module")
def single(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """A cluster of one node: it has never heard its own address from another one."""
    with Cluster(pytestconfig.getoption("server"), nodes=1) as started:
        yield started


async def test_a_node_that_announces_no_host_is_where_it_was_asked(single, face, namespace):
    assert single.ask(single.nodes[0], "CLUSTER", "SLOTS")[0][2][0] == b""
    async with SyncKit(single.url, namespace=namespace) as kit:
        assert await face(Caller(kit)).say("found") == "found"
    await anyio.to_thread.run_sync(kit.close)


async def test_a_slot_without_an_owner_is_unavailable_until_it_has_one(single, face, namespace):
    node, slot = single.nodes[0], key_slot(b"{t}")
    single.ask(node, "CONFIG", "SET", "cluster-require-full-coverage", "no")
    single.ask(node, "CLUSTER", "DELSLOTS", slot)
    async with SyncKit(single.url, namespace=namespace) as kit:
        caller = face(Caller(kit))
        assert await caller.call(ECHO, "x", key="{other}") == [b"ok", b"x"]
        with pytest.raises(Unavailable, match=f"no node of the cluster serves slot {slot}.*not carried out"):
            await caller.say("x")
        single.ask(node, "CLUSTER", "ADDSLOTS", slot)

        async def served() -> bool:
            with contextlib.suppress(Unavailable):
                return bool(await caller.say("x"))
            return False

        with anyio.fail_after(5):
            while not await served():
                await anyio.sleep(0.02)
    await anyio.to_thread.run_sync(kit.close)


async def test_without_any_node_calls_end_in_time(face, namespace):
    url = "redis+cluster://127.0.0.1:1,127.0.0.1:2?socket_connect_timeout=0.5"
    async with SyncKit(url, namespace=namespace) as kit:
        for _ in range(3):
            with anyio.fail_after(1), pytest.raises(Unavailable, match="127.0.0.1:1,127.0.0.1:2 is not reachable"):
                await face(Caller(kit)).say("x")
