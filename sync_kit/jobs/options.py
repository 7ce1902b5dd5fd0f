"""When and how a job runs: the options of tasks and of `using`, checked."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sync_kit._io.keys import encode_part
from sync_kit.errors import ConfigurationError
from sync_kit.jobs.header import Header
from sync_kit.options import Seconds, choice, name_sent, seconds, shown
from sync_kit.queue.run import is_async
from sync_kit.queue.when import NOW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextvars import ContextVar
    from typing import Literal

    from sync_kit.jobs.schedules.plan import Timing
    from sync_kit.queue.when import When

    OnDuplicate = Literal["return", "raise", "replace"]
    Key = str | Callable[[Any], str]

log = logging.getLogger("sync_kit")

TIMEOUT = 30.0
ON_DUPLICATE = ("return", "raise", "replace")
MOST_KEY = 1000
MOST_HEADERS = 4096
MOST_CARRIED = 400
"""Characters of a carried value: a client may have sent it, which must not keep jobs from being sent."""


@dataclass(frozen=True, slots=True)
class Options:
    """When and how a job runs."""

    retries: int = 0
    timeout: float | None = TIMEOUT
    when: When = NOW
    tag: str | None = None
    key: Key | None = None
    on_duplicate: str = "return"
    result_ttl: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)
    timing: Timing | None = None

    def header(self, *, secret: bool) -> Header:
        """What all jobs with these options say beside their payloads."""
        return Header(
            retries=self.retries,
            timeout=self.timeout,
            priority=self.when.priority,
            tag=self.tag,
            result_ttl=self.result_ttl,
            secret=secret,
            headers=self.headers,
        )

    def key_of(self, payload: Any) -> str:
        """The unique key of a job that has one. Raises `ConfigurationError` if its function makes none."""
        return _text_of_key(self.key(payload) if callable(self.key) else self.key)


def read_timeout(timeout: Seconds | None) -> float | None:
    """Seconds that a run may take, or None. Raises `ConfigurationError`."""
    return None if timeout is None else seconds("timeout", timeout, above=0)


def read_key(key: Key | None) -> Key | None:
    """A unique key, or the function that makes it. Raises `ConfigurationError`."""
    if callable(key) and is_async(key):
        raise ConfigurationError("key must be a text or a plain function of the payload, not an async one")
    return key if key is None or callable(key) else _text_of_key(key)


def _text_of_key(key: object) -> str:
    text = name_sent("key", key)
    if len(text) > MOST_KEY:
        raise ConfigurationError(f"key must have at most {MOST_KEY} characters, not {len(text)}")
    return text


def read_on_duplicate(on_duplicate: object, key: Key | None) -> str:
    """What becomes of a second job of one key. Raises `ConfigurationError`."""
    how = choice("on_duplicate", on_duplicate, ON_DUPLICATE)
    if how != "return" and key is None:
        raise ConfigurationError(f"on_duplicate={how!r} is about a unique key: give a key=, too")
    return how


def read_result_ttl(result_ttl: Seconds | None) -> float:
    """Seconds that a result is kept, 0 for not at all. Raises `ConfigurationError`."""
    return 0.0 if result_ttl is None else seconds("result_ttl", result_ttl)


def read_headers(headers: Mapping[Any, Any]) -> dict[str, str]:
    """What a sender's context says. Raises `ConfigurationError` for anything but some short texts."""
    read = dict(headers)
    for name, value in read.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ConfigurationError(f"headers must be texts by name, not {shown(name)}: {shown(value)}")
    if (size := len(json.dumps(read))) > MOST_HEADERS:
        raise ConfigurationError(f"headers have {size} bytes, more than {MOST_HEADERS}: send large data as the payload")
    return read


def carried_headers(variables: Iterable[ContextVar[str]], given: Mapping[str, str]) -> dict[str, str]:
    """What context variables say, and what was given. Raises `ConfigurationError` for what is no text."""
    said: dict[str, str] = {}
    for variable in variables:
        value = variable.get(None)
        if isinstance(value, str) and len(value) > MOST_CARRIED:
            log.warning(
                "%r is not carried: it has %d characters, more than %d", variable.name, len(value), MOST_CARRIED
            )
        elif value is not None:
            said[variable.name] = value
    return read_headers({**said, **given})


def stored_key(task: str, key: str) -> str:
    """How the queue calls the unique key of a task's job."""
    return f"{encode_part(task)}:{encode_part(key)}"
