"""The app: what happens when Django starts."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core.signals import setting_changed
from django.utils.module_loading import autodiscover_modules

MODULES = ("tasks", "jobs")


class SyncKitConfig(AppConfig):
    """`INSTALLED_APPS += ["sync_kit_django"]`."""

    name = "sync_kit_django"
    verbose_name = "Sync Kit"
    default_auto_field = "django.db.models.BigAutoField"

    def __init__(self, app_name: str, app_module: Any) -> None:
        super().__init__(app_name, app_module)
        from sync_kit_django import conf

        conf.install_kit()  # other apps may be ready before this one, and use it

    def ready(self) -> None:
        """Follow the settings, and import the `tasks` and `jobs` of every app: an error in one of them is raised."""
        from sync_kit.jobs import outlet
        from sync_kit_django import _discovery, _mode, checks, conf  # noqa: F401 (importing the checks registers them)
        from sync_kit_django._threads import DjangoThreads

        setting_changed.connect(conf.on_setting_changed, dispatch_uid="sync_kit")
        setting_changed.connect(_discovery.on_setting_changed, dispatch_uid="sync_kit_tasks")
        _mode.follow()
        outlet.threads = DjangoThreads()
        _discovery.remember_task_queues()
        autodiscover_modules(*MODULES)
