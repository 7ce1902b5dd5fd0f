"""Notes every script call whose keys are in more than one slot of a cluster."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from redis.crc import key_slot

from sync_kit._io.scripts import Script

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sync_kit._io.scripts import Arg, Packed


@contextmanager
def crossings() -> Iterator[list[str]]:
    """The calls with keys in different slots that are made meanwhile, in this process."""
    found: list[str] = []
    call = Script.call

    def watched(self: Script, keys: Sequence[str], args: Sequence[Arg] | Packed) -> bytes:
        if len(keys) > 1 and len({key_slot(key.encode()) for key in keys}) > 1:
            found.append(f"{self.name} on {', '.join(keys)}")
        return call(self, keys, args)

    Script.call = watched  # type: ignore[method-assign]
    try:
        yield found
    finally:
        Script.call = call  # type: ignore[method-assign]
