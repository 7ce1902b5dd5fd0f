"""Keys of people: whatever a client writes into its headers, it never chooses whom it is counted as."""

from __future__ import annotations

import copy
import pickle
from ipaddress import ip_address, ip_network
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sync_kit import ConfigurationError
from sync_kit.ratelimit import addresses as module
from sync_kit.ratelimit.addresses import (
    MAX_ENTRY,
    MAX_HOPS,
    TrustedProxies,
    client_address,
    group_address,
    hashed,
)

PROXY, CLIENT, FORGED = "10.0.0.1", "203.0.113.9", "6.6.6.6"
NETWORKS = ["10.0.0.0/8", "2001:db8:f::/48"]
XFF, FORWARDED = TrustedProxies(NETWORKS), TrustedProxies(NETWORKS, header="forwarded")

odd = st.sampled_from(
    [*'",;=[]:%\\ \t\n\0_', "for=", "For=", "unknown", "\ud800", "\xa0", "\u0661", FORGED, PROXY, "::1"]
)
forged = st.lists(odd | st.text(st.characters(), max_size=3), max_size=12).map("".join)
proxies = st.sampled_from(["10.0.0.1", "10.255.255.255", "2001:db8:f::1", "::ffff:10.9.8.7"])
clients = st.sampled_from([CLIENT, "2001:db8::7", "2001:db8:e:ffff::", "::ffff:203.0.113.9", "11.0.0.0"])


def walked(*lines: str, peer: str | None = PROXY, trusted: TrustedProxies = XFF) -> str:
    """The client of a request with these lines of the header that `trusted` names, and a forged other one."""
    return client_address(
        peer, trusted, lambda name: list(lines) if name == trusted.header else [FORGED, "for=6.6.6.6"]
    )


def unread(name: str) -> Any:
    """A header that nobody may look at."""
    pytest.fail(f"{name} was read")


def plain(text: str) -> str:
    """An address of these tests as it is counted."""
    return text.removeprefix("::ffff:")


def quoted(text: str) -> str:
    """A quoted-string of RFC 9110."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Counted(str):
    """A header that counts how many of its characters are read."""

    read = 0

    def __getitem__(self, index: Any) -> str:
        part = super().__getitem__(index)
        self.read += len(part)
        return part


# the peer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:201", "192.0.2.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("testclient", "testclient"),
        ("010.0.0.1", "010.0.0.1"),
        ("\ud800", "\ud800"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_without_trusted_proxies_the_peer_is_counted_and_no_header_is_read(peer, expected):
    assert client_address(peer, None, unread) == expected
    assert client_address(peer) == expected


@pytest.mark.parametrize("peer", ["11.0.0.1", "2001:db8:e::1", "testclient", "unix", "unknown", "", None, "10.0.0.1.5"])
def test_the_headers_of_a_peer_that_is_not_trusted_are_not_read(peer):
    assert client_address(peer, XFF, unread) == (peer or "unknown")


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8:f::1", "2001:db8:f::1%eth0"])
def test_a_trusted_peer_is_recognised_in_every_spelling(peer):
    assert walked(CLIENT, peer=peer) == CLIENT


@pytest.mark.parametrize("peer", ["", None])
def test_a_unix_socket_is_trusted_by_its_word_only(peer):
    assert walked(CLIENT, peer=peer, trusted=TrustedProxies("unix")) == CLIENT
    assert walked(peer=peer, trusted=TrustedProxies("unix")) == "unknown"
    assert walked(CLIENT, peer=peer, trusted=TrustedProxies("127.0.0.1")) == "unknown"
    assert walked(CLIENT, peer="testclient", trusted=TrustedProxies("unix")) == "testclient"


@given(header=forged)
@example(header=CLIENT)
def test_with_an_untrusted_peer_the_answer_never_depends_on_headers(header):
    for trusted in [XFF, FORWARDED, TrustedProxies([]), TrustedProxies("unix")]:
        assert client_address("192.0.2.1", trusted, lambda _: [header]) == "192.0.2.1"


# the walk ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], PROXY),
        ([CLIENT], CLIENT),
        ([f"{FORGED}, {CLIENT}"], CLIENT),
        ([f"{FORGED},{CLIENT},10.0.0.2 ,\t10.0.0.3"], CLIENT),
        ([FORGED, CLIENT], CLIENT),
        ([FORGED, f"{CLIENT}, 10.0.0.2", "10.0.0.3"], CLIENT),
        (["10.0.0.4, 10.0.0.3", "10.0.0.2"], "10.0.0.4"),
        ([f"{FORGED}, garbage, 10.0.0.2"], "10.0.0.2"),
        ([f"{FORGED}, garbage"], PROXY),
        ([f"{FORGED}, unknown, 10.0.0.2"], "10.0.0.2"),
        ([f"{FORGED}, , 10.0.0.2"], "10.0.0.2"),
        ([f"{FORGED},"], PROXY),
        ([FORGED, ""], PROXY),
        ([f',{FORGED}," , {CLIENT}'], CLIENT),
        ([f'"{FORGED}, {CLIENT}"'], PROXY),
    ],
)
def test_x_forwarded_for_is_walked_from_the_right_to_the_first_address_that_is_not_trusted(lines, expected):
    assert walked(*lines) == expected


def test_one_text_is_one_line():
    assert client_address(PROXY, XFF, lambda _: f"{FORGED}, {CLIENT}") == CLIENT


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("203.0.113.9:56", CLIENT),
        ("203.0.113.9:_port", CLIENT),
        ("[2001:DB8::7]", "2001:db8::7"),
        ("[2001:db8::7]:80", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
        ("::ffff:203.0.113.9", CLIENT),
        ("[::ffff:203.0.113.9]:80", CLIENT),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%\0\ud800]:80", "fe80::1"),
        (" \t203.0.113.9\t ", CLIENT),
    ],
)
def test_an_entry_may_have_brackets_a_port_or_a_zone(entry, expected):
    assert walked(f"{FORGED}, {entry}") == expected
    assert walked(f"for={FORGED}, for={quoted(entry)}", trusted=FORWARDED) == expected


@pytest.mark.parametrize(
    "entry",
    [
        *"unknown _hidden _hidden:80 - unix: localhost * 6 0x6 6.6.6 06.6.6.6 6.6.6.6/32 6.6.6.6%eth0 6.6.6.6;".split(),
        *"6.6.6.6: 6.6.6.6:x 6.6.6.6:123456 [6.6.6.6 6.6.6.6] [::6 ::6] [] []:80 [[::6]] [::6]x [::6]:8:8".split(),
        *["", " ", ":", "::6%", "[::6%x]:8]", "::6:7::8", "\u0666.6.6.6", "6.6.6.6:\u0666", "\xe9", "\ud800"],
        *["6.6.6.6 6.6.6.6", "6.6.6.6\0", "6.6.6.6\xa0", "6.6.6.6\n", "6" * 10**6, "6.6.6.6" + " " * 10**6],
    ],
    ids=lambda entry: ascii(entry)[:20],
)
def test_an_entry_without_an_address_ends_the_walk_at_the_proxy_that_reported_it(entry):
    assert walked(f"{FORGED}, {entry}, 10.0.0.2") == "10.0.0.2"
    assert walked(FORGED, f"for={FORGED}, for={quoted(entry)}, for=10.0.0.2", trusted=FORWARDED) == "10.0.0.2"


@given(lines=st.lists(forged, max_size=4), peer=st.none() | forged | proxies)
def test_nothing_in_a_header_raises(lines, peer):
    for header in ("x-forwarded-for", "forwarded"):
        trusted = TrustedProxies([*NETWORKS, "unix"], header=header)
        assert group_address(walked(*lines, peer=peer, trusted=trusted))


@given(chain=st.lists(proxies | clients, min_size=1, max_size=6), cuts=st.lists(st.booleans(), min_size=6, max_size=6))
def test_the_walk_is_the_one_of_a_plain_model(chain, cuts):
    untrusted = [hop for hop in chain if not plain(hop).startswith(("10.", "2001:db8:f:"))]
    text = "".join(f"{'|' if cut else ', '}{hop}" for hop, cut in zip(chain, cuts, strict=False)).lstrip("|, ")
    assert walked(*text.split("|")) == plain(untrusted[-1] if untrusted else chain[0])


@given(lines=st.lists(forged, max_size=2), left=forged, client=clients, hops=st.lists(proxies, max_size=3))
@example(lines=['"'], left='"', client=CLIENT, hops=[])
def test_what_a_client_puts_on_the_left_never_changes_whom_it_is_counted_as(lines, left, client, hops):
    assert walked(*lines, ",".join([left, client, *hops])) == plain(client)


@given(left=forged, client=clients, host=forged, hops=st.lists(st.tuples(proxies, forged), max_size=3))
@example(left='for="', client=CLIENT, host='a", for=6.6.6.6;x="', hops=[(PROXY, "\\")])
@example(left="\\", client=CLIENT, host="", hops=[])
def test_in_forwarded_neither_quotes_on_the_left_nor_a_forged_host_change_it(left, client, host, hops):
    said = [f"host={quoted(name)};for={quoted(f'[{hop}]:80')}" for hop, name in [(client, host), *hops]]
    assert walked(left, ", ".join([left, *said]), trusted=FORWARDED) == plain(client)


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        ("for=203.0.113.9", CLIENT),
        ("FOR=203.0.113.9;proto=https", CLIENT),
        ("proto=https; For=203.0.113.9 ;by=10.0.0.1", CLIENT),
        (";;for=203.0.113.9;", CLIENT),
        ('for="203.0.113.9"', CLIENT),
        ('for="203.0.113.\\9"', CLIENT),
        ('host="a,b;for=6.6.6.6";for=203.0.113.9', CLIENT),
        ('for=203.0.113.9;host="\\",for=6.6.6.6"', CLIENT),
        ('for="[2001:db8::7]:80"', "2001:db8::7"),
        ("for=[2001:db8::7]:80", "2001:db8::7"),
        ("proto=https", PROXY),
        ("for=6.6.6.6;for=6.6.6.7", PROXY),
        ("for=6.6.6.6;For=6.6.6.6", PROXY),
        ("for = 6.6.6.6", PROXY),
        ("for=", PROXY),
        ('for=""', PROXY),
        ('for="6.6.6.6', PROXY),
        ('for=6.6.6.6"', PROXY),
        ('for="6.6.6.6"x', PROXY),
        ("for=6.6.6.6 x", PROXY),
        ("6.6.6.6", PROXY),
        ("xfor=6.6.6.6", PROXY),
        ("for='6.6.6.6'", PROXY),
    ],
)
def test_an_element_of_forwarded_is_read_as_rfc_7239_writes_it(element, expected):
    assert walked(f"for=6.6.6.6, {element}", trusted=FORWARDED) == expected
    assert walked("for=6.6.6.6", element, trusted=FORWARDED) == expected


# the bounds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected", "reads"),
    [
        ("6.6.6.6, " * 10_000 + CLIENT, CLIENT, 1),
        (", ".join(f"10.0.{n >> 8}.{n & 255}" for n in range(10_000)), "10.0.38.172", MAX_HOPS),
        ("," * 10**6, PROXY, 1),
        ("6" * 10**6, PROXY, 1),
        ('"' * 10**6 + ",", PROXY, 1),
        (";a=" * 10**6, PROXY, 1),
        ('\\"' * 10**6 + '"', PROXY, 1),
        (" " * 10**6 + CLIENT, PROXY, 1),
        ('\\"' * 333, PROXY, 1),
    ],
    ids=["forged", "trusted", "commas", "digits", "quotes", "pairs", "escapes", "spaces", "unpaired"],
)
@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded"])
def test_of_a_header_of_any_size_only_the_right_end_is_read(monkeypatch, line, expected, reads, header):
    if header == "forwarded":
        line = line.replace("10.0", "for=10.0").replace("6.6.6.6", "for=6.6.6.6").replace(CLIENT, f"for={CLIENT}")
    asked = Mock(side_effect=module._node)
    monkeypatch.setattr(module, "_node", asked)
    counted = Counted(line)
    assert client_address(PROXY, TrustedProxies(NETWORKS, header=header), lambda _: [counted]) == expected
    assert asked.call_count == reads
    assert 0 < counted.read <= reads * (MAX_ENTRY + 1)


def test_of_ten_thousand_lines_only_the_last_are_read():
    lines = [Counted(PROXY) for _ in range(10_000)]
    assert walked(*lines) == PROXY
    assert sum(line.read > 0 for line in lines) == MAX_HOPS


@pytest.mark.parametrize(("size", "expected"), [(MAX_ENTRY, CLIENT), (MAX_ENTRY + 1, "10.0.0.2")])
def test_an_entry_has_a_longest_length(size, expected):
    assert walked(f"{FORGED},{CLIENT.rjust(size)},10.0.0.2") == expected


# the trusted proxies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "networks",
    [
        *["10.0.0.0/8", "::ffff:10.0.0.0/104", ip_network("10.0.0.0/8"), ip_network("10.0.0.0/31")],
        *[["::1", "10.0.0.1"], ["unix", "::ffff:10.0.0.1"], [ip_address("10.0.0.1")], {"10.0.0.1"}],
        pytest.param(iter(["10.0.0.0/255.0.0.0"]), id="an iterator"),
    ],
    ids=repr,
)
def test_networks_come_as_text_or_objects_alone_or_in_any_iterable(networks):
    trusted = TrustedProxies(networks)
    assert ip_address("10.0.0.1") in trusted
    assert ip_address("11.0.0.1") not in trusted


@pytest.mark.parametrize(
    "bad",
    [
        *["*", "0.0.0.0/0", "::/0", "::ffff:0:0/96", ip_network("::/0"), "", "10.0.0.1/8", "10.0.0.0/33", "10.0.0"],
        *["localhost", "10.0.0.0/8,::1", "fe80::1%eth0", " 10.0.0.1", "UNIX", "\ud800", "x" * 10**6],
        *[None, 5, True, b"10.0.0.1"],
    ],
    ids=lambda bad: ascii(bad)[:20],
)
def test_a_bad_network_is_refused_by_name_with_an_example_of_a_good_one(bad):
    for networks in (bad, ["10.0.0.1", bad, "::1"]):
        with pytest.raises(ConfigurationError, match=r"trusted proxies: .* is .* as in \[\"10.0.0.0/8\"") as refused:
            TrustedProxies(networks)
        assert len(str(refused.value)) < 400
    if len(str(bad)) < 60:
        assert repr(bad) in str(refused.value)


@pytest.mark.parametrize("bad", ["*", "0.0.0.0/0", "::/0", "::ffff:0:0/96"])
def test_everybody_cannot_be_trusted(bad):
    with pytest.raises(ConfigurationError, match="every client could choose"):
        TrustedProxies([bad])


@pytest.mark.parametrize("header", ["x-real-ip", "X-Forwarded-For", "", None])
def test_another_header_is_refused(header):
    with pytest.raises(ConfigurationError, match="header must be one of 'x-forwarded-for', 'forwarded'"):
        TrustedProxies("10.0.0.1", header=header)


def test_trusted_proxies_are_a_value():
    assert TrustedProxies("10.0.0.1") == TrustedProxies([ip_address("10.0.0.1")])
    assert len({XFF, TrustedProxies(NETWORKS), FORWARDED, TrustedProxies([*NETWORKS, "unix"])}) == 3
    assert pickle.loads(pickle.dumps(XFF)) == copy.deepcopy(XFF) == XFF
    with pytest.raises(AttributeError):
        XFF.networks = ()  # type: ignore[misc]


# groups and digests --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("2002:c000:201::1", "2002:c000:201::/64"),
        ("64:ff9b::192.0.2.1", "64:ff9b::/64"),
        *[
            (text, text)
            for text in ("unknown", "testclient", "", "user:7", "010.0.0.1", "[::1]:80", "1.2.3.4:5", "\ud800")
        ],
    ],
    ids=ascii,
)
def test_ipv6_is_grouped_and_everything_else_stays(address, expected):
    assert group_address(address) == expected


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [(48, "2001:db8:1::/48"), (56, "2001:db8:1:200::/56"), (128, "2001:db8:1:2ff::1/128"), (1, "::/1")],
)
def test_the_size_of_a_group_is_an_option_that_leaves_ipv4_alone(prefix, expected):
    assert group_address("2001:db8:1:2ff::1", prefix=prefix) == expected
    assert group_address("::ffff:192.0.2.1", prefix=prefix) == "192.0.2.1"


@pytest.mark.parametrize("prefix", [0, 129, -1, True, 64.0, "64", None])
def test_a_bad_prefix_is_refused_whatever_the_address(prefix):
    for address in ("192.0.2.1", "::1", "testclient"):
        with pytest.raises(ConfigurationError, match="prefix must be"):
            group_address(address, prefix=prefix)


def test_a_digest_is_short_stable_and_tells_nothing():
    assert hashed("token-1") == "dbcfd7e2310d5e5fbf03eb3670b5b6a6"
    assert (
        hashed("token-1", secret="pepper") == hashed("token-1", secret=b"pepper") == "fcabf68921cf2d119d112e96aebd5302"
    )
    assert (
        len({hashed("token-1"), hashed("token-2"), hashed("token-1", secret="a"), hashed("token-1", secret="b")}) == 4
    )


def test_texts_that_have_no_utf_8_differ_too():
    assert len({hashed(""), hashed("\ud800"), hashed("\ud801"), hashed("?")}) == 4


def test_every_byte_of_a_long_secret_counts():
    assert hashed("x", secret=b"s" * 1000) != hashed("x", secret=b"s" * 1001)


@given(key=st.text(st.characters()))
@example(key="")
@example(key="\ud800")
def test_any_text_has_a_digest_of_32_digits(key):
    for digest in (hashed(key), hashed(key, secret="pepper")):
        assert len(digest) == 32
        assert set(digest) <= set("0123456789abcdef")


@pytest.mark.parametrize("secret", ["", b""])
def test_an_empty_secret_is_refused(secret):
    with pytest.raises(ConfigurationError, match="secret of hashed is empty"):
        hashed("token", secret=secret)


@pytest.mark.parametrize("key", [None, 7, b"token"])
def test_only_text_has_a_digest_and_the_error_does_not_repeat_the_secret(key: Any):
    with pytest.raises(ConfigurationError, match="hashed takes a str, not") as refused:
        hashed(key)
    assert "token" not in str(refused.value)
