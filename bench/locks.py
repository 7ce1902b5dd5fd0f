"""Subject C: locks. `python locks.py --peer NAME` prints one JSON line.

uncontended: acquire+release pairs/s (1 task; 32 tasks on distinct keys; or 1 thread).
contended: 16 tasks (threads for sync peers) fight for one lock, 25 acquisitions each
(400 in all), each holds it ~1 ms and comes straight back for the next. hand-over = from
just before release() to acquire() returning in a *different* task (it includes the
release round trip); same_owner = share of acquisitions won by the task that had just
released (barging: cheap, but unfair); wait = how long one acquire() took."""
from __future__ import annotations

import argparse
import asyncio
import secrets
import threading
import time

from common import HOST, PORT, SCALE, URL, Admin, arate, arun, emit, med, pct, srate, versions

TASKS, TOTAL, HOLD = 16, 400, 0.001


# async: build() -> (await setup()) -> factory(key) -> (acquire coroutine fn, release coroutine fn)
def redispy_async(**kw):
    async def setup():
        import redis.asyncio as r

        c = r.Redis.from_url(URL)

        def factory(key):
            lk = c.lock(key, timeout=10, **kw)
            return lk.acquire, lk.release

        return factory

    return setup


async def pottery_aio():
    import redis.asyncio as r
    from pottery import AIORedlock

    c = r.Redis.from_url(URL)

    def factory(key):
        lk = AIORedlock(key=key, masters={c}, auto_release_time=10)
        return lk.acquire, lk.release

    return factory


async def aioredlock_():
    from aioredlock import Aioredlock

    mgr = Aioredlock([(HOST, PORT)], retry_count=10_000, retry_delay_min=0.1, retry_delay_max=0.3)

    def factory(key):
        box = []

        async def acq():
            box.append(await mgr.lock(key, lock_timeout=10))
            return True

        async def rel():
            await mgr.unlock(box.pop())

        return acq, rel

    return factory


async def proto_blpop():
    """Our prototype: one Lua call to take the lock; losers BLPOP a signal list (no
    polling, ~FIFO); release is one Lua call (compare, DEL, signal with a TTL).
    Shared auto-pipelined connection for commands, a small pool for the blocking waits."""
    from miniclient import Mini

    c = await Mini.connect(HOST, PORT)
    take = await c.cmd("SCRIPT", "LOAD", """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then redis.call('DEL', KEYS[2]) return 0 end
return redis.call('PTTL', KEYS[1])""")
    drop = await c.cmd("SCRIPT", "LOAD", """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1]) redis.call('LPUSH', KEYS[2], 1) redis.call('PEXPIRE', KEYS[2], 1000) return 1""")
    pool: list = []

    def factory(key):
        tok, sig = secrets.token_hex(8), key + ":sig"

        async def acq():
            while (left := await c.cmd("EVALSHA", take, 2, key, sig, tok, 10_000)) != 0:
                b = pool.pop() if pool else await Mini.connect(HOST, PORT)
                await b.cmd("BLPOP", sig, max(0.001, left / 1000))
                pool.append(b)
            return True

        async def rel():
            await c.cmd("EVALSHA", drop, 2, key, sig, tok)

        return acq, rel

    return factory


async def sync_kit_async():
    from sync_kit import Mutex, SyncKit

    mutex = Mutex("bench", ttl=10, wait=60, kit=SyncKit(URL))

    def factory(key):
        box = []

        async def acq():
            box.append(await mutex.acquire(key))
            return box[-1] is not None

        async def rel():
            await box.pop().release()

        return acq, rel

    return factory


async def sync_kit_guard():
    """The guarded block: renewed, cancelled when lost."""
    from sync_kit import Mutex, SyncKit

    mutex = Mutex("bench", ttl=10, wait=60, kit=SyncKit(URL))

    def factory(key):
        box = []

        async def acq():
            box.append(mutex.lock(key))
            await box[-1].__aenter__()
            return True

        async def rel():
            await box.pop().__aexit__(None, None, None)

        return acq, rel

    return factory


def sync_kit_sync():
    from sync_kit import Mutex, SyncKit

    mutex = Mutex("bench", ttl=10, wait=60, kit=SyncKit(URL)).blocking

    def factory(key):
        box = []

        def acq():
            box.append(mutex.acquire(key))
            return box[-1] is not None

        return acq, lambda: box.pop().release()

    return factory


# sync: build() -> factory(key) -> (acquire fn, release fn)
def redispy_sync(**kw):
    def build():
        import redis

        c = redis.Redis.from_url(URL)

        def factory(key):
            lk = c.lock(key, timeout=10, **kw)
            return lk.acquire, lk.release

        return factory

    return build


def python_redis_lock(**kw):
    def build():
        import redis
        import redis_lock

        c = redis.Redis.from_url(URL)

        def factory(key):
            lk = redis_lock.Lock(c, key, expire=10, **kw)
            return lk.acquire, lk.release

        return factory

    return build


def pottery_sync():
    import redis
    from pottery import Redlock

    c = redis.Redis.from_url(URL)

    def factory(key):
        lk = Redlock(key=key, masters={c}, auto_release_time=10)
        return lk.acquire, lk.release

    return factory


ASYNC = {
    "sync_kit": ("ours", sync_kit_async),
    "sync_kit-guard": ("ours", sync_kit_guard),
    "redispy-async": ("lock", redispy_async()),
    "redispy-async-sleep0.01": ("lock", redispy_async(sleep=0.01)),
    "pottery-aioredlock": ("lock", pottery_aio),
    "aioredlock": ("aioredlock", aioredlock_),
    "proto-blpop": ("lock", proto_blpop),
}
SYNC = {
    "sync_kit-sync": ("ours", sync_kit_sync),
    "redispy-sync": ("lock", redispy_sync()),
    "redispy-sync-sleep0.01": ("lock", redispy_sync(sleep=0.01)),
    "python-redis-lock": ("lock", python_redis_lock()),
    "python-redis-lock-renew": ("lock", python_redis_lock(auto_renewal=True)),
    "pottery-redlock": ("lock", pottery_sync),
}
PEERS = {k: v[0] for k, v in {**ASYNC, **SYNC}.items()}


def contention_metrics(adm, wall, log, waits, n):
    calls, reads = adm.stats()
    log.sort()  # (t, kind, owner): kind 0 = release begins, 1 = acquired
    hand, last, same, pairs = [], None, 0, 0
    for t, kind, who in log:
        if kind == 0:
            last = (t, who)
        elif last is not None:
            pairs += 1
            if last[1] == who:
                same += 1
            else:
                hand.append((t - last[0]) * 1000)
            last = None
    return {"cont_wall_s": wall, "cont_n": n, "handover_p50_ms": med(hand), "handover_p99_ms": pct(hand, 0.99),
            "same_owner": same / max(1, pairs), "wait_p50_ms": med(waits) * 1000, "wait_max_ms": max(waits) * 1000,
            "cont_cmds_per_acq": sum(calls.values()) / n, **sent_by_us(calls, n)}


def sent_by_us(calls, n):
    """Commands of scripts count as commands too (above); what goes over the wire from sync_kit is scripts and reads."""
    sent = sum(calls.get(name, 0) for name in ("evalsha", "eval", "blpop"))
    return {"cont_sent_per_acq": sent / n} if sent else {}


async def bench_async(setup):
    adm = Admin()
    adm.flush()
    factory = await setup()
    locks = {k: factory(k) for k in [f"u{i}" for i in range(32)]}

    async def pair(key):
        acq, rel = locks[key]
        if not await acq():
            raise SystemExit("not acquired")
        await rel()

    m = {"pairs_c1": await arate(pair, ["u0"], 1)}
    adm.stats_reset()
    for _ in range(100):
        await pair("u0")
    calls, reads = adm.stats()
    m["cmds_per_pair"], m["roundtrips_per_pair"] = sum(calls.values()) / 100, reads / 100

    async def owner(i, n):
        for _ in range(n):
            await pair(f"u{i}")

    async def many(n):
        t = time.perf_counter()
        await asyncio.gather(*[owner(i, n // 32) for i in range(32)])
        return n // 32 * 32 / (time.perf_counter() - t)

    await many(64)
    m["pairs_c32"] = await many(max(64, int(await many(320) * 0.8 * SCALE)))

    each = max(1, int(TOTAL / TASKS * SCALE))
    adm.flush()
    log, waits, inside, t_end = [], [], [0], time.perf_counter() + 60

    async def fight(me):
        acq, rel = factory("fight")
        done = 0
        while done < each and time.perf_counter() < t_end:
            t0 = time.perf_counter()
            while not await acq():  # pottery gives up by timeout
                pass
            done += 1
            log.append((time.perf_counter(), 1, me))
            waits.append(log[-1][0] - t0)
            inside[0] += 1
            assert inside[0] == 1, "mutual exclusion broken"
            await asyncio.sleep(HOLD)
            inside[0] -= 1
            log.append((time.perf_counter(), 0, me))
            await rel()

    adm.stats_reset()
    t = time.perf_counter()
    await asyncio.gather(*[fight(i) for i in range(TASKS)])
    m |= contention_metrics(adm, time.perf_counter() - t, log, waits, len(waits))
    return m


def bench_sync(build):
    adm = Admin()
    adm.flush()
    factory = build()
    acq, rel = factory("u0")

    def pair(_):
        if not acq():
            raise SystemExit("not acquired")
        rel()

    m = {"pairs_sync": srate(pair, ["u0"])}
    adm.stats_reset()
    for _ in range(100):
        pair(0)
    calls, reads = adm.stats()
    m["cmds_per_pair"], m["roundtrips_per_pair"] = sum(calls.values()) / 100, reads / 100
    each = max(1, int(TOTAL / TASKS * SCALE))
    adm.flush()
    log, waits, inside, t_end = [], [], [0], time.perf_counter() + 60
    errors = []

    def fight(me):
        acq, rel = factory("fight")
        done = 0
        try:
            while done < each and time.perf_counter() < t_end:
                t0 = time.perf_counter()
                while not acq():
                    pass
                done += 1
                log.append((time.perf_counter(), 1, me))
                waits.append(log[-1][0] - t0)
                inside[0] += 1
                assert inside[0] == 1, "mutual exclusion broken"
                time.sleep(HOLD)
                inside[0] -= 1
                log.append((time.perf_counter(), 0, me))
                rel()
        except BaseException as e:
            errors.append(repr(e))

    adm.stats_reset()
    t = time.perf_counter()
    th = [threading.Thread(target=fight, args=(i,), daemon=True) for i in range(TASKS)]
    [x.start() for x in th]
    [x.join(70) for x in th]
    if errors:
        m["cont_errors"] = len(errors)
    m |= contention_metrics(adm, time.perf_counter() - t, log, waits, len(waits))
    return m


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--peer", required=True, choices=sorted(PEERS))
    a = ap.parse_args()
    m = arun(bench_async(ASYNC[a.peer][1])) if a.peer in ASYNC else bench_sync(SYNC[a.peer][1])
    emit(a.peer, "locks", m, versions=versions("sync-kit", "redis", "hiredis", "python-redis-lock", "pottery", "aioredlock", "aioredis"))


if __name__ == "__main__":
    main()
