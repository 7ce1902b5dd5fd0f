"""What the admin needs to know of jobs: a name and permissions. Nothing of them is in the database."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _


class _Nothing(models.Manager[Any]):
    """There is no table, so nothing is asked of it: `dumpdata`, for example, would."""

    def get_queryset(self) -> models.QuerySet[Any]:
        nothing: models.QuerySet[Any] = super().get_queryset().none()
        return nothing


class BackgroundJob(models.Model):
    """Stands for all queues, jobs, schedules and workers, which are in Redis.

    `view_backgroundjob` lets look at them, `change_backgroundjob` lets retry, cancel, pause, resume and run,
    `delete_backgroundjob` lets delete.
    """

    id: models.CharField[str, str] = models.CharField(primary_key=True, max_length=300)
    title = ""

    objects = _Nothing()

    class Meta:
        managed = False
        base_manager_name = "objects"
        default_permissions = ("view", "change", "delete")
        verbose_name = _("background job")
        verbose_name_plural = _("background jobs")

    def __str__(self) -> str:
        return self.title or str(self.id)
