"""The backend of `django.tasks`, and of its backport on Django 5.2. See README.md of `sync_kit_django`."""

from sync_kit_django.backend.backend import TasksBackend
from sync_kit_django.backend.queue import forget_queues
from sync_kit_django.backend.task import SyncKitTask

__all__ = ["SyncKitTask", "TasksBackend", "forget_queues"]
