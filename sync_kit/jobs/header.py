"""The part of a job's record that is ours: a line of JSON before the payload."""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, field, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Header:
    """What a sender says of a job beside its payload.

    Attributes:
        retries: runs after a first one that failed.
        timeout: seconds that a run may take, or None.
        priority: from -100 to 100.
        tag: a word to find it by.
        key: its unique key.
        result_ttl: seconds that its result is kept; 0 if it is not wanted.
        secret: whether the payload must not be shown by who does not know the task.
        headers: what the sender's context says.
        schedule: the name of the schedule that it is from.
        slot: of which of its slots, in epoch milliseconds; 0 for none.
        interval: seconds between two of these, if the schedule has an interval.
    """

    retries: int = 0
    timeout: float | None = None
    priority: int = 0
    tag: str | None = None
    key: str | None = None
    result_ttl: float = 0.0
    secret: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    schedule: str | None = None
    slot: int = 0
    interval: float | None = None

    def encode(self) -> bytes:
        """The line, line break included."""
        named = {"retries": self.retries, "timeout": self.timeout}
        named |= {name: value for name, default in _DEFAULTS if (value := getattr(self, name)) not in (default, {})}
        return json.dumps(named, separators=(",", ":")).encode() + b"\n"


_DEFAULTS = [(each.name, None if each.default is MISSING else each.default) for each in fields(Header)]
_BARE = {name: getattr(Header(), name) for name, _ in _DEFAULTS}
_KINDS: dict[str, Any] = {
    **dict.fromkeys(("retries", "priority", "slot"), int),
    **dict.fromkeys(("timeout", "interval"), (int, float, type(None))),
    **dict.fromkeys(("tag", "key", "schedule"), (str, type(None))),
    "result_ttl": (int, float),
    "secret": bool,
    "headers": dict,
}


@lru_cache(maxsize=1024)
def _read(line: bytes) -> Header:
    named: Any = json.loads(line)
    if not isinstance(named, dict):
        raise ValueError("its header is no JSON object")
    for name, kinds in _KINDS.items():
        if not isinstance(named.get(name, _BARE[name]), kinds):
            raise ValueError(f"its header has an odd {name}")
    return Header(**{name: named[name] for name in Header.__slots__ if name in named})  # a newer sender may say more


def split(body: bytes) -> tuple[Header, bytes]:
    """The header and the payload of a record."""
    line, _, payload = body.partition(b"\n")
    return _read(line), payload
