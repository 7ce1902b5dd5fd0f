"""Rate limiting, exclusive views and background jobs for Django, on Redis or Valkey. See README.md here."""

from sync_kit_django.asgi import with_worker

__all__ = ["with_worker"]
