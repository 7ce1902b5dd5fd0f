"""Payloads over years: which versions of a task's payload can be read here, and how the older ones are."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from sync_kit.errors import ConfigurationError
from sync_kit.options import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Upgrade = Callable[[Any], Any]

_VERSIONED = re.compile(r"(.*)@([2-9]|[1-9][0-9]{1,5})", re.DOTALL)
MOST = 100_000


class Versions:
    """The versions of one task's payload.

    Args:
        task: its name.
        newest: the version of its schema, from 1.
        upgrades: for each older version that can still come, a function from its plain JSON values to those of the
            next one.

    Raises:
        ConfigurationError: a version between is missing, or is none.
    """

    def __init__(self, task: str, newest: object = 1, upgrades: Mapping[int, Upgrade] | None = None) -> None:
        self.task = task
        self.newest = whole("version", newest, least=1, most=MOST)
        self.upgrades = dict(upgrades or {})
        self.oldest = min(self.upgrades, default=self.newest)
        missing = set(range(self.oldest, self.newest)) ^ set(self.upgrades)
        if missing or self.oldest < 1:
            raise ConfigurationError(
                f"upgrade of task {task!r} must have a function for each version from its oldest to {self.newest - 1}: "
                f"look at {sorted(missing) or self.oldest}"
            )

    @property
    def kind(self) -> str:
        """What the queue calls jobs of the newest version."""
        return self._kind(self.newest)

    @property
    def kinds(self) -> dict[str, int]:
        """What the queue calls jobs that can be run here, with their versions."""
        return {self._kind(version): version for version in range(self.oldest, self.newest + 1)}

    def upgraded(self, payload: bytes, version: int) -> bytes:
        """A payload of some version, as one of the newest."""
        if version == self.newest:
            return payload
        data = json.loads(payload)
        for step in range(version, self.newest):
            data = self.upgrades[step](data)
        return to_json(data)

    def _kind(self, version: int) -> str:
        return self.task if version == 1 else f"{self.task}@{version}"


def read_kind(kind: str) -> tuple[str, int]:
    """The task and the version behind what the queue calls a job."""
    versioned = _VERSIONED.fullmatch(kind)
    return (versioned[1], int(versioned[2])) if versioned else (kind, 1)


def refuse_versioned(name: str) -> None:
    """Raise `ConfigurationError` for a name that looks like a version of another task."""
    if read_kind(name)[1] != 1:
        raise ConfigurationError(f"the name of a task must not end as {name!r} does: versions are told by version=")
