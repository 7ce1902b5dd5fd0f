"""Rate limiting, exclusive views and background jobs for Django, on Redis or Valkey. See README.md here."""

from sync_kit_django.asgi import with_worker
from sync_kit_django.errors import NotSentError
from sync_kit_django.jobs import Jobs
from sync_kit_django.receipt import Receipt
from sync_kit_django.schedules import Schedules
from sync_kit_django.sending import Sender, Task

__all__ = [
    "Jobs",
    "NotSentError",
    "Receipt",
    "Schedules",
    "Sender",
    "Task",
    "with_worker",
]
