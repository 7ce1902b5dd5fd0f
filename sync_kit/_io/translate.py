"""From redis-py's errors to ours; no other room sees redis-py's."""

from __future__ import annotations

import asyncio
from typing import Any

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
DEMOTED = redis.exceptions.ReadOnlyError
"""The server has become a replica."""
MOVED = redis.exceptions.MovedError
POINTED = redis.exceptions.AskError
"""A node of a cluster pointed to another one; `MOVED` is one of them."""
SPLIT = redis.exceptions.TryAgainError
"""The keys of a call are on two nodes, because their slot is on its way from one to the other."""

_NOT_NOW = {
    "LOADING": "it reads its data from disk: wait until it has",
    "READONLY": "it is a replica: give the address of the primary, or wait for the failover",
    "OOM": "give it more memory, or see what fills it",
    "MISCONF": "it cannot write to its disk: see its log",
    "MASTERDOWN": "it is a replica without its primary: give the address of the primary",
    "CLUSTERDOWN": "nodes of the cluster are missing: see `CLUSTER INFO`",
    "TRYAGAIN": "the slot of these keys is on its way to another node: try again",
    "NOREPLICAS": "it has fewer replicas than `min-replicas-to-write` asks for",
    "BUSY": "somebody's script runs too long there: wait, or `SCRIPT KILL` it",
    "UNBLOCKED": "it has become a replica, or an operator ended the wait: try again",
}
"""By these words the server says that it cannot serve now. None of them comes once a script has written."""

_WORDS = {
    redis.exceptions.BusyLoadingError: "LOADING",
    redis.exceptions.ReadOnlyError: "READONLY",
    redis.exceptions.OutOfMemoryError: "OOM",
    redis.exceptions.MasterDownError: "MASTERDOWN",
    redis.exceptions.ClusterDownError: "CLUSTERDOWN",
    redis.exceptions.TryAgainError: "TRYAGAIN",
}
"""Where redis-py has a class for an error, its text has lost the word."""


class ConnectionLost(Exception):
    """The connection went away while a call was on it: whether the call was carried out is not known."""


def lost(error: BaseException) -> ConnectionLost:
    """A `ConnectionLost` that is chained to `error`."""
    made = ConnectionLost(str(error) or type(error).__name__)
    made.__cause__ = error
    return made


def timed_out(error: BaseException) -> bool:
    """Whether an error of `LOST` says that time ran out, rather than that the connection broke."""
    return "Timeout" in type(error).__name__


def sent_again(call: Eval, reply: object) -> bool:
    """Whether a call is sent once more: it was not carried out, or it carries an id and its connection was lost."""
    if isinstance(reply, (UNKNOWN_SCRIPT, DEMOTED)):
        return True
    return call.repeat and isinstance(reply, ConnectionLost) and not isinstance(reply.__cause__, SyncKitError)


def element(reply: Any) -> bytes | None:
    """The element in a reply to BLPOP, which also names the key; None when none came."""
    return None if reply is None else reply[1]


def outcome(label: str, effect: Eval | Pop, reply: Any) -> Any:
    """What a call ends with: its reply, or our error for what came instead, chained to it."""
    if not isinstance(reply, Exception):
        return reply
    cause = reply.__cause__ if isinstance(reply, ConnectionLost) else reply
    if isinstance(cause, SyncKitError):
        return cause
    error = refused(label, effect, reply) if isinstance(reply, REPLIED) else unavailable(label, effect, cause or reply)
    error.__cause__ = cause
    return error


def given(answer: Any) -> Any:
    """Raise an answer that is an error, return any other."""
    if isinstance(answer, SyncKitError):
        raise answer
    return answer


def unavailable(label: str, effect: Eval | Pop, error: BaseException) -> Unavailable:
    """The error for a call that got no reply; chain it to `error`."""
    if isinstance(error, redis.exceptions.AuthenticationError):
        return Unavailable(f"Redis at {label} refused the login ({_about(effect)}): {error}; check user and password")
    why = "did not answer in time" if timed_out(error) else f"is not reachable: {error}"
    remedy = "check that the server runs and is reachable"
    if (word := _word(error)) in _NOT_NOW:
        why, remedy = f"cannot serve now: {_said(error)}", _NOT_NOW[word]
    return Unavailable(
        f"Redis at {label} {why} ({_about(effect)}): {remedy}. Whether the call was carried out is not known"
    )


def refused(label: str, effect: Eval | Pop, reply: BaseException) -> SyncKitError:
    """The error for an error reply; chain it to `reply`."""
    said, word = _said(reply), _word(reply)
    if word in _NOT_NOW:
        why = f"Redis at {label} cannot serve {_about(effect)} now: {said}"
        return Unavailable(f"{why}; {_NOT_NOW[word]}. The call was not carried out")
    advice = "repeat the call once the server accepts it"
    if isinstance(reply, POINTED):
        advice = "the server is a node of a cluster: write redis+cluster:// in the url"
    if "WRONGTYPE" in said or "unpack" in said:
        advice = "another program writes to this key, or it is left from another version: delete it"
    return ServerError(f"Redis refused {_about(effect)}: {said}; {advice}")


def unserved(label: str, effect: Eval | Pop, why: str) -> Unavailable:
    """The error for a call that no node of a cluster takes."""
    return Unavailable(f"{why} ({_about(effect)}; asked {label}): see `CLUSTER INFO`. The call was not carried out")


def _word(error: BaseException) -> str:
    return _WORDS.get(type(error)) or str(error).partition(" ")[0]


def _said(error: BaseException) -> str:
    said = str(error).partition(" script: ")[0]
    word = _WORDS.get(type(error), "")
    return f"{word} {said}".strip()


def _about(effect: Eval | Pop) -> str:
    if isinstance(effect, Pop):
        return f"waiting on {effect.keys[0]!r}"
    return f"{effect.script.name} on {effect.keys[0]!r}"
