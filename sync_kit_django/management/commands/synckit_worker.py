"""`manage.py synckit_worker`: the same as `runworker`, for projects where Channels has that name."""

from sync_kit_django.management.commands.runworker import Command

__all__ = ["Command"]
