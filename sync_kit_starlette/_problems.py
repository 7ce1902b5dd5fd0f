"""Refusals as JSON problems (RFC 9457)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from sync_kit.ratelimit.headers import PROBLEM_TYPE, retry_after_field

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def problem(status: int, title: str, detail: str, retry_after: float | None = None) -> JSONResponse:
    """A problem response; `retry_after` seconds become a `Retry-After` of whole seconds, rounded up, at least 1."""
    after = None if retry_after is None else retry_after_field(retry_after)
    headers = {} if after is None else {"Retry-After": after}
    return respond({"title": title, "status": status, "detail": detail}, headers)


def respond(body: Mapping[str, Any], headers: Mapping[str, str]) -> JSONResponse:
    """The response that says `body`."""
    return JSONResponse(body, body["status"], headers, media_type=PROBLEM_TYPE)
