"""Mistakes that are found when an app starts, and how they keep it from starting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.middleware.exceptions import ExceptionMiddleware

from sync_kit import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from starlette.types import Receive, Send

    from sync_kit_starlette._values import RequestTemplate

MOST_AROUND = 100
"""Middlewares that are looked through: an object such as `Mock` has an `app` without end."""

_TEMPLATES = "__sync_kit_templates__"


def apps_inside(app: Any) -> Iterator[Any]:
    """An ASGI app, and those that it is a middleware of."""
    for _ in range(MOST_AROUND):
        if app is None:
            return
        yield app
        app = getattr(app, "app", None)


def is_made_late(app: Any) -> bool:
    """Whether a middleware around `app` is made by Starlette, which does so when the first call comes.

    An error is too late then: servers take it for an app that knows no lifespan, and go on.
    """
    return any(isinstance(inner, ExceptionMiddleware) for inner in apps_inside(app))


async def refuse_to_start(error: ConfigurationError, scope: Any, receive: Receive, send: Send) -> None:
    """Raise `error`; a server that waits for the start is told that it failed, and ends."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.failed", "message": str(error)})
    raise error


def remember(endpoint: Any, template: RequestTemplate) -> None:
    """Note what `endpoint` needs of its path. Other decorators carry that along (`functools.wraps`)."""
    setattr(endpoint, _TEMPLATES, (*getattr(endpoint, _TEMPLATES, ()), template))


def check_routes(app: Any) -> None:
    """Raise `ConfigurationError` if a placeholder of a decorated handler is no parameter of its path.

    Routes of Starlette are looked at, through mounts and hosts. FastAPI's are not: its handlers name their parameters,
    so that has been checked when they were decorated.
    """
    for path, endpoint, names in _endpoints(getattr(app, "routes", None) or (), "", ()):
        for template in _templates(endpoint):
            if missing := [name for name in template.path_names if name not in names]:
                raise ConfigurationError(
                    f"<{missing[0]}> in {template.keys.text!r} is no parameter of the path {path!r}: use one of "
                    f"{', '.join(sorted(names)) or 'none'}, or rename the parameter"
                )


def _endpoints(
    routes: Collection[Any], prefix: str, names: tuple[str, ...]
) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    for route in routes:
        path = prefix + getattr(route, "path", "")
        known = (*names, *getattr(route, "param_convertors", ()))
        if (endpoint := getattr(route, "endpoint", None)) is not None:
            yield path, endpoint, known
        else:
            yield from _endpoints(getattr(route, "routes", None) or (), path, known)


def _templates(endpoint: Any) -> Iterator[RequestTemplate]:
    yield from getattr(endpoint, _TEMPLATES, ())
    if isinstance(endpoint, type):
        for method in vars(endpoint).values():
            yield from getattr(method, _TEMPLATES, ())
