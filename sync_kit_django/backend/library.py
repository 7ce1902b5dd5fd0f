"""The library of tasks: `django.tasks` of Django 6, or the package django-tasks before. All differences are here.

Raises `ConfigurationError` when it is imported where there is none.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import django

from sync_kit import ConfigurationError

IS_BUILT_IN = django.VERSION >= (6,)

try:
    if TYPE_CHECKING or not IS_BUILT_IN:
        from django_tasks import signals, task_backends
        from django_tasks.backends.base import BaseTaskBackend
        from django_tasks.base import Task, TaskContext, TaskError, TaskResult, TaskResultStatus
        from django_tasks.exceptions import InvalidTaskError as InvalidTask
        from django_tasks.exceptions import TaskResultDoesNotExist
        from django_tasks.utils import normalize_json
    else:
        from django.tasks import signals, task_backends
        from django.tasks.backends.base import BaseTaskBackend
        from django.tasks.base import Task, TaskContext, TaskError, TaskResult, TaskResultStatus
        from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist
        from django.utils.json import normalize_json
except ImportError as error:
    raise ConfigurationError(
        f"sync_kit_django.TasksBackend needs django.tasks, which Django {django.__version__} does not have: "
        'pip install "django-tasks>=0.12" and add "django_tasks" to INSTALLED_APPS, or update to Django 6'
    ) from error

__all__ = [
    "NAME",
    "SLOTS",
    "BaseTaskBackend",
    "InvalidTask",
    "Task",
    "TaskContext",
    "TaskError",
    "TaskResult",
    "TaskResultDoesNotExist",
    "TaskResultStatus",
    "normalize_json",
    "only_logged",
    "signals",
    "task_backends",
]

NAME = Task.__module__.rpartition(".")[0]
SLOTS = IS_BUILT_IN or sys.version_info >= (3, 11)
"""Whether the classes of the library have slots."""


def only_logged(signal: Any, sender: type) -> bool:
    """Whether nobody but the library's own log listens to a signal."""
    plain, awaited = signal._live_receivers(sender)
    return not awaited and all(receiver.__module__ == signals.__name__ for receiver in plain)
