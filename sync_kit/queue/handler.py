"""What a handler is called with."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from sync_kit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def arguments_of(where: str, handler: Callable[..., Any], second: str) -> int:
    """How many positional parameters a handler has, 1 or 2. Raises `ConfigurationError` for others."""
    if not callable(handler):
        raise ConfigurationError(f"the handler of {where} must be a function, not {handler!r}")
    count = len([p for p in inspect.signature(handler).parameters.values() if p.kind in _POSITIONAL])
    if not 1 <= count <= 2:
        raise ConfigurationError(
            f"the handler of {where} takes {count} parameters: "
            f"it is given the payload, and {second} if it has a second one"
        )
    return count
