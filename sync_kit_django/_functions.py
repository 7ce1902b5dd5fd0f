"""Exclusive functions and commands: what is called without a request."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from sync_kit import LockError, LockLostError, Unavailable
from sync_kit.mutex import KeyTemplate
from sync_kit.mutex.decorator import done, filled
from sync_kit_django._transactions import is_open
from sync_kit_django._views import is_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from sync_kit_django.mutex import Section

log = logging.getLogger("sync_kit")

OWN = (LockError, LockLostError, Unavailable)
RETURN_CODES: dict[type[Exception], int] = {LockError: 75, Unavailable: 69, LockLostError: 1}
"""What a command ends with: "try again later" and "a service is not available" of sysexits.h, so far as they fit."""


def function_of(function: Callable[..., Any], section: Section) -> Callable[..., Any]:
    """The function as it is called without a request: inside of the section, named by its arguments."""

    @functools.cache
    def name_of() -> Callable[[tuple[Any, ...], dict[str, Any]], str]:
        """Made at the first call: only then is this known to be no view."""
        return filled(KeyTemplate(section.template.keys.text), function)

    @functools.cache
    def warn() -> None:
        log.warning(
            "%s was called inside of a transaction, which commits after the lease of @exclusive has ended: who is next "
            "may not see what was written. Open the transaction inside of the function",
            getattr(function, "__qualname__", function),
        )

    def plain(*args: Any, **kwargs: Any) -> Any:
        guard = section.lock(name_of()(args, kwargs))
        try:
            with guard:
                if is_open():
                    warn()
                return done(function, function(*args, **kwargs))
        except OWN as error:
            return _instead(error, guard, section, args)

    async def later(*args: Any, **kwargs: Any) -> Any:
        guard = section.lock_async(name_of()(args, kwargs))
        try:
            async with guard:
                return await function(*args, **kwargs)
        except OWN as error:
            return _instead(error, guard, section, args)

    return later if is_async(function) else plain


def _instead(error: Exception, guard: Any, section: Section, args: tuple[Any, ...]) -> None:
    """What comes of a call that could not be made, or not be kept exclusive."""
    if not any(error is own for own in (guard.busy, guard.away, guard.loss)):
        raise error
    if error is guard.busy and section.skips:
        return
    if args and isinstance(args[0], BaseCommand):
        raise CommandError(str(error), returncode=RETURN_CODES[type(error)]) from error
    raise error
