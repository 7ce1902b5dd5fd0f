"""Rate limiting, exclusive views and background jobs for Django, on Redis or Valkey. See README.md here."""

__all__: list[str] = []
