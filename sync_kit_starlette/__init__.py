"""sync_kit for Starlette and FastAPI: the same words, translated to requests. See README.md here."""

from sync_kit_starlette.health import health_routes
from sync_kit_starlette.jobs import JobWorker, job_worker, never_started
from sync_kit_starlette.mutex import exclusive, lease_of
from sync_kit_starlette.ratelimit import RateLimitMiddleware, client_address, rate_limited

__all__ = [
    "JobWorker",
    "RateLimitMiddleware",
    "client_address",
    "exclusive",
    "health_routes",
    "job_worker",
    "lease_of",
    "never_started",
    "rate_limited",
]
