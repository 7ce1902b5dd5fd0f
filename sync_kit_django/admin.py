"""The pages of the admin site. For a site of your own: `site.register(BackgroundJob, BackgroundJobAdmin)`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.urls import path

from sync_kit_django._pages import views
from sync_kit_django._pages.frame import NAME
from sync_kit_django.models import BackgroundJob

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.urls import URLPattern

__all__ = ["BackgroundJobAdmin"]

PAGES = (
    ("", views.queues, "changelist"),
    ("schedules/", views.schedules, "schedules"),
    ("workers/", views.workers, "workers"),
    ("queue/<str:queue>/", views.queue, "queue"),
    ("queue/<str:queue>/job/<str:job>/", views.job, "job"),
    ("<str:key>/change/", views.change, "change"),
)


@admin.register(BackgroundJob)
class BackgroundJobAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # Django's own class takes none when it runs
    """Queues, jobs, schedules and workers: to look at, and to act on."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Jobs are sent by code."""
        return False

    def get_urls(self) -> list[URLPattern]:
        """The pages; those that come with a model would look into a table, and there is none."""
        site = self.admin_site
        return [path(route, site.admin_view(partial(view, self)), name=f"{NAME}_{name}") for route, view, name in PAGES]
