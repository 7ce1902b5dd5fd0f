"""The servers that tests start for themselves."""

from __future__ import annotations

import os

import pytest
import redis

from tests.support import servers
from tests.support.servers import Server, ServerNotFoundError


def test_it_is_our_own_child(server):
    assert server.client().info("server")["process_id"] == server.pid
    os.kill(server.pid, 0)


def test_killed_without_persistence_it_comes_back_empty_on_the_same_port(own_server):
    mine = own_server()
    port, client = mine.port, mine.client()
    client.set("k", "v")
    mine.kill()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    mine.start()
    assert (mine.port, client.get("k")) == (port, None)


def test_appendonly_survives_a_kill(own_server):
    mine = own_server(appendonly=True)
    mine.client().set("k", "v")
    mine.kill()
    mine.start()
    assert mine.client().get("k") == b"v"


def test_paused_it_does_not_answer_until_resumed(own_server):
    mine = own_server()
    client = mine.client(socket_timeout=0.2)
    mine.pause()
    with pytest.raises(redis.TimeoutError):
        client.ping()
    mine.resume()
    assert client.ping()


def test_a_paused_server_can_be_closed(own_server):
    own_server().pause()


@pytest.mark.parametrize("username", [None, "alice"])
def test_credentials_are_in_the_url(own_server, username):
    mine = own_server(username=username, password="secret")
    assert mine.client().ping()
    assert f"{username or ''}:secret@" in mine.url


def test_the_unix_socket_answers(server):
    if server.socket_path is None:
        pytest.skip("the temporary directory's path is too long")
    with redis.Redis(unix_socket_path=server.socket_path) as client:
        assert client.ping()


def test_a_port_that_somebody_else_has_is_not_taken_for_ours(server, monkeypatch):
    ports = iter([server.port, servers.free_port()])
    monkeypatch.setattr(servers, "free_port", lambda: next(ports))
    with Server() as second:
        assert second.port != server.port
        assert second.client().info("server")["process_id"] == second.pid


def test_a_missing_binary_is_said_plainly(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ServerNotFoundError, match="put redis-server or valkey-server on PATH"):
        servers.find_server("redis")


def test_an_old_server_is_passed_over(tmp_path, monkeypatch):
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.0.16 sha=00000000:0'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(servers, "packaged_valkey", lambda: None)
    assert not servers.new_enough(str(old))
    with pytest.raises(ServerNotFoundError):
        servers.find_server("auto")
