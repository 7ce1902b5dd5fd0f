"""Views for the tests of limits, and the URLs that a test gives them."""

from __future__ import annotations

import types
from typing import Any

from asgiref.sync import async_to_sync
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.test.utils import override_settings
from django.urls import path


def plain(request, **values):
    return HttpResponse("plain")


async def later(request, **values):
    return HttpResponse("later")


def urlconf(*routes: Any, **names: Any) -> Any:
    """A root URLconf of these routes (pairs of path and view are enough), with these names in it."""
    module: Any = types.ModuleType("urls_of_a_test")
    module.urlpatterns = [path(*route) if isinstance(route, tuple) else route for route in routes]
    vars(module).update(names)
    return module


def under(*routes: Any, **names: Any) -> Any:
    """`with under(("a/", view)):` the project has these URLs."""
    return override_settings(ROOT_URLCONF=urlconf(*routes, **names))


class Under:
    """Django's test client, over WSGI's handler or ASGI's."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._client: Any = Client() if kind == "wsgi" else AsyncClient()

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._client, method)
        return call if self.kind == "wsgi" else async_to_sync(call)

    def codes(self, *paths: str, **options: Any) -> list[int]:
        """The status codes of some GETs, one after the other."""
        return [self.get(one, **options).status_code for one in paths]
