"""sync_kit for Starlette and FastAPI: the same words, translated to requests. See README.md here."""

from sync_kit_starlette.jobs import job_worker
from sync_kit_starlette.mutex import exclusive, lease_of
from sync_kit_starlette.ratelimit import RateLimitMiddleware, client_address, rate_limited

__all__ = ["RateLimitMiddleware", "client_address", "exclusive", "job_worker", "lease_of", "rate_limited"]
