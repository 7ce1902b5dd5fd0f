"""What every page has: permissions, links, breadcrumbs, and an answer when Redis is away."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import BadRequest, PermissionDenied
from django.http import Http404, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from sync_kit.errors import ServerError, Unavailable
from sync_kit_django._pages.words import plain
from sync_kit_django._registry import queues_by_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from django.contrib.admin import ModelAdmin
    from django.http import HttpRequest, HttpResponse

    from sync_kit import Jobs
    from sync_kit_django._pages.acting import Act

FOLDER = "admin/sync_kit_django/backgroundjob"
NAME = "sync_kit_django_backgroundjob"


class Frame:
    """One request for one page of the admin."""

    def __init__(self, admin: ModelAdmin[Any], request: HttpRequest) -> None:
        self.admin, self.request = admin, request
        self._site = admin.admin_site.name
        request.current_app = self._site

    @property
    def may(self) -> dict[str, bool]:
        """Which permissions the user has."""
        return {
            "change": self.admin.has_change_permission(self.request),
            "delete": self.admin.has_delete_permission(self.request),
        }

    def require(self, act: Act) -> None:
        """Raise `PermissionDenied` unless the user may do that."""
        if not self.may[act.permission]:
            raise PermissionDenied

    def link(self, page: str, *names: str, **query: object) -> str:
        """Where a page is. `names`: of the queue, and perhaps the id of a job."""
        path = reverse(f"admin:{NAME}_{page}", args=[_quoted(name) for name in names], current_app=self._site)
        asked = {name: value for name, value in query.items() if value}
        return f"{path}?{urlencode(asked, errors='backslashreplace')}" if asked else path

    def answer(
        self, template: str, title: str, trail: list[tuple[str, str]], *, status: int = 200, **context: Any
    ) -> HttpResponse:
        """A page. `trail`: texts and links between the overview and this page."""
        root = [(_("Background jobs"), self.link("changelist"))] if title != _("Background jobs") else []
        shared = {
            **self.admin.admin_site.each_context(self.request),
            "opts": self.admin.opts,
            "path": self.request.path,
            "here": self.request.get_full_path(),
            "title": title,
            "trail": [*root, *trail],
            "may": self.may,
            "sections": [
                (_("Queues"), self.link("changelist")),
                (_("Schedules"), self.link("schedules")),
                (_("Workers"), self.link("workers")),
            ],
        }
        return TemplateResponse(self.request, f"{FOLDER}/{template}.html", {**shared, **context}, status=status)

    def again(self) -> HttpResponse:
        """Back to this page, so that reloading it does nothing twice. What follows on it nobody has selected."""
        asked = self.request.GET.copy()
        asked.pop("all", None)
        path = self.request.get_full_path().partition("?")[0]
        return HttpResponseRedirect(f"{path}?{asked.urlencode()}" if asked else path)

    def chosen(self, acts: Mapping[str, Act]) -> tuple[str, Act]:
        """The act that the form asks for. Raises `BadRequest`, and `PermissionDenied`."""
        name = self.request.POST.get("action", "")
        if name not in acts:
            raise BadRequest("there is no such action")
        self.require(acts[name])
        return name, acts[name]

    def confirm(
        self, title: str, trail: list[tuple[str, str]], items: list[str], fields: list[tuple[str, str]], hint: str = ""
    ) -> HttpResponse | None:
        """A page that asks whether to delete; None if that was answered."""
        if self.request.POST.get("confirmed") == "yes":
            return None
        return self.answer("confirm", title, trail, items=items, fields=fields, hint=hint)


def page(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Make a view of a function of a `Frame`: for those who may look, and with an answer when Redis is away."""

    @wraps(view)
    def shown(admin: ModelAdmin[Any], request: HttpRequest, **names: str) -> HttpResponse:
        if not admin.has_view_permission(request):
            raise PermissionDenied
        frame = Frame(admin, request)
        try:
            return view(frame, **{name: _unquoted(value) for name, value in names.items()})
        except (Unavailable, ServerError) as error:
            is_away, was_act = isinstance(error, Unavailable), request.method == "POST"
            title = _("Redis is away") if is_away else _("Redis refuses")
            said = {"error": plain(error), "is_away": is_away, "was_act": was_act}
            return frame.answer("away", title, [], status=503, **said)

    return shown


def queue_named(name: str) -> Jobs:
    """The queue of that name. Raises `Http404`."""
    try:
        return queues_by_name()[name]
    except KeyError:
        raise Http404(_("No queue of this name is known to this process.")) from None


def _quoted(name: str) -> str:
    """As the admin quotes keys for addresses, and dots, too: browsers take `..` for the folder above."""
    return str(quote(name)).replace(".", "_2E")


def _unquoted(name: str) -> str:
    """The other way; a line before these letters was quoted itself, so they are a dot."""
    return str(unquote(name.replace("_2E", ".")))
