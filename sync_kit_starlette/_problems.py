"""Refusals as JSON problems (RFC 9457)."""

from __future__ import annotations

import math

from starlette.responses import JSONResponse


def problem(status: int, title: str, detail: str, retry_after: float | None = None) -> JSONResponse:
    """A problem response; `retry_after` seconds become a `Retry-After` of whole seconds, rounded up, at least 1."""
    headers = {}
    if retry_after is not None and math.isfinite(retry_after):
        headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
    body = {"title": title, "status": status, "detail": detail}
    return JSONResponse(body, status, headers, media_type="application/problem+json")
