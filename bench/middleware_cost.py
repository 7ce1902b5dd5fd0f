"""What the middleware adds to a request that it does not count: `python bench/middleware_cost.py` prints microseconds.

No server and no Redis: an ASGI app that does nothing is called with and without the middleware, in turns."""
from __future__ import annotations

import asyncio
import statistics
import time

from sync_kit_starlette import RateLimitMiddleware

CALLS, ROUNDS = 20_000, 9


async def nothing(scope, receive, send):
    pass


def scope(path):
    headers = [(b"host", b"example.com"), (b"user-agent", b"wrk"), (b"accept", b"*/*")]
    return {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": headers, "client": ("127.0.0.1", 1)}


async def microseconds(app, path):
    call, given = app.__call__ if not callable(app) else app, scope(path)
    began = time.perf_counter()
    for _ in range(CALLS):
        await call(given, None, None)
    return (time.perf_counter() - began) / CALLS * 1e6


async def main():
    exempt = ["/live", "/ready", *(f"/static{number}/*" for number in range(8))]
    counted = RateLimitMiddleware(nothing, limit=100, exempt=exempt)
    writes = RateLimitMiddleware(nothing, limit=100, methods=["POST"])
    cases = {"an exempt path": (counted, "/live"), "below an exempt path": (counted, "/static7/a.js"), "a method that is not counted": (writes, "/")}
    for title, (app, path) in cases.items():
        more = [await microseconds(app, path) - await microseconds(nothing, path) for _ in range(ROUNDS)]
        print(f"{title}: {statistics.median(more):.2f} us (rounds {min(more):.2f} to {max(more):.2f})")


asyncio.run(main())
