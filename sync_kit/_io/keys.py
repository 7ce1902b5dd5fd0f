"""The one place where Redis keys are built.

A key reads `<namespace>:<kind>:{<tag>}:<rest>`: all keys that one script touches share the tag in
braces, so they live on one node of a cluster. Every part is encoded, so no two different tuples
of parts make the same key.
"""

from __future__ import annotations

import re
from hashlib import blake2b

from sync_kit.errors import ConfigurationError

MAX_PART = 160
"""Longer parts are replaced by `~` and a 128-bit BLAKE2b digest."""

_SPECIAL = re.compile(r"[%:{}~\x00-\x20\x7f\ud800-\udfff]")
_SPECIAL_IN_LAST = re.compile(_SPECIAL.pattern.replace(":", "", 1))


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))


def encode_part(part: str | int, *, last: bool = False) -> str:
    """Make one part of a key safe; short plain text stays as it is. Raises `ConfigurationError` when empty.

    The `last` of a known number of parts may hold colons: it cannot be mistaken for two.
    """
    text = part if type(part) is str else _text(part)
    if not text:
        raise ConfigurationError("a part of a key is empty: give every limiter, mutex, queue and key a name")
    if len(text) > MAX_PART:
        return "~" + blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return (_SPECIAL_IN_LAST if last else _SPECIAL).sub(_percent, text)


def _text(part: object) -> str:
    if isinstance(part, str):
        return str(part)
    if isinstance(part, int) and not isinstance(part, bool) and part.bit_length() <= 1024:
        return str(part)
    raise ConfigurationError(f"a part of a key must be a str or an int of a sensible size, not {type(part).__name__}")


class KeyGroup:
    """Builds the keys of one group: everything behind one hash tag.

    Args:
        namespace: separates applications that share a server.
        kind: two letters of the feature (`rl`, `mx`) or `q`.
        tag: the parts that make the hash tag.
    """

    __slots__ = ("head",)

    def __init__(self, namespace: str, kind: str, *tag: str | int) -> None:
        self.head = f"{encode_part(namespace)}:{kind}:{{{':'.join(map(encode_part, tag))}}}"

    def key(self, *rest: str | int) -> str:
        """The key of the parts in `rest`."""
        return ":".join([self.head, *map(encode_part, rest)])


class KeyPattern:
    """Keys that are a group each: one free part inside the hash tag, the rest fixed (the hot path of limiters)."""

    __slots__ = ("head", "tail")

    def __init__(self, namespace: str, kind: str, name: str, *rest: str | int) -> None:
        self.head = f"{encode_part(namespace)}:{kind}:{{{encode_part(name)}:"
        self.tail = ":".join(["}", *map(encode_part, rest)])

    def key(self, part: str | int) -> str:
        """The key for `part`."""
        return f"{self.head}{encode_part(part, last=True)}{self.tail}"
