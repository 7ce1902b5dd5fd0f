"""Keys of people: from what a request says of its sender to a key that its sender cannot choose.

    trusted = TrustedProxies(["10.0.0.0/8"])
    key = group_address(client_address(peer, trusted, request.headers.getlist))

No framework is known here. Nothing in a request makes these functions raise, and of a header only its
right end is read, at most `MAX_HOPS` entries of at most `MAX_ENTRY` characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import islice
from typing import TYPE_CHECKING

from sync_kit.errors import ConfigurationError
from sync_kit.options import choice, shown, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Literal

    Address = IPv4Address | IPv6Address
    Network = IPv4Network | IPv6Network
    LinesOf = Callable[[str], Sequence[str]]

__all__ = ["TrustedProxies", "client_address", "group_address", "hashed"]

MAX_HOPS = 100
"""Entries of a header that are looked at. Nobody has so many proxies; who has is counted as the last one looked at."""

MAX_ENTRY = 1000
"""Characters of one entry. A longer one counts as garbage."""

NOBODY = "unknown"
"""The key of a peer without an address: a unix socket whose headers are not believed."""

SECRET_HEADERS = frozenset(
    ("authorization", "cookie", "proxy-authorization", "x-access-token", "x-api-key", "x-auth-token", "x-csrf-token")
)
"""Headers whose values are hashed before anything is named after them: they are not to be seen in Redis and errors."""

_HEADERS = ("x-forwarded-for", "forwarded")
_ADDRESSES = (str, IPv4Address, IPv6Address, IPv4Network, IPv6Network)
_EVERYBODY = "everybody, so every client could choose whom it is counted as"

# RFC 7239, section 6: an address, IPv6 in brackets, and perhaps a port, which may be obfuscated (`_x`)
_NODE = re.compile(r"(?:\[([^\[\]]+)\]|([0-9.]+))(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?")

# one pair of RFC 7239, section 4, with its semicolon. Not as strict: proxies write `for=[::1]:80` without quotes
_PAIR = re.compile(r'[ \t]*(?:([^\s=;"]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))[ \t]*)?(?:;|\Z)')

# The last entry of a line, backwards, with the comma before it. Quotes are paired from the right because what is on
# the left may be forged, `for="` without an end for one. A quote inside of a quoted string has a backslash before it.
_ENTRY_BACKWARDS = re.compile(r'((?:[^",]|"(?:[^"]|"(?=\\))*"(?!\\))*)(,|\Z)')


@dataclass(frozen=True)
class TrustedProxies:
    """The proxies whose word on their client is believed, and the one header in which they give it.

    Name the proxies themselves, and no network that has clients in it: a trusted address may report any other.
    Name the header that they write: the other one passes through them as the client sent it, and is not read.

    Args:
        networks: addresses and networks, as text or objects of `ipaddress`; `"unix"` stands for a peer
            without an address, on a unix socket. A single one may stand alone.
        header: `"x-forwarded-for"`, or `"forwarded"` (RFC 7239).

    Attributes:
        networks: what is trusted; IPv4 inside of IPv6 (`::ffff:10.0.0.0/104`) is kept as IPv4.
        unix: whether a peer without an address is trusted.
        header: the header to read, in lower case.

    Raises:
        ConfigurationError: something is not an address or a network, or it would trust everybody.
    """

    networks: tuple[Network, ...]
    unix: bool
    header: str

    def __init__(
        self,
        networks: Iterable[str | Address | Network],
        *,
        header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for",
    ) -> None:
        words = _listed(networks)
        object.__setattr__(self, "networks", tuple(_network(word) for word in words if word != "unix"))
        object.__setattr__(self, "unix", "unix" in words)
        object.__setattr__(self, "header", choice("header", header, _HEADERS))

    def __contains__(self, address: Address | None) -> bool:
        """Whether `address` is one of these proxies."""
        return address is not None and any(address in network for network in self.networks)


def client_address(
    peer: str | None, trusted: TrustedProxies | None = None, lines_of: LinesOf = lambda _header: ()
) -> str:
    """The address to count a request on: its peer, or whom trusted proxies say they speak for.

    A header is read only if the peer is trusted. Its entries are walked from the right, where the nearest proxy
    wrote; the first address that is not trusted is the client, and what is left of it is only the client's word.
    If all are trusted, it is the leftmost. An entry without an address (`unknown`, `_hidden`, empty, anything
    else) ends the walk, and the proxy that reported it is counted: RFC 9110 lets readers skip empty entries, but
    what is left of one may be the client's own.

    Args:
        peer: the address of the connection; None or empty for a unix socket.
        trusted: the proxies to believe; none if not given.
        lines_of: gives the lines of a header by its lower-case name, in the order of the request.

    Returns:
        The address in its shortest form: IPv4 inside of IPv6 (`::ffff:192.0.2.1`) as IPv4, without port and zone
        (`%eth0`). A peer that is not an address as it is; `"unknown"` for one without.
    """
    believed = _address(peer) if peer else None
    if trusted is not None and (believed in trusted if peer else trusted.unix):
        for entry in islice(_from_the_right(lines_of(trusted.header)), MAX_HOPS):
            address = _node(_for(entry) if trusted.header == "forwarded" else entry)
            believed = address or believed
            if address not in trusted:
                break
    return str(believed or peer or NOBODY)


def group_address(address: str, *, prefix: int = 64) -> str:
    """The network that stands for one person: an IPv6 network of `prefix` bits, or the IPv4 address itself.

    A site of IPv6 has at least 2**64 addresses (RFC 6177), so a limit for each of them would be no limit. Addresses
    in which a gateway hides IPv4 (6to4, Teredo, NAT64) are grouped like any other: all of `64:ff9b::/96` is one.

    Args:
        address: what `client_address` gave.
        prefix: bits of IPv6 that make a person; 56 or 48 is a whole site.

    Returns:
        Text such as `2001:db8:1:2::/64` or `192.0.2.1`; what is not an address as it is.

    Raises:
        ConfigurationError: `prefix` is not from 1 to 128.
    """
    whole("prefix", prefix, least=1, most=128)
    plain = _address(address)
    if isinstance(plain, IPv6Address):
        return str(IPv6Network((int(plain), prefix), strict=False))
    return str(plain or address)


def hashed(key: str, *, secret: str | bytes | None = None) -> str:
    """A stable stand-in for a key that is not to be seen in Redis, logs and errors: a token, an e-mail address.

    Args:
        key: any text.
        secret: keys the digest. Without it, whoever can guess the text can check the guess: enough for a random
            token, not for an e-mail address. A new secret starts all counters anew.

    Returns:
        32 hexadecimal digits: 128 bits of BLAKE2b (RFC 7693).

    Raises:
        ConfigurationError: `key` is not a str, or `secret` is empty.
    """
    if not isinstance(key, str):  # the value is a secret, so the message is silent on it
        raise ConfigurationError(f"hashed takes a str, not {type(key).__name__}")
    if secret is None:
        return blake2b(_bytes(key), digest_size=16, person=b"sync_kit").hexdigest()
    if not secret:
        raise ConfigurationError("the secret of hashed is empty: give at least 16 random bytes, or leave it out")
    # a secret of any length: BLAKE2b itself takes at most 64 bytes of key
    return blake2b(_bytes(key), digest_size=16, person=b"sync_kit", key=blake2b(_bytes(secret)).digest()).hexdigest()


def _bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text


def _listed(networks: object) -> list[object]:
    if isinstance(networks, _ADDRESSES):  # a network is iterable itself, over all of its addresses
        return [networks]
    if not isinstance(networks, Iterable):
        raise _bad_proxy(networks, "no list of networks")
    return list(networks)


def _network(word: object) -> Network:
    if word == "*":
        raise _bad_proxy(word, _EVERYBODY)
    try:
        # a zone (`%eth0`) would not be compared, and so trust the address on every link
        network = ip_network(str(word)) if isinstance(word, _ADDRESSES) and "%" not in str(word) else None
    except ValueError:
        network = None
    if network is None:
        raise _bad_proxy(word, "no address without a zone, and no network without bits beyond its prefix")
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped:
        network = IPv4Network((network.network_address.ipv4_mapped, network.prefixlen - 96))
    if network.prefixlen == 0:
        raise _bad_proxy(word, _EVERYBODY)
    return network


def _bad_proxy(word: object, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"trusted proxies: {shown(word)} is {why}. "
        'List your proxies, as in ["10.0.0.0/8", "2001:db8::7"]; "unix" stands for a unix socket'
    )


def _address(text: str) -> Address | None:
    """Read an address alone, in the one form in which it is compared: IPv4 if it can be, without a zone."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or IPv6Address(int(address))
    return address


def _node(text: str) -> Address | None:
    """Read an address as headers write it, with brackets and a port."""
    text = text.strip(" \t")
    node = _NODE.fullmatch(text)
    return _address(node[1] or node[2] if node else text)


def _for(element: str) -> str:
    """The `for` of one element of Forwarded (RFC 7239, section 4); empty if there is not exactly one."""
    found, at = [], 0
    while at < len(element):
        pair = _PAIR.match(element, at)
        if pair is None:
            return ""
        if (pair[1] or "").lower() == "for":
            found.append(pair[3] or re.sub(r"\\(.)", r"\1", pair[2]))
        at = pair.end()
    return found[0] if len(found) == 1 else ""


def _from_the_right(lines: Sequence[str]) -> Iterator[str]:
    """The entries of all lines, the last one first; the rest is one empty entry where quotes or lengths are wrong."""
    for line in reversed((lines,) if isinstance(lines, str) else lines):
        end, separator = len(line), ","
        while separator:
            start = max(0, end - MAX_ENTRY - 1)
            entry = _ENTRY_BACKWARDS.match(line[start:end][::-1])
            if entry is None or (start and not entry[2]):
                yield ""
                return
            yield entry[1][::-1]
            end, separator = end - entry.end(), entry[2]
