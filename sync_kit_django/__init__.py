"""Rate limiting, exclusive views and background jobs for Django, on Redis or Valkey. See README.md here."""

from typing import TYPE_CHECKING, Any

from sync_kit_django.asgi import with_worker
from sync_kit_django.errors import NotSentError
from sync_kit_django.jobs import Jobs
from sync_kit_django.middleware import RateLimitMiddleware
from sync_kit_django.mutex import exclusive, lease_of
from sync_kit_django.ratelimit import client_address, protect_login, rate_limit_exempt, rate_limited
from sync_kit_django.receipt import Receipt
from sync_kit_django.schedules import Schedules
from sync_kit_django.sending import Sender, Task

if TYPE_CHECKING:
    from sync_kit_django.backend import TasksBackend

__all__ = [
    "Jobs",
    "NotSentError",
    "RateLimitMiddleware",
    "Receipt",
    "Schedules",
    "Sender",
    "Task",
    "TasksBackend",
    "client_address",
    "exclusive",
    "lease_of",
    "protect_login",
    "rate_limit_exempt",
    "rate_limited",
    "with_worker",
]


def __getattr__(name: str) -> Any:
    if name == "TasksBackend":  # only where it is used: Django 5.2 has no django.tasks of its own
        from sync_kit_django.backend import TasksBackend

        return TasksBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
