"""From redis-py's errors to ours; no other room sees redis-py's."""

from __future__ import annotations

import asyncio

import redis.exceptions

from sync_kit._io.flow import Eval, Pop
from sync_kit.errors import ServerError, SyncKitError, Unavailable

LOST = (redis.exceptions.RedisError, OSError, EOFError, asyncio.TimeoutError)
"""What is raised when there is no connection (any more), what answers is not Redis, or no reply came in time.

An error reply is one of them only while connecting: elsewhere `REPLIED` is caught first.
"""
REPLIED = redis.exceptions.ResponseError
"""An error that the server sent as a reply: the connection is still good."""
UNKNOWN_SCRIPT = redis.exceptions.NoScriptError


class ConnectionLost(Exception):
    """The connection went away while a call was on it: whether the call was carried out is not known."""


def timed_out(error: BaseException) -> bool:
    """Whether an error of `LOST` says that time ran out, rather than that the connection broke."""
    return "Timeout" in type(error).__name__


def unavailable(label: str, effect: Eval | Pop, error: BaseException) -> Unavailable:
    """The error for a call that got no reply; chain it to `error`."""
    if isinstance(error, redis.exceptions.AuthenticationError):
        return Unavailable(f"Redis at {label} refused the login ({_about(effect)}): {error}; check user and password")
    why = "did not answer in time" if timed_out(error) else f"is not reachable: {error}"
    return Unavailable(
        f"Redis at {label} {why} ({_about(effect)}): check that the server runs and is reachable. "
        "Whether the call was carried out is not known"
    )


def refused(effect: Eval | Pop, reply: BaseException) -> SyncKitError:
    """The error for an error reply; chain it to `reply`."""
    said = str(reply).partition(" script: ")[0]
    advice = "repeat the call once the server accepts it"
    if "WRONGTYPE" in said or "unpack" in said:
        advice = "another program writes to this key, or it is left from another version: delete it"
    return ServerError(f"Redis refused {_about(effect)}: {said}; {advice}")


def _about(effect: Eval | Pop) -> str:
    if isinstance(effect, Pop):
        return f"waiting on {effect.key!r}"
    return f"{effect.script.name} on {effect.keys[0]!r}"
