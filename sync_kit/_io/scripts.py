"""Lua scripts as values: a file, its checked header, and the bytes that call it.

The header is the contract between Python and Lua::

    -- take: spend `cost` units of one counter, or refuse
    -- KEYS: counter
    -- ARGV: limit window_ms cost
    -- returns: ok|limited, remaining, retry_after_ms

`...` at the end of KEYS or ARGV says that the names after the last `;` repeat as a group. `-- uses: line` behind
the header stands for the text of `line.lua`: functions that scripts of one folder share.
"""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from importlib.abc import Traversable

_HEADER = re.compile(r"-- (?P<name>\w+): .+\n(?:--  .*\n)*-- KEYS:(?P<keys>.*)\n-- ARGV:(?P<args>.*)\n-- returns: .+\n")
_USES = re.compile(r"^-- uses: (\w+)\n", re.MULTILINE)

Arg = str | bytes | int


class Packed:
    """Arguments that are encoded once and serve many calls."""

    __slots__ = ("bulk", "count")

    def __init__(self, args: Sequence[Arg]) -> None:
        self.count = len(args)
        self.bulk = _bulk(args)

    def before(self, more: Sequence[Arg]) -> Packed:
        """These, before some more."""
        packed = Packed.__new__(Packed)
        packed.count, packed.bulk = self.count + len(more), self.bulk + _bulk(more)
        return packed

    def after(self, first: str) -> Packed:
        """These, behind one more (in ASCII)."""
        packed = Packed.__new__(Packed)
        packed.count, packed.bulk = self.count + 1, b"$%d\r\n%b\r\n%b" % (len(first), first.encode(), self.bulk)
        return packed


class Keys(tuple[str, ...]):
    """Keys that are encoded once and serve many calls."""

    bulk: bytes

    def __new__(cls, keys: Iterable[str]) -> Keys:
        made = super().__new__(cls, keys)
        made.bulk = _bulk(made)
        return made


class Names:
    """The names of a header line: fixed ones, then perhaps a group that repeats."""

    __slots__ = ("fixed", "group")

    def __init__(self, line: str) -> None:
        fixed, _, group = line.partition(";")
        self.fixed = tuple(fixed.split())
        self.group = tuple(word for word in group.split() if word != "...")

    def fit(self, count: int) -> bool:
        """Whether `count` values can be given for these names."""
        more = count - len(self.fixed)
        return more == 0 or (more > 0 and bool(self.group) and more % len(self.group) == 0)


class Script:
    """One Lua script. Called with `EVALSHA`; sent whole when the server does not know it."""

    __slots__ = ("_heads", "args", "keys", "name", "sha", "source")

    def __init__(self, name: str, source: str) -> None:
        header = _HEADER.match(source)
        if header is None or header["name"] != name:
            raise ValueError(f"{name}.lua has no proper header; see sync_kit/_io/scripts.py")
        self.name = name
        self.source = source
        self.keys = Names(header["keys"])
        self.args = Names(header["args"])
        self.sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        self._heads: dict[tuple[int, int], bytes] = {}

    @classmethod
    def load(cls, module: str, name: str) -> Script:
        """Read `name`.lua from the folder of `module` (a module's `__name__`)."""
        return cls(name, source(resources.files(module.rpartition(".")[0]), name))

    def __repr__(self) -> str:
        return f"<Script {self.name}>"

    def call(self, keys: Sequence[str], args: Sequence[Arg] | Packed) -> bytes:
        """The bytes of an `EVALSHA`. Raises `ValueError` when the counts do not fit the header."""
        packed = args if type(args) is Packed else Packed(args)  # type: ignore[arg-type]
        shape = (len(keys), packed.count)
        head = self._heads.get(shape) or self._head(shape)
        if len(keys) == 1:  # most calls: worth a line of their own
            key = keys[0].encode()
            return b"%b$%d\r\n%b\r\n%b" % (head, len(key), key, packed.bulk)
        return b"%b%b%b" % (head, keys.bulk if type(keys) is Keys else _bulk(keys), packed.bulk)

    def whole(self, keys: Sequence[str], args: Sequence[Arg] | Packed) -> bytes:
        """The bytes of an `EVAL`, which also teaches the script to the server."""
        packed = args if isinstance(args, Packed) else Packed(args)
        head = b"*%d\r\n" % (3 + len(keys) + packed.count)
        return head + _bulk(["EVAL", self.source, len(keys), *keys]) + packed.bulk

    def _head(self, shape: tuple[int, int]) -> bytes:
        keys, args = shape
        if not (self.keys.fit(keys) and self.args.fit(args)):
            raise ValueError(f"{self.name}.lua was called with {keys} keys and {args} arguments; see its header")
        head = f"*{3 + keys + args}\r\n".encode() + _bulk(["EVALSHA", self.sha, keys])
        if len(self._heads) < 64:
            self._heads[shape] = head
        return head


def source(folder: Traversable, name: str) -> str:
    """The text of `name`.lua, with what it uses in the place of the line that says so."""
    text = folder.joinpath(f"{name}.lua").read_text("utf-8")
    return _USES.sub(lambda match: folder.joinpath(f"{match[1]}.lua").read_text("utf-8"), text)


def _bulk(parts: Sequence[Arg]) -> bytes:
    encoded = [part if type(part) is bytes else str(part).encode() for part in parts]
    return b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in encoded])


def pack(*parts: Arg) -> bytes:
    """One command in the Redis serialization protocol."""
    return b"*%d\r\n" % len(parts) + _bulk(parts)


def blpop(keys: Sequence[str], seconds: float) -> bytes:
    """The bytes of a blocking read of one element."""
    return pack("BLPOP", *keys, f"{seconds:.3f}")


ASKING = pack("ASKING")
