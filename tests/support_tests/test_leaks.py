"""The checks that fail a test which leaves something behind."""

from __future__ import annotations

import threading

from tests.support.leaks import leaked_keys, leaked_threads
from tests.support.structural import structural


def test_only_keys_without_ttl_that_are_not_structural_leak(server):
    client = server.client()
    client.set("shop:q:{mail}:ready", "listed")
    client.set("shop:rl:{api}:x", "expires", px=5000)
    client.set("shop:rl:{api}:y", "leaks")
    assert leaked_keys(client) == ["shop:rl:{api}:y"]
    client.delete("shop:rl:{api}:y")


def test_every_test_starts_on_an_empty_server(server):
    assert server.client().dbsize() == 0


def test_the_list_is_about_whole_keys():
    assert structural("shop:mx:{reports:7}:fence")
    assert not structural("shop:mx:{reports:7}:fence:more")
    assert not structural("shop:q:mail:ready")


def test_a_thread_that_does_not_end_leaks():
    before, stop = threading.enumerate(), threading.Event()
    thread = threading.Thread(target=stop.wait, name="forgotten")
    thread.start()
    assert leaked_threads(before, patience=0.05) == ["forgotten"]
    stop.set()
    thread.join()
    assert leaked_threads(before) == []


def test_a_daemon_thread_may_stay():
    before, stop = threading.enumerate(), threading.Event()
    thread = threading.Thread(target=stop.wait, daemon=True)
    thread.start()
    assert leaked_threads(before, patience=0.05) == []
    stop.set()
    thread.join()
