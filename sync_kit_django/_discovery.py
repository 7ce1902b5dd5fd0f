"""The queues of `TASKS`: known to workers and to the admin as soon as Django has started."""

from __future__ import annotations

import sys
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

BACKENDS = "sync_kit_django.backend"


def remember_task_queues() -> None:
    """Make the queues of every backend of `TASKS` that is a `TasksBackend`, unless its settings are wrong.

    Raises:
        ConfigurationError: there is one, and no django.tasks.
    """
    for alias, params in (getattr(settings, "TASKS", None) or {}).items():
        backend = _ours(params)
        if backend is not None:
            backend(alias, params).remember()


def on_setting_changed(*, setting: str, **_: Any) -> None:
    """Follow `override_settings`."""
    if setting != "TASKS":
        return
    if BACKENDS in sys.modules:
        sys.modules[BACKENDS].forget_queues()
    remember_task_queues()


def _ours(params: Any) -> Any:
    """The class of a backend, if it is ours. One that cannot be imported is not: Django says what is wrong with it."""
    try:
        found = import_string(params["BACKEND"])
    except (ImportError, KeyError, TypeError, AttributeError):
        return None
    ours = getattr(sys.modules.get(BACKENDS), "TasksBackend", None)  # whoever derives from it has imported it
    return found if ours is not None and isinstance(found, type) and issubclass(found, ours) else None
