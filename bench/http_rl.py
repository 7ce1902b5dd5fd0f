"""Subject B: a limiter, or a lock, inside an HTTP app. `python http_rl.py --peer NAME` prints one JSON line.

uvicorn, 1 worker, httptools + uvloop, access log off; GET / answers 'ok'; limit never
reached (1,000,000 per hour). Driven by `wrk -t1 -c32 -d5s` after a 1 s warm-up. The peers
`*-exclusive` hold a lock on one of 10,000 resources, in turns (`ids.lua`): it is never busy."""
from __future__ import annotations

import argparse
import os
import re
import socket
import subprocess
import tempfile
import sys
import time
from pathlib import Path

try:  # FastAPI resolves the handlers' annotations in module globals
    from fastapi import Request
except ImportError:
    pass

from common import HOST, PORT, SCALE, URL, Admin, emit, versions



def free_port():
    with socket.socket() as s:
        s.bind((HOST, 0))
        return s.getsockname()[1]


APP_PORT = int(os.environ.get("BENCH_APP_PORT") or free_port())
PEERS = {
    "sync_kit-mw": "ours",
    "sync_kit-exempt": "ours",
    "sync_kit-decorator": "ours",
    "sync_kit-fastapi": "ours",
    "none-exclusive": "ours",
    "sync_kit-exclusive": "ours",
    "redispy-lock-exclusive": "ours",
    "none-starlette": "http",
    "none-fastapi": "http",
    "raw-redispy-mw": "http",
    "raw-miniclient-mw": "http",
    "limits-fixed-mw": "http",
    "limits-slidingcounter-mw": "http",
    "throttled-sliding-mw": "http",
    "throttled-gcra-mw": "http",
    "throttled-fastapi-contrib": "http",
    "slowapi-starlette": "http",
    "slowapi-fastapi": "http",
    "fastapi-limiter-0.2": "http",
    "fastapi-limiter-0.1": "http_fl01",
}


def make_app():
    """Runs in the uvicorn process; the peer's name comes from the environment."""
    peer = os.environ["BENCH_PEER"]
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def home(request):
        return PlainTextResponse("ok")

    def starlette(check_factory=None):
        app = Starlette(routes=[Route("/", home)])
        if check_factory is None:
            return app

        class Limit:  # the same hand-written pure ASGI middleware for every *-mw peer
            def __init__(self, app):
                self.app, self.check = app, None

            async def __call__(self, scope, receive, send):
                if scope["type"] != "http":
                    return await self.app(scope, receive, send)
                if self.check is None:
                    self.check = await check_factory()
                if not await self.check(scope["client"][0]):
                    return await PlainTextResponse("Too Many Requests", 429)(scope, receive, send)
                await self.app(scope, receive, send)

        return Limit(app)

    if peer == "none-starlette":
        return starlette()
    if peer.endswith("-exclusive"):
        return exclusive_app(peer)
    if peer in ("sync_kit-mw", "sync_kit-exempt"):
        from sync_kit import SyncKit
        from sync_kit_starlette import RateLimitMiddleware

        app, exempt = starlette(), ["/"] if peer == "sync_kit-exempt" else []
        app.add_middleware(RateLimitMiddleware, limit=1_000_000, window=3600, exempt=exempt, kit=SyncKit(URL))
        return app
    if peer == "sync_kit-decorator":
        from sync_kit import SyncKit
        from sync_kit_starlette import rate_limited

        return Starlette(routes=[Route("/", rate_limited("1000000/hour", kit=SyncKit(URL))(home))])
    if peer.endswith("-mw"):
        import ratelimit as R

        build = {
            "raw-redispy-mw": R.raw_redispy,
            "raw-miniclient-mw": R.raw_mini,
            "limits-fixed-mw": R.limits_async("FixedWindowRateLimiter", "redispy"),
            "limits-slidingcounter-mw": R.limits_async("SlidingWindowCounterRateLimiter", "redispy"),
            "throttled-sliding-mw": R.throttled_async("sliding_window"),
            "throttled-gcra-mw": R.throttled_async("gcra"),
        }[peer]
        make = build()
        return starlette(lambda: make(R.BIG))
    if peer == "slowapi-starlette":
        from slowapi import Limiter
        from slowapi.util import get_remote_address

        lim = Limiter(key_func=get_remote_address, storage_uri=URL)

        @lim.limit("1000000/hour")
        async def limited(request):
            return PlainTextResponse("ok")

        app = Starlette(routes=[Route("/", limited)])
        app.state.limiter = lim
        return app

    from fastapi import Depends, FastAPI
    from fastapi.responses import PlainTextResponse as P

    app = FastAPI(openapi_url=None)
    if peer == "none-fastapi":

        @app.get("/", response_class=P)
        async def r():
            return "ok"

    elif peer == "sync_kit-fastapi":
        from sync_kit import SyncKit
        from sync_kit_starlette.fastapi import RateLimit

        @app.get("/", response_class=P, dependencies=[Depends(RateLimit("1000000/hour", kit=SyncKit(URL)))])
        async def r():
            return "ok"

    elif peer == "slowapi-fastapi":
        from slowapi import Limiter
        from slowapi.util import get_remote_address

        lim = Limiter(key_func=get_remote_address, storage_uri=URL)
        app.state.limiter = lim

        @app.get("/", response_class=P)
        @lim.limit("1000000/hour")
        async def r(request: Request):
            return P("ok")

    elif peer == "throttled-fastapi-contrib":
        from throttled.asyncio import RedisStore
        from throttled.asyncio.contrib.fastapi import Limiter

        lim = Limiter("1000000/h burst 1000000", store=RedisStore(server=URL), using="gcra")

        @app.get("/", response_class=P)
        @lim.limit()
        async def r(request: Request):
            return P("ok")

    elif peer == "fastapi-limiter-0.1":
        import redis.asyncio as redis
        from contextlib import asynccontextmanager
        from fastapi_limiter import FastAPILimiter
        from fastapi_limiter.depends import RateLimiter

        @asynccontextmanager
        async def life(app):
            await FastAPILimiter.init(redis.Redis.from_url(URL))
            yield

        app = FastAPI(openapi_url=None, lifespan=life)

        @app.get("/", response_class=P, dependencies=[Depends(RateLimiter(times=1_000_000, hours=1))])
        async def r():
            return "ok"

    elif peer == "fastapi-limiter-0.2":
        import redis.asyncio as redis
        from fastapi_limiter.depends import RateLimiter
        from pyrate_limiter import BucketFactory, Limiter, Rate, RateItem
        from pyrate_limiter.buckets import RedisBucket

        c = redis.Redis.from_url(URL)
        rates = [Rate(1_000_000, 3_600_000)]

        class PerKey(BucketFactory):
            def __init__(self):
                self.buckets = {}

            def wrap_item(self, name, weight=1):
                return RateItem(name, time.time_ns() // 1_000_000, weight=weight)

            async def get(self, item):
                b = self.buckets.get(item.name)
                if b is None:
                    b = self.buckets[item.name] = await RedisBucket.init(rates, c, "fl:" + item.name)
                return b

        @app.get("/", response_class=P, dependencies=[Depends(RateLimiter(Limiter(PerKey())))])
        async def r():
            return "ok"

    return app


def exclusive_app(peer):
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def report(request):
        return PlainTextResponse("ok")

    if peer == "sync_kit-exclusive":
        from sync_kit import SyncKit
        from sync_kit_starlette import exclusive

        report = exclusive("report:<id>", kit=SyncKit(URL))(report)
    elif peer == "redispy-lock-exclusive":  # by hand: no renewal, no fence, and nothing is held for the body
        import redis.asyncio as redis

        client = redis.Redis(connection_pool=redis.BlockingConnectionPool.from_url(URL, max_connections=64, protocol=2))

        async def report(request):
            lock = client.lock("report:" + request.path_params["id"], timeout=10)
            if not await lock.acquire(blocking=False):
                return PlainTextResponse("busy", 409)
            try:
                return PlainTextResponse("ok")
            finally:
                await lock.release()

    return Starlette(routes=[Route("/{id}", report)])


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--peer", required=True, choices=sorted(PEERS))
    a = ap.parse_args()
    adm = Admin()
    adm.flush()
    path = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    env = dict(os.environ, BENCH_PEER=a.peer, PYTHONPATH=path)
    log = open(os.path.join(tempfile.gettempdir(), f"bench-http-{a.peer}.log"), "w")
    srv = subprocess.Popen([sys.executable, "-m", "uvicorn", "--factory", "http_rl:make_app", "--host", HOST, "--port", str(APP_PORT),
                            "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"],
                           env=env, stdout=log, stderr=log)
    try:
        for _ in range(100):
            try:
                socket.create_connection((HOST, APP_PORT), 0.2).close()
                break
            except OSError:
                time.sleep(0.1)

        def wrk(sec, extra=()):
            out = subprocess.run(["wrk", "-t1", "-c32", f"-d{sec}s", "--latency", *extra, f"http://{HOST}:{APP_PORT}/"],
                                 capture_output=True, text=True, timeout=60).stdout
            lat = {k: v for k, v in re.findall(r"(50|99)%\s+([\d.]+\w+)", out)}

            def ms(x):
                n, u = re.match(r"([\d.]+)(\w+)", x).groups()
                return float(n) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60000}[u]

            bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
            n = int(re.search(r"(\d+) requests in", out).group(1))
            return float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)), ms(lat["50"]), ms(lat["99"]), int(bad.group(1)) if bad else 0, n

        by_id = ("-s", str(Path(__file__).with_name("ids.lua"))) if a.peer.endswith("-exclusive") else ()
        wrk(1, by_id)
        adm.stats_reset()
        rps, p50, p99, bad, n = wrk(max(1, int(5 * SCALE)), by_id)
        calls, _ = adm.stats()
        rss = next(int(x.split()[1]) / 1024 for x in open(f"/proc/{srv.pid}/status") if x.startswith("VmRSS"))
        emit(a.peer, "http", {"rps": rps, "p50_ms": p50, "p99_ms": p99, "non2xx": bad, "redis_cmds_per_req": sum(calls.values()) / n, "scripts_per_req": calls.get("evalsha", 0) / n, "rss_mb": rss},
             versions=versions("sync-kit", "uvicorn", "starlette", "fastapi", "uvloop", "httptools", "redis", "limits", "slowapi", "throttled-py", "fastapi-limiter", "pyrate-limiter"))
    finally:
        srv.terminate()
        try:
            srv.wait(5)
        except subprocess.TimeoutExpired:
            srv.kill()


if __name__ == "__main__":
    main()
