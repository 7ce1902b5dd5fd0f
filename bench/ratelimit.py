"""Subject A: rate-limit checks in process. `python ratelimit.py --peer NAME` prints one JSON line.

All peers run the *allowed* path with a limit that is never reached (1,000,000 per
hour), except `denied_c64` (limit 10, one key) and the memory figure (limit 100,
100 hits on each of 100 keys)."""
from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import time

from common import HOST, PORT, SCALE, URL, Admin, arate, arun, emit, srate, versions

BIG, HOUR = 1_000_000, 3600
FLOOR = """local c = redis.call('INCR', KEYS[1])
if c == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return c"""


# ---- async peers: each returns an async factory limit -> (async check(key) -> allowed)
def raw_redispy():
    import redis.asyncio as r

    c = r.Redis.from_url(URL)

    async def make(limit):
        sha = await c.script_load(FLOOR)

        async def check(key):
            return await c.evalsha(sha, 1, key, HOUR) <= limit

        return check

    return make


def raw_mini():
    async def make(limit):
        from miniclient import Mini

        c = await Mini.connect(HOST, PORT)
        sha = await c.cmd("SCRIPT", "LOAD", FLOOR)
        cmd = c.cmd

        async def check(key):
            return await cmd("EVALSHA", sha, 1, key, HOUR) <= limit

        return check

    return make


def raw_autopipe():
    """redis-py's own connection (auth, TLS, parser as usual), but calls made in the same
    event-loop turn share one write: the ceiling that stays on top of redis-py."""
    import hiredis
    import redis.asyncio as r

    cl = r.Redis.from_url(URL)

    async def make(limit):
        conn = await cl.connection_pool.get_connection()
        sha = await cl.script_load(FLOOR)
        loop = asyncio.get_running_loop()
        queue, busy = [], []

        async def pump():
            while queue:
                batch, queue[:] = queue[:], []
                await conn.send_packed_command([b"".join([hiredis.pack_command(a) for a, _ in batch])])
                for _, f in batch:
                    f.set_result(await conn.read_response())
                await asyncio.sleep(0)
            busy.clear()

        async def check(key):
            f = loop.create_future()
            queue.append((("EVALSHA", sha, 1, key, HOUR), f))
            if not busy:
                busy.append(loop.create_task(pump()))
            return await f <= limit

        return check

    return make


def limits_async(strategy, impl):
    def build():
        from limits import RateLimitItemPerHour
        from limits.aio import strategies
        from limits.storage import storage_from_string

        st = storage_from_string("async+" + URL, implementation=impl)
        lim = getattr(strategies, strategy)(st)

        async def make(limit):
            item = RateLimitItemPerHour(limit)

            async def check(key):
                return await lim.hit(item, key)

            return check

        return make

    return build


def throttled_async(using):
    def build():
        from throttled.asyncio import RedisStore, Throttled, per_duration
        from datetime import timedelta

        store = RedisStore(server=URL)

        async def make(limit):
            t = Throttled(using=using, quota=per_duration(timedelta(hours=1), limit, burst=limit), store=store)

            async def check(key):
                return not (await t.limit(key)).limited

            return check

        return make

    return build


def pyrate_async():
    import redis.asyncio as r
    from pyrate_limiter import BucketFactory, Limiter, Rate, RateItem
    from pyrate_limiter.buckets import RedisBucket

    c = r.Redis.from_url(URL)

    async def make(limit):
        rates = [Rate(limit, HOUR * 1000)]
        first = await RedisBucket.init(rates, c, "first")
        sha = first.script_hash

        class PerKey(BucketFactory):  # the documented way to get one bucket per key
            def __init__(self):
                self.buckets = {}

            def wrap_item(self, name, weight=1):
                return RateItem(name, time.time_ns() // 1_000_000, weight=weight)

            def get(self, item):
                b = self.buckets.get(item.name)
                if b is None:  # no leak task per bucket: would add background commands
                    b = self.buckets[item.name] = RedisBucket(rates, c, "pl:" + item.name, sha)
                return b

        lim = Limiter(PerKey())

        async def check(key):
            return await lim.try_acquire_async(key, blocking=False)

        return check

    return make


def fastapi_limiter01():
    import redis.asyncio as r
    from fastapi_limiter import FastAPILimiter
    from fastapi_limiter.depends import RateLimiter

    c = r.Redis.from_url(URL)

    async def make(limit):
        await FastAPILimiter.init(c)
        lim = RateLimiter(times=limit, hours=1)

        async def check(key):
            return await lim._check(key) == 0

        return check

    return make


def sync_kit_async(*more, **options):
    def build():
        from sync_kit import RateLimiter, SyncKit

        kit = SyncKit(URL)

        async def make(limit):
            limiter = RateLimiter("bench", f"{limit}/hour", *more, kit=kit, **options)

            async def check(key):
                return (await limiter.check(key)).allowed

            return check

        return make

    return build


# ---- sync peers
def sync_kit_sync():
    from sync_kit import RateLimiter, SyncKit

    kit = SyncKit(URL)

    def make(limit):
        limiter = RateLimiter("bench", limit=limit, window=HOUR, kit=kit).blocking
        return lambda key: limiter.check(key).allowed

    return make


def raw_redispy_sync():
    import redis as r

    c = r.Redis.from_url(URL)

    def make(limit):
        sha = c.script_load(FLOOR)
        return lambda key: c.evalsha(sha, 1, key, HOUR) <= limit

    return make


def limits_sync(strategy):
    def build():
        from limits import RateLimitItemPerHour, strategies
        from limits.storage import storage_from_string

        lim = getattr(strategies, strategy)(storage_from_string(URL))

        def make(limit):
            item = RateLimitItemPerHour(limit)
            return lambda key: lim.hit(item, key)

        return make

    return build


def throttled_sync(using):
    def build():
        from datetime import timedelta

        from throttled import RedisStore, Throttled, per_duration

        store = RedisStore(server=URL)

        def make(limit):
            t = Throttled(using=using, quota=per_duration(timedelta(hours=1), limit, burst=limit), store=store)
            return lambda key: not t.limit(key).limited

        return make

    return build


def django_ratelimit():
    from django.conf import settings

    if not settings.configured:
        settings.configure(CACHES={"default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": URL}}, USE_TZ=True)
    from django_ratelimit.core import is_ratelimited

    class Req:
        method = "GET"

    def make(limit):
        rate = f"{limit}/h"

        def check(key):
            return not is_ratelimited(Req, group="g", key=lambda g, r: key, rate=rate, increment=True)

        return check

    return make


ASYNC = {
    "sync_kit": ("ours", sync_kit_async()),
    "sync_kit-two-rules": ("ours", sync_kit_async("1000000/day")),
    "sync_kit-tokens": ("ours", sync_kit_async("1000000/day/burst=1000000")),
    "sync_kit-no-deny-cache": ("ours", sync_kit_async(deny_cache=False)),
    "raw-redispy": ("rl", raw_redispy),
    "raw-redispy-autopipe": ("rl", raw_autopipe),
    "raw-miniclient": ("rl", raw_mini),
    "limits-fixed": ("rl", limits_async("FixedWindowRateLimiter", "redispy")),
    "limits-fixed-coredis": ("rl_coredis", limits_async("FixedWindowRateLimiter", "coredis")),
    "limits-slidingcounter": ("rl", limits_async("SlidingWindowCounterRateLimiter", "redispy")),
    "limits-moving": ("rl", limits_async("MovingWindowRateLimiter", "redispy")),
    "throttled-fixed": ("rl", throttled_async("fixed_window")),
    "throttled-sliding": ("rl", throttled_async("sliding_window")),
    "throttled-gcra": ("rl", throttled_async("gcra")),
    "throttled-token": ("rl", throttled_async("token_bucket")),
    "pyrate-redis": ("rl", pyrate_async),
    "fastapi-limiter-0.1": ("http_fl01", fastapi_limiter01),
}
SYNC = {
    "sync_kit-sync": ("ours", sync_kit_sync),
    "raw-redispy-sync": ("rl", raw_redispy_sync),
    "limits-fixed-sync": ("rl", limits_sync("FixedWindowRateLimiter")),
    "limits-slidingcounter-sync": ("rl", limits_sync("SlidingWindowCounterRateLimiter")),
    "limits-moving-sync": ("rl", limits_sync("MovingWindowRateLimiter")),
    "throttled-sliding-sync": ("rl", throttled_sync("sliding_window")),
    "throttled-gcra-sync": ("rl", throttled_sync("gcra")),
    "django-ratelimit": ("rl", django_ratelimit),
}
PEERS = {k: v[0] for k, v in {**ASYNC, **SYNC}.items()} | {"redis-benchmark": "rl"}
PKGS = ("sync-kit", "redis", "hiredis", "coredis", "limits", "throttled-py", "pyrate-limiter", "fastapi-limiter", "django", "django-ratelimit")
KEYS1 = ["one"]
KEYS10K = [f"user:{i}" for i in range(10_000)]
MEMKEYS = [f"mem:{i:04d}" for i in range(100)]


def per_check(adm, n):
    calls, reads = adm.stats()
    return {"cmds_per_check": sum(calls.values()) / n, "roundtrips_per_check": reads / n, "redis_us_per_check": adm.usec_per(n)}, calls


async def bench_async(build):
    adm = Admin()
    adm.flush()
    make = build()
    check = await make(BIG)
    m = {}
    m["c1_k1"] = await arate(check, KEYS1, 1)
    adm.stats_reset()
    for _ in range(200):
        assert await check("rt")
    rt, calls = per_check(adm, 200)
    m |= rt
    m["c1_k10000"] = await arate(check, KEYS10K, 1)
    m["c64_k1"] = await arate(check, ["one64"], 64)
    m["c64_k10000"] = await arate(check, KEYS10K, 64)
    deny = await make(10)
    m["denied_c64"] = await arate(deny, ["denied"], 64)
    if await deny("denied"):
        m["denied_c64"] = None
    c100 = await make(100)
    adm.flush()
    async def fill(ks):
        for k in ks:
            for _ in range(100):
                await c100(k)

    await asyncio.gather(*[fill(MEMKEYS[i::10]) for i in range(10)])
    m["bytes_per_key"] = adm.keys_memory() / len(MEMKEYS)
    m["over_limit_allowed"] = int(bool(await c100(MEMKEYS[0])))
    return m, calls


def bench_sync(build):
    adm = Admin()
    adm.flush()
    make = build()
    check = make(BIG)
    m = {"sync_k1": srate(check, KEYS1)}
    adm.stats_reset()
    for _ in range(200):
        assert check("rt")
    rt, calls = per_check(adm, 200)
    m |= rt
    m["sync_k10000"] = srate(check, KEYS10K)
    deny = make(10)
    m["sync_denied"] = srate(deny, ["denied"])
    c100 = make(100)
    adm.flush()
    for k in MEMKEYS:
        for _ in range(100):
            c100(k)
    m["bytes_per_key"] = adm.keys_memory() / len(MEMKEYS)
    m["over_limit_allowed"] = int(bool(c100(MEMKEYS[0])))
    return m, calls


def bench_redis_benchmark():
    adm = Admin()
    adm.flush()
    sha = adm.cmd("SCRIPT", "LOAD", FLOOR).decode()
    m = {}

    def rb(c, key, n, p=1):
        n = int(n * SCALE)
        cmd = ["redis-benchmark", "-h", HOST, "-p", str(PORT), "-q", "-n", str(n), "-c", str(c), "-P", str(p)]
        if "rand" in key:
            cmd += ["-r", "10000"]
        out = subprocess.run(cmd + ["EVALSHA", sha, "1", key, str(HOUR)], capture_output=True, text=True, timeout=60).stdout
        return float(re.findall(r"([\d.]+) requests per second", out)[-1])

    m["c1_k1"] = rb(1, "one", 20_000)
    m["c1_k10000"] = rb(1, "user:__rand_int__", 20_000)
    m["c64_k1"] = rb(64, "one", 80_000)
    m["c64_k10000"] = rb(64, "user:__rand_int__", 80_000)
    m["c64_k10000_P16"] = rb(64, "user:__rand_int__", 300_000, 16)
    return m, {}


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--peer", required=True, choices=sorted(PEERS))
    a = ap.parse_args()
    if a.peer == "redis-benchmark":
        m, calls = bench_redis_benchmark()
    elif a.peer in ASYNC:
        m, calls = arun(bench_async(ASYNC[a.peer][1]))
    else:
        m, calls = bench_sync(SYNC[a.peer][1])
    emit(a.peer, "ratelimit", m, calls_200=calls, versions=versions(*PKGS))


if __name__ == "__main__":
    main()
