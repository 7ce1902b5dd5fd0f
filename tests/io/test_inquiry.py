"""Asking servers about themselves."""

from __future__ import annotations

import pytest

from sync_kit import SyncKit, Unavailable


def test_a_server_tells_about_itself(kit, server):
    (inquiry,) = kit.inquiries()
    with inquiry as asked:
        assert asked.info()["tcp_port"] == str(server.port)
        assert asked.setting("maxmemory-policy") == "noeviction"
        assert asked.setting("no-such-setting") is None
        assert asked.cluster_info() is None
        assert asked.info()["role"] == "master", "a refusal does not end the conversation"


def test_in_a_cluster_each_node_is_asked(cluster):
    kit = SyncKit(cluster.url)
    labels = set()
    for inquiry in kit.inquiries():
        with inquiry as asked:
            labels.add(asked.label)
            info = asked.cluster_info() or {}
            assert info["cluster_state"] == "ok"
    assert len(labels) == 3
    kit.close()


def test_the_primary_that_sentinels_name_is_asked(sentinels):
    kit = SyncKit(sentinels.url)
    (inquiry,) = kit.inquiries()
    with inquiry as asked:
        info = asked.info() or {}
        assert info["role"] == "master"
    kit.close()


def test_a_server_that_is_away_is_unavailable_and_no_password_is_told():
    kit = SyncKit("redis://ann:hush@127.0.0.1:1/0")
    (inquiry,) = kit.inquiries()
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1/0 does not answer") as caught, inquiry:
        pass
    assert "hush" not in str(caught.value) + kit.label
    kit.close()


def test_a_server_that_goes_away_is_unavailable(own_server):
    server = own_server()
    kit = SyncKit(server.url)
    (inquiry,) = kit.inquiries()
    with inquiry as asked:
        server.kill()
        with pytest.raises(Unavailable):
            asked.info()
    kit.close()


def test_a_cluster_of_which_nobody_answers_is_unavailable():
    kit = SyncKit("redis+cluster://127.0.0.1:1")
    with pytest.raises(Unavailable, match="no node of the cluster"):
        kit.inquiries()
    kit.close()
