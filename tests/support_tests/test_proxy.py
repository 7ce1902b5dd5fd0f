"""The proxy that makes the network slow, deaf or broken."""

from __future__ import annotations

import socket
import time

import pytest
import redis

from tests.support.ticks import elapsed


@pytest.fixture
def client(proxy):
    with redis.Redis.from_url(proxy.url, socket_timeout=0.3, retry=None) as made:
        yield made


def test_an_honest_proxy_forwards(client, proxy):
    client.set("k", b"x" * 500_000, px=5000)
    assert client.get("k") == b"x" * 500_000
    assert (proxy.connections, proxy.accepted) == (1, 1)


def test_a_delay_is_paid_once_in_each_direction(client, proxy):
    client.ping()
    proxy.delay = 0.05
    start, began = time.monotonic(), elapsed()
    client.ping()
    assert time.monotonic() - start >= 0.1
    assert elapsed() - began < 0.25


def test_dropped_replies_hide_what_the_server_did(client, proxy, server):
    client.ping()
    proxy.drop_replies = True
    with pytest.raises(redis.TimeoutError):
        client.set("k", "v", px=5000)
    assert server.client().get("k") == b"v"


def test_a_black_hole_swallows_both_directions(client, proxy, server):
    client.ping()
    proxy.black_hole()
    with pytest.raises(redis.TimeoutError):
        client.set("k", "v", px=5000)
    assert server.client().get("k") is None


def test_a_cut_closes_what_is_open_and_welcomes_what_comes(client, proxy):
    client.ping()
    proxy.cut()
    assert proxy.connections == 0
    assert client.ping()
    assert (proxy.connections, proxy.accepted) == (1, 2)


def test_a_connection_that_is_cut_as_soon_as_it_is_accepted_is_closed(proxy, monkeypatch):
    """Its session has not begun to run then."""
    accept = proxy._accept

    def accept_and_cut(*streams):
        accept(*streams)
        for session in proxy._sessions:
            session.cancel()

    monkeypatch.setattr(proxy, "_accept", accept_and_cut)
    proxy.refuse()
    proxy.heal()
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=2) as made:
        assert made.recv(1) == b""


def test_refused_until_healed(client, proxy):
    proxy.refuse()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    proxy.heal()
    assert client.ping()


def test_it_hangs_up_when_the_server_is_gone(own_server):
    from tests.support.proxy import Proxy

    mine = own_server()
    with Proxy(mine) as proxy, redis.Redis.from_url(proxy.url, retry=None) as client:
        client.ping()
        mine.kill()
        with pytest.raises(redis.ConnectionError):
            client.ping()
