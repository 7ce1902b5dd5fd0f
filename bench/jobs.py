"""Subject D: background jobs. `python jobs.py --peer NAME` prints one JSON line.

Driver (this process) enqueues; the worker is one separate process of the same venv
(`--worker`). Phases: enqueue rate, memory per pending job, drain of N no-op jobs at
concurrency 10 and 100, drain of 10 ms sleep jobs at 100, latency of single jobs to an
idle worker (from before enqueue to the first line of the task), idle commands/s, and
for sync_kit the cost of a job with few and with a million waiting. `--delay-ms 2` makes
a round trip between peers and server that much longer (subject `jobs-2ms`; a quarter of
the jobs, and only what the delay changes)."""
from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import select
import subprocess
import tempfile
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import HOST, PORT, SCALE, SERVER_PORT, URL, Admin, arun, emit, med, pct, versions
from far import far

PAYLOAD = "x" * 100
PACKAGES = ("sync-kit", "redis", "hiredis", "arq", "saq", "taskiq", "taskiq-redis", "streaq", "coredis", "pydocket", "dramatiq", "rq",
            "celery", "kombu", "huey")
KINDS_A = {"noop": "anoop", "sleep": "asleep", "lat": "alat", "crash": "acrash"}
KINDS_S = {"noop": "noop", "sleep": "ssleep", "lat": "lat", "crash": "crash"}
FAR = PORT != SERVER_PORT


class Peer:
    venv = ""
    n, n_sleep, n_lat = 20_000, 5_000, 300
    concurrencies = (10, 100)
    sync = False  # whether it is blocking code
    works = True  # or is only enqueued to
    waiting = 0
    bulk = None

    async def open(self): ...
    async def reopen(self): ...


class Arq(Peer):
    venv, n, n_sleep = "arq", 3_000, 2_000
    opts: dict = {}

    async def open(self):
        from arq import create_pool
        from arq.connections import RedisSettings

        self.pool = await create_pool(RedisSettings(HOST, PORT))

    async def enqueue(self, kind, arg):
        await self.pool.enqueue_job(KINDS_A[kind], arg)

    def worker(self, c):
        import jobtasks as T
        from arq.connections import RedisSettings
        from arq.worker import Worker

        from arq.worker import func

        async def noop(ctx, arg):
            await T.anoop(arg)

        async def sleep(ctx, arg):
            await T.asleep(arg)

        async def lat(ctx, arg):
            await T.alat(arg)

        async def crash(ctx, arg):
            await T.acrash(arg)

        fs = [func(noop, name="anoop"), func(sleep, name="asleep"), func(lat, name="alat"), func(crash, name="acrash")]
        Worker(fs, redis_settings=RedisSettings(HOST, PORT), max_jobs=c, **self.opts).run()


class Saq(Peer):
    venv, n, n_sleep = "saq", 6_000, 4_000

    async def open(self):
        from saq import Queue

        self.q = Queue.from_url(URL)
        await self.q.connect()

    async def enqueue(self, kind, arg):
        # saq passes kwargs only
        await self.q.enqueue(kind, arg=arg)

    def worker(self, c):
        import jobtasks as T
        from saq import Queue, Worker

        async def noop(ctx, *, arg):
            await T.anoop(arg)

        async def sleep(ctx, *, arg):
            await T.asleep(arg)

        async def lat(ctx, *, arg):
            await T.alat(arg)

        async def crash(ctx, *, arg):
            await T.acrash(arg)

        async def main():
            fs = [("noop", noop), ("sleep", sleep), ("lat", lat), ("crash", crash)]
            await Worker(Queue.from_url(URL), fs, concurrency=c).start()

        asyncio.run(main())


class Taskiq(Peer):
    venv, n, n_sleep = "taskiq", 12_000, 4_000

    def make(self):
        import jobtasks as T
        from taskiq_redis import ListQueueBroker

        return self.register(ListQueueBroker(URL), T)

    def register(self, b, T):
        self.tasks = {k: b.register_task(getattr(T, f), task_name=k) for k, f in KINDS_A.items()}
        return b

    async def open(self):
        self.b = self.make()
        await self.b.startup()

    async def enqueue(self, kind, arg):
        await self.tasks[kind].kiq(arg)

    def worker(self, c):
        from taskiq.api import run_receiver_task

        async def main():
            b = self.make()
            b.is_worker_process = True
            await b.startup()
            await run_receiver_task(b, max_async_tasks=c)

        asyncio.run(main())


class TaskiqStream(Taskiq):
    def make(self):
        import jobtasks as T
        from taskiq_redis import RedisStreamBroker

        return self.register(RedisStreamBroker(URL), T)

    async def reopen(self):  # consumer_id "$": only jobs sent after the group exists
        await self.b._declare_consumer_group()


class Streaq(Peer):
    venv, n, n_sleep = "streaq", 6_000, 3_000

    def make(self, c=16):
        import jobtasks as T
        from streaq import Worker

        w = Worker(redis_url=URL, concurrency=c)
        self.tasks = {k: w.task(name=k)(getattr(T, f)) for k, f in KINDS_A.items()}
        return w

    async def open(self):
        self.w = self.make()
        await self.w.__aenter__()

    async def enqueue(self, kind, arg):
        await self.tasks[kind].enqueue(arg)

    async def bulk(self, kind, args):
        await self.w.enqueue_many([self.tasks[kind].enqueue(a) for a in args])

    def worker(self, c):
        self.make(c).run_sync()


class Docket_(Peer):
    venv, n, n_sleep = "pydocket", 500, 1_000
    opts: dict = {}

    async def open(self):
        import jobtasks as T
        from docket import Docket

        # redis-py 8 caps a pool at 100 connections; docket uses >1 per concurrent add()
        self.d = Docket(name="bench", url=URL + "?max_connections=1000")
        await self.d.__aenter__()
        self.fn = {k: getattr(T, f) for k, f in KINDS_A.items()}
        for f in self.fn.values():
            self.d.register(f)

    async def reopen(self):
        await self.d._ensure_stream_and_group()

    async def enqueue(self, kind, arg):
        await self.d.add(self.fn[kind])(arg)

    def worker(self, c):
        from docket import Worker

        async def main():
            await self.open()
            async with Worker(self.d, concurrency=c, **self.opts) as w:
                await w.run_forever()

        asyncio.run(main())


class DocketFast(Docket_):
    n, n_sleep = 4_000, 2_000

    @property
    def opts(self):
        from datetime import timedelta

        return {"minimum_check_interval": timedelta(milliseconds=5)}


class SyncPeer(Peer):
    sync = True


class Dramatiq(SyncPeer):
    venv, n, n_sleep = "dramatiq", 8_000, 3_000

    def make(self):
        import dramatiq
        import jobtasks as T
        from dramatiq.brokers.redis import RedisBroker

        b = RedisBroker(url=URL)
        dramatiq.set_broker(b)
        self.fn = {k: dramatiq.actor(getattr(T, f), actor_name=k) for k, f in KINDS_S.items()}
        return b

    async def open(self):
        self.make()

    def enqueue(self, kind, arg):
        self.fn[kind].send(arg)

    def worker(self, c):
        import dramatiq

        w = dramatiq.Worker(self.make(), worker_threads=c)
        w.start()
        while True:
            time.sleep(1)


class Rq(SyncPeer):
    venv, n, n_sleep, concurrencies = "rq", 2_000, 300, (1,)

    async def open(self):
        import redis
        import rq

        self.q = rq.Queue("bench", connection=redis.Redis.from_url(URL))

    def enqueue(self, kind, arg):
        self.q.enqueue("jobtasks." + KINDS_S[kind], arg)

    async def bulk(self, kind, args):
        self.q.enqueue_many([self.q.prepare_data("jobtasks." + KINDS_S[kind], (a,)) for a in args])

    def worker(self, c):
        import redis
        import rq

        conn = redis.Redis.from_url(URL)
        rq.SimpleWorker([rq.Queue("bench", connection=conn)], connection=conn).work(logging_level="ERROR")


class Celery_(SyncPeer):
    venv, n, n_sleep = "celery", 4_000, 2_000

    def make(self):
        import jobtasks as T
        from celery import Celery

        app = Celery("bench", broker=URL)
        app.conf.task_ignore_result = True
        self.fn = {k: app.task(name=k)(getattr(T, f)) for k, f in KINDS_S.items()}
        return app

    async def open(self):
        self.make()

    def enqueue(self, kind, arg):
        self.fn[kind].delay(arg)

    def worker(self, c):
        self.make().worker_main(["worker", "--pool=threads", "-c", str(c), "-l", "ERROR", "--without-mingle"])


class Huey_(SyncPeer):
    venv, n, n_sleep = "huey", 8_000, 3_000

    def make(self):
        import jobtasks as T
        from huey import RedisHuey

        h = RedisHuey("bench", url=URL + "?max_connections=1000")  # as for docket: 100 threads need more than 100
        self.fn = {k: h.task(name=k)(getattr(T, f)) for k, f in KINDS_S.items()}
        return h

    async def open(self):
        self.make()

    def enqueue(self, kind, arg):
        self.fn[kind](arg)

    def worker(self, c):
        self.make().create_consumer(workers=c, worker_type="thread").run()


class Proto(Peer):
    venv, n, n_sleep = "proto", 60_000, 20_000
    stream, prefetch, full, rich = False, 0, False, False

    async def open(self):
        from jobproto import Client

        self.c = Client(self.stream, self.rich)
        await self.c.open()

    reopen = open

    async def enqueue(self, kind, arg):
        await self.c.enqueue(kind, arg)

    async def bulk(self, kind, args):
        await self.c.bulk(kind, args)

    def worker(self, c):
        import jobproto

        arun(jobproto.worker(c, self.stream, c if self.prefetch else 0, full=self.full, rich=self.rich))


class ProtoPre(Proto):
    prefetch = 1


class ProtoStream(Proto):
    stream = True


class ProtoFull(Proto):
    full = True
    n = 30_000


class ProtoRich(Proto):
    full = rich = True
    n = 30_000


class ProtoPerJob(Proto):
    n = 30_000

    def worker(self, c):
        import jobproto

        arun(jobproto.worker_perjob(c))


class ArqFast(Arq):  # tuned: polls 100 times a second, keeps no results
    opts = {"poll_delay": 0.01, "keep_result": 0}


class SyncKit_(Peer):
    venv = "ours"
    waiting = 1_000_000

    async def open(self):
        from sync_kit import Jobs, SyncKit
        import jobtasks as T

        @dataclasses.dataclass
        class Payload:
            arg: str | int

        jobs = self.jobs = Jobs("bench", kit=SyncKit(URL))
        handlers = {"noop": T.anoop, "sleep": T.asleep, "lat": T.alat, "crash": T.acrash}
        self.payload = Payload

        def register(kind, work):
            @jobs.task(schema=Payload, name=kind)
            async def handler(payload):
                await work(payload.arg)

            return handler

        self.tasks = {kind: register(kind, work) for kind, work in handlers.items()}

    async def enqueue(self, kind, arg):
        await self.tasks[kind].send(arg=arg)

    async def bulk(self, kind, args):
        await self.tasks[kind].send_many([self.payload(arg) for arg in args])

    def worker(self, c):
        async def main():
            await self.open()
            await self.jobs.run(concurrency=c)

        asyncio.run(main())


class SyncKitBlocking(SyncKit_):
    sync, works = True, False

    def enqueue(self, kind, arg):
        self.tasks[kind].blocking.send(arg=arg)

    async def bulk(self, kind, args):
        await asyncio.to_thread(self.tasks[kind].blocking.send_many, [self.payload(arg) for arg in args])


CLASSES = {"sync_kit": SyncKit_, "sync_kit-sync": SyncKitBlocking, "arq": Arq, "arq-10ms": ArqFast, "saq": Saq, "taskiq-list": Taskiq, "taskiq-stream": TaskiqStream, "streaq": Streaq, "pydocket": Docket_,
           "pydocket-5ms": DocketFast, "dramatiq": Dramatiq, "rq": Rq, "celery-threads": Celery_, "huey": Huey_,
           "proto-list": Proto, "proto-list-prefetch": ProtoPre, "proto-stream": ProtoStream,
           "proto-list-full": ProtoFull, "proto-rich-full": ProtoRich, "proto-perjob": ProtoPerJob}
ALWAYS, NEVER, ON_REQUEST = "at least once", "at most once", "at least once only if configured so"
# What becomes of a running job when its worker is killed, with the defaults (`jobs_crash.py` looks at it). saq gives a job up after
# its first attempt unless `retries` is above 1, rq unless it has a `Retry`; celery acknowledges first unless `acks_late` is set.
PROMISES = {"sync_kit": ALWAYS, "arq": ALWAYS, "arq-10ms": ALWAYS, "saq": ON_REQUEST, "taskiq-list": NEVER, "taskiq-stream": ALWAYS,
            "streaq": ALWAYS, "pydocket": ALWAYS, "pydocket-5ms": ALWAYS, "dramatiq": ALWAYS, "rq": ON_REQUEST,
            "celery-threads": ON_REQUEST, "huey": NEVER}
PEERS = {k: v.venv for k, v in CLASSES.items()} | {"redis-benchmark": "proto"}


class WorkerProc:
    def __init__(self, peer: str, concurrency: int, target: int) -> None:
        self.r, w = os.pipe()
        self.log = open(os.path.join(tempfile.gettempdir(), f"bench-worker-{peer}.log"), "w")
        self.p = subprocess.Popen([sys.executable, __file__, "--peer", peer, "--worker", "--concurrency", str(concurrency)],
                                  env=dict(os.environ, BENCH_FD=str(w), BENCH_TARGET=str(target), PYTHONPATH=str(Path(__file__).parent)),
                                  pass_fds=(w,), stdout=self.log, stderr=self.log)
        os.close(w)
        self.buf = b""

    def line(self, timeout: float):
        end = time.monotonic() + timeout
        while b"\n" not in self.buf:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.r], [], [], left)[0]:
                return None
            chunk = os.read(self.r, 65536)
            if not chunk:
                return None
            self.buf += chunk
        one, _, self.buf = self.buf.partition(b"\n")
        return json.loads(one)

    def rss_mb(self) -> float:
        return next(int(x.split()[1]) / 1024 for x in open(f"/proc/{self.p.pid}/status") if x.startswith("VmRSS"))

    def stop(self) -> None:
        self.p.kill()
        self.p.wait()
        time.sleep(0.1)  # until the server has noticed: the dead worker's blocking pops would take the next jobs
        os.close(self.r)
        self.log.close()


async def load(p: Peer, kind: str, n: int, conc: int = 64) -> float:
    """Enqueue n jobs with `conc` tasks (threads for sync peers); returns jobs/s."""
    t = time.perf_counter()
    if p.sync:  # never on the thread of the event loop, which sync_kit would refuse
        def many(k):
            for _ in range(k):
                p.enqueue(kind, PAYLOAD)

        with ThreadPoolExecutor(conc) as ex:
            list(ex.map(many, [n // conc] * conc))
    else:
        async def many(k):
            for _ in range(k):
                await p.enqueue(kind, PAYLOAD)

        await asyncio.gather(*[many(n // conc) for _ in range(conc)])
    return n // conc * conc / (time.perf_counter() - t)


async def fill(p: Peer, kind: str, n: int) -> None:
    if p.bulk:
        for i in range(0, n, 1000):
            await p.bulk(kind, [PAYLOAD] * min(1000, n - i))
    elif p.sync:
        await load(p, kind, n, 1)
    else:
        await load(p, kind, n - n % 64, 64)
        if n % 64:
            await load(p, kind, n % 64, 1)


class Bench:
    """The phases, each of which begins with an empty server."""

    def __init__(self, name: str) -> None:
        self.name, self.p, self.adm, self.m = name, CLASSES[name](), Admin(), {}

    async def run(self) -> dict:
        await self.p.open()
        await self.enqueue()
        if self.p.works:
            if not FAR:
                await self.memory()
            for c in self.p.concurrencies:
                await self.drain(c)
            await self.sleepers()
            await self.idle()
            if self.p.waiting and not FAR:
                await self.waiting()
        return self.m

    async def empty(self) -> None:
        self.adm.flush()
        await self.p.reopen()

    def jobs(self, n: int, least: int) -> int:
        return max(least, int(n * SCALE / (4 if FAR else 1)))

    def work(self, c: int, n: int) -> tuple[WorkerProc, dict | None]:
        """A new worker, and what it reports once it has done n jobs."""
        w = WorkerProc(self.name, c, n)
        return w, w.line(60)

    async def enqueue(self) -> None:
        p, m = self.p, self.m
        await self.empty()
        await load(p, "noop", 64, 64)
        est = await load(p, "noop", 300, 1)
        m["enq_c1"] = await load(p, "noop", max(100, int(est * SCALE)), 1)
        est = await load(p, "noop", 640, 64)
        m["enq_many"] = m["enq_c64"] = await load(p, "noop", max(640, int(min(est, 60_000) * SCALE)), 64)
        if p.bulk:  # for the others, 64 tasks are the best there is
            k = max(1, int(10 * SCALE))
            t = time.perf_counter()
            for _ in range(k):
                await p.bulk("noop", [PAYLOAD] * 1000)
            m["enq_many"] = 1000 * k / (time.perf_counter() - t)

    async def memory(self) -> None:
        await self.empty()
        base = self.adm.keys_memory()
        await fill(self.p, "noop", 2000)
        self.m["bytes_per_job"] = (self.adm.keys_memory() - base) / 2000

    async def drain(self, c: int) -> None:
        n, m = self.jobs(self.p.n, 500), self.m
        await self.empty()
        await fill(self.p, "noop", n)
        self.adm.stats_reset()
        w, r = self.work(c, n)
        calls, reads = self.adm.stats()
        m[f"drain_c{c}"] = n / r["elapsed"] if r else None
        m[f"cpu_us_per_job_c{c}"] = r["cpu"] / n * 1e6 if r else None
        m[f"cmds_per_job_c{c}"], m[f"reads_per_job_c{c}"] = sum(calls.values()) / n, reads / n
        if c == self.p.concurrencies[0] and r:
            m["rss_mb"] = w.rss_mb()
        w.stop()

    async def sleepers(self) -> None:
        """Jobs of 10 ms at the highest concurrency."""
        n = self.jobs(self.p.n_sleep, 200)
        await self.empty()
        await fill(self.p, "sleep", n)
        w, r = self.work(self.p.concurrencies[-1], n)
        self.m["sleep10ms_c100"] = n / r["elapsed"] if r else None
        w.stop()

    async def idle(self) -> None:
        """Latency to an idle worker, then what it costs to be idle."""
        p, m = self.p, self.m
        await self.empty()
        w = WorkerProc(self.name, p.concurrencies[0], 0)
        lats, n_lat, end = [], max(5, int(p.n_lat * SCALE)), time.monotonic() + 8
        for i in range(n_lat + 3):
            now = time.monotonic_ns()
            r = p.enqueue("lat", now)
            if not p.sync:
                await r
            got = w.line(20)
            if got is None:
                break
            if i >= 3:  # the first ones wait for the worker to start
                lats.append(got["lat"] / 1e6)
            if time.monotonic() > end:
                break
            await asyncio.sleep(0.003)
        m["lat_p50_ms"], m["lat_p99_ms"], m["lat_n"] = pct(lats, 0.5), pct(lats, 0.99), len(lats)
        if not FAR:
            await asyncio.sleep(1.5 * min(1, SCALE))
            seconds = 10 * min(1, max(SCALE, 0.2))
            self.adm.stats_reset()
            m["idle_sent_s"] = self.adm.sent_in(seconds) / seconds
            m["idle_cmds_s"] = sum(n for name, n in self.adm.stats()[0].items() if name != "monitor") / seconds
            m["idle_rss_mb"] = w.rss_mb()
        w.stop()

    async def waiting(self) -> None:
        """What a job costs with `waiting` jobs in the queue, and with a twentieth more than are worked on."""
        n, many, m = int(20_000 * SCALE), int(self.p.waiting * SCALE), self.m

        async def cost(waiting: int, times: int) -> list[tuple[float, float]]:
            """Microseconds a job, by the clock and of the server, for each of `times` workers."""
            await self.empty()
            await fill(self.p, "noop", waiting)
            out = []
            for _ in range(times):
                self.adm.stats_reset()
                w, r = self.work(10, n)
                out.append((r["elapsed"] / n * 1e6, self.adm.usec_per(n)))
                w.stop()
            return out

        small, big = await cost(n + n // 20, 1) + await cost(n + n // 20, 1), await cost(many, 3)
        small += await cost(n + n // 20, 1) + await cost(n + n // 20, 1)  # before and after: the machine has moods
        for name, seen in (("few", small), ("many", big)):
            m[f"us_{name}_waiting"], m[f"server_us_{name}_waiting"] = map(med, zip(*seen))
        m["waiting_cost_ratio"] = m["us_many_waiting"] / m["us_few_waiting"]


def redis_benchmark() -> dict:
    import re

    adm = Admin()
    adm.flush()

    def rb(n, c, pipe, *cmd):
        out = subprocess.run(["redis-benchmark", "-h", HOST, "-p", str(PORT), "-q", "-n", str(int(n * SCALE)), "-c", str(c), "-P", str(pipe), *cmd],
                             capture_output=True, text=True, timeout=60).stdout
        return float(re.findall(r"([\d.]+) requests per second", out)[-1])

    m = {}
    m["lpush_c1"] = rb(20_000, 1, 1, "LPUSH", "q", PAYLOAD)
    m["lpush_c64"] = rb(80_000, 64, 1, "LPUSH", "q", PAYLOAD)
    m["lmove_c64"] = rb(80_000, 64, 1, "LMOVE", "q", "q2", "RIGHT", "LEFT")
    m["brpop_c64"] = rb(80_000, 64, 1, "BRPOP", "q2", "1")
    m["lpush_c64_P16"] = rb(300_000, 64, 16, "LPUSH", "q", PAYLOAD)
    m["lmove_c64_P16"] = rb(300_000, 64, 16, "LMOVE", "q", "q2", "RIGHT", "LEFT")
    return m


def main() -> None:
    ap = argparse.ArgumentParser()
    ap.add_argument("--peer", required=True, choices=sorted(PEERS))
    ap.add_argument("--worker", action="store_true")
    ap.add_argument("--concurrency", type=int, default=10)
    ap.add_argument("--delay-ms", type=float, default=0)
    a = ap.parse_args()
    if a.worker:
        CLASSES[a.peer]().worker(a.concurrency)
        return
    if a.delay_ms and not FAR:  # the same again, through the proxy
        with far(a.delay_ms) as port:
            sys.exit(subprocess.call([sys.executable, *sys.argv], env=dict(os.environ, BENCH_VIA_PORT=str(port))))
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    m = redis_benchmark() if a.peer == "redis-benchmark" else asyncio.run(Bench(a.peer).run())
    kind = "blocking" if a.peer in CLASSES and CLASSES[a.peer].sync else "async"
    emit(a.peer, f"jobs-{a.delay_ms:g}ms" if a.delay_ms else "jobs", m, kind=kind, promise=PROMISES.get(a.peer), versions=versions(*PACKAGES))


if __name__ == "__main__":
    main()
