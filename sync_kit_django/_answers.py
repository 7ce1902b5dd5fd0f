"""What a refused request is answered with: the project's handler or template, else a small page or a JSON problem."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template import TemplateDoesNotExist, loader
from django.urls import get_callable, get_resolver, get_urlconf
from django.utils.cache import patch_vary_headers
from django.utils.html import format_html

from sync_kit.ratelimit.headers import PROBLEM_TYPE, retry_after_field
from sync_kit_django._steps import Do, ask, to_the_end

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sync_kit_django._steps import Steps

JSON_TYPE = "application/json"
HTML_TYPE = "text/html"
PAGE = (
    '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title></head>\n'
    "<body><h1>{title}</h1><p>{detail}</p></body>\n</html>\n"
)


def problem(status: int, title: str, detail: str) -> dict[str, Any]:
    """The body of a problem (RFC 9457)."""
    return {"title": title, "status": status, "detail": detail}


def refuse(
    request: Any, error: Exception, body: Mapping[str, Any], wait: float | None = None, **fields: str
) -> Steps[Any]:
    """Answer a request that is refused because of `error`.

    What the project has is asked first: `handler429` of its root URLconf (a function of the request and
    `exception=`, as Django's `handler404` is), then, for who reads pages, the template `429.html`; so for each status.
    Inside of a view of Django REST framework, that answers.

    Args:
        body: the problem.
        wait: seconds after which to try again: becomes `Retry-After`, in whole seconds, rounded up, at least 1.
        fields: more header fields, with underscores for dashes.
    """
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    if wait is not None and math.isfinite(wait):
        headers["Retry-After"] = str(retry_after_field(wait))
    if not isinstance(request, HttpRequest):
        from sync_kit_django.drf import refusal

        response = yield ask(refusal, request, body, wait)
    else:
        response = yield _own(request, error, body)
    for name, value in headers.items():
        response.headers.setdefault(name, value)
    return response


def _own(request: HttpRequest, error: Exception, body: Mapping[str, Any]) -> Do:
    handler = _handler(body["status"])
    if handler is not None:
        return Do(lambda: _called(handler, request, error), lambda: _called_later(handler, request, error))
    if _prefers_json(request):
        return Do(lambda: _json(body), lambda: _json(body))
    return Do(lambda: _page(request, error, body), lambda: sync_to_async(_page)(request, error, body))


def _handler(status: int) -> Callable[..., Any] | None:
    """What the root URLconf names as the handler of a status: a function, or the path of one."""
    named = getattr(get_resolver(get_urlconf()).urlconf_module, f"handler{status}", None)
    return None if named is None else get_callable(named)


def _called(handler: Callable[..., Any], request: HttpRequest, error: Exception) -> Any:
    response = to_the_end(handler(request, exception=error))
    return response if _is_rendered(response) else response.render()


async def _called_later(handler: Callable[..., Any], request: HttpRequest, error: Exception) -> Any:
    if not iscoroutinefunction(handler):
        return await sync_to_async(_called)(handler, request, error)
    response = await handler(request, exception=error)
    return response if _is_rendered(response) else await sync_to_async(response.render)()


def _is_rendered(response: Any) -> bool:
    """Whether there is nothing to render, as Django does for the views and handlers that it calls itself."""
    return getattr(response, "is_rendered", True)


def _prefers_json(request: HttpRequest) -> bool:
    """Whether the client would rather have JSON. Of those that take anything: who sent JSON."""
    kinds = [HTML_TYPE, PROBLEM_TYPE, JSON_TYPE]
    if request.content_type == JSON_TYPE:
        kinds.reverse()
    return request.get_preferred_type(kinds) != HTML_TYPE


def _json(body: Mapping[str, Any]) -> HttpResponse:
    return _varying(JsonResponse(dict(body), status=body["status"], content_type=PROBLEM_TYPE))


def _page(request: HttpRequest, error: Exception, body: Mapping[str, Any]) -> HttpResponse:
    try:
        template = loader.get_template(f"{body['status']}.html")
    except TemplateDoesNotExist:
        page: str = format_html(PAGE, **{name: body[name] for name in ("title", "detail")})
    else:
        page = template.render({**body, "exception": error}, request)
    return _varying(HttpResponse(page, status=body["status"]))


def _varying(response: HttpResponse) -> HttpResponse:
    patch_vary_headers(response, ["Accept"])
    return response
