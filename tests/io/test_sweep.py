"""Tests clean up behind themselves: the keys of one namespace go, and no others."""

from __future__ import annotations

import pytest

from sync_kit import RateLimiter, SyncKit, Unavailable
from tests.support.cluster import Cluster


@pytest.mark.parametrize("namespace", ["shop", "a*c", "what?", "[ab]", "back\\slash", "-"])
def test_the_keys_of_the_namespace_go_and_no_others(server, namespace):
    client = server.client()
    kits = [SyncKit(server.url, namespace=name) for name in (namespace, namespace + "2", "abc", "a")]
    for kit in kits:
        RateLimiter("api", limit=1, window=60, kit=kit).blocking.check("user")
    before = client.dbsize()
    assert kits[0].sweep() == before // len(kits)
    assert client.dbsize() == before - before // len(kits)
    assert kits[0].sweep() == 0
    for kit in kits:
        kit.close()


def test_thousands_of_keys_go(kit, server):
    client = server.client()
    with client.pipeline() as pipeline:
        for number in range(3000):
            pipeline.set(f"{kit.namespace}:{number}", 1)
        pipeline.execute()
    assert kit.sweep() == 3000
    assert client.dbsize() == 0


def test_they_go_from_every_node_of_a_cluster(cluster: Cluster, namespace):
    kit = SyncKit(cluster.url, namespace=namespace)
    limiter = RateLimiter("api", limit=1, window=60, kit=kit)
    for number in range(20):
        limiter.blocking.check(f"user:{number}")
    kept = SyncKit(cluster.url, namespace=f"{namespace}-kept")
    RateLimiter("api", limit=1, window=60, kit=kept).blocking.check("user")
    assert kit.sweep() >= 20
    assert kit.sweep() == 0
    assert kept.sweep() > 0
    kit.close()
    kept.close()


def test_a_server_that_is_away_is_said_to_be():
    with pytest.raises(Unavailable, match="could not all be removed"):
        SyncKit("redis://127.0.0.1:1").sweep()
