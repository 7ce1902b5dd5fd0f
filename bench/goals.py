"""What the limiter, the mutex and the jobs are meant to reach, beside what a run saw: medians of same-round ratios.

  python goals.py [--raw results-raw.jsonl]
"""
from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

OURS = "sync_kit"
NO_PEERS = ("sync_kit", "raw-", "none-", "proto-", "redis-benchmark")
ALWAYS, ASYNC, BLOCKING = "at least once", "async", "blocking"  # instead of a peer's name: the best of those

# subject, measure in words, metric, what is measured, goal (ratio to the best peer unless `to` names another, or which peers;
# "": no ratio; a goal below zero: at most)
GOALS = [
    ("ratelimit", "checks/s, 64 tasks, 10 000 keys, async", "c64_k10000", OURS, None, 5.0),
    ("ratelimit", "checks/s, 64 tasks, one key, async", "c64_k1", OURS, None, 5.0),
    ("ratelimit", "checks/s, 1 task, async", "c1_k1", OURS, None, 1.0),
    ("ratelimit", "checks/s, blocking", "sync_k1", f"{OURS}-sync", None, 1.0),
    ("ratelimit", "refused calls/s, 64 tasks, one hot key", "denied_c64", OURS, None, 10.0),
    ("ratelimit", "one rule's checks/s over two rules', 64 tasks (at most)", "c64_k10000", OURS, f"{OURS}-two-rules", -1.3),
    ("ratelimit", "bytes per key, limit 100 after 100 hits (at most)", "bytes_per_key", OURS, "", -200.0),
    ("locks", "acquire and release, pairs/s, 32 tasks on distinct keys", "pairs_c32", OURS, "redispy-async", 4.0),
    ("locks", "pairs/s, 1 task", "pairs_c1", OURS, "redispy-async", 1.1),
    ("locks", "pairs/s, blocking", "pairs_sync", f"{OURS}-sync", "redispy-sync", 1.1),
    ("locks", "hand-over between 16 tasks, p50, ms (at most)", "handover_p50_ms", OURS, "", -0.4),
    ("locks", "hand-over between 16 tasks, p99, ms (at most)", "handover_p99_ms", OURS, "", -1.0),
    ("locks", "same owner twice in a row (at most)", "same_owner", OURS, "", -0.05),
    ("locks", "commands sent for a contended acquisition (at most)", "cont_sent_per_acq", OURS, "", -5.0),
    ("jobs", "no-op jobs/s, concurrency 10", "drain_c10", OURS, ALWAYS, 5.0),
    ("jobs", "no-op jobs/s, concurrency 100", "drain_c100", OURS, ALWAYS, 5.0),
    ("jobs", "10 ms jobs/s, concurrency 100", "sleep10ms_c100", OURS, "", 7500.0),
    ("jobs", "sends/s, one by one", "enq_c1", OURS, ASYNC, 1.2),
    ("jobs", "sends/s, 64 tasks", "enq_c64", OURS, ASYNC, 5.0),
    ("jobs", "sends/s, many in a call (peers: their bulk call, else 64 tasks)", "enq_many", OURS, ASYNC, 5.0),
    ("jobs", "sends/s, blocking", "enq_c1", f"{OURS}-sync", "huey", 0.9),
    ("jobs", "idle to start, p50, ms (at most)", "lat_p50_ms", OURS, "", -0.7),
    ("jobs", "idle to start, p99, ms (at most)", "lat_p99_ms", OURS, "", -1.5),
    ("jobs", "network reads per job, concurrency 10 (at most)", "reads_per_job_c10", OURS, "", -0.3),
    ("jobs", "commands a second that an idle worker sends (at most)", "idle_sent_s", OURS, "", -1.0),
    ("jobs", "bytes per waiting job, 100 bytes of payload (at most)", "bytes_per_job", OURS, "", -400.0),
    ("crash", "restart after kill -9, s (at most)", "restart_s", OURS, "", -45.0),
    ("jobs", "cost of a job with 1 000 000 waiting over 1 000 (at most)", "waiting_cost_ratio", OURS, "", -1.2),
    ("jobs-2ms", "2 ms away: no-op jobs/s, concurrency 10", "drain_c10", OURS, None, 1.0),
    ("jobs-2ms", "2 ms away: no-op jobs/s, concurrency 100", "drain_c100", OURS, None, 1.0),
    ("jobs-2ms", "2 ms away: 10 ms jobs/s, concurrency 100", "sleep10ms_c100", OURS, None, 1.0),
    ("jobs-2ms", "2 ms away: sends/s, one by one", "enq_c1", OURS, ASYNC, 1.0),
    ("jobs-2ms", "2 ms away: sends/s, 64 tasks", "enq_c64", OURS, ASYNC, 1.0),
    ("jobs-2ms", "2 ms away: sends/s, many in a call", "enq_many", OURS, ASYNC, 1.0),
    ("jobs-2ms", "2 ms away: sends/s, blocking", "enq_c1", f"{OURS}-sync", BLOCKING, 1.0),
    ("jobs-2ms", "2 ms away: idle to start, p50 (at most)", "lat_p50_ms", OURS, None, -1.0),
    ("jobs-2ms", "2 ms away: idle to start, p99 (at most)", "lat_p99_ms", OURS, None, -1.0),
    ("http", "middleware: share of the bare app's requests/s", "rps", f"{OURS}-mw", "none-starlette", 0.55),
    ("http", "middleware: p99 over the bare app's (at most)", "p99_ms", f"{OURS}-mw", "none-starlette", -3.0),
]


def rounds(lines: list[dict], subject: str, peer: str, metric: str) -> dict[str, float]:
    """Value by run and round."""
    return {
        f"{line.get('run')}/{line['round']}": line["metrics"][metric]
        for line in lines
        if line.get("subject") == subject and line.get("peer") == peer and line.get("metrics", {}).get(metric) is not None
    }


def ratio(ours: dict[str, float], theirs: dict[str, float]) -> float | None:
    both = [value / theirs[at] for at, value in ours.items() if theirs.get(at)]
    return statistics.median(both) if both else None


def best_peer(lines: list[dict], subject: str, metric: str, ours: dict[str, float], which: str | None, worst=min) -> tuple[str, float] | None:
    """The peer to which our ratio is the worst, of those that are `which`."""
    lines = [line for line in lines if line.get("subject") == subject and which in (None, line.get("promise"), line.get("kind"))]
    peers = {line["peer"] for line in lines if not line["peer"].startswith(NO_PEERS)}
    found = [(peer, ratio(ours, rounds(lines, subject, peer, metric))) for peer in sorted(peers)]
    return worst(((peer, r) for peer, r in found if r), key=lambda pair: pair[1], default=None)


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def read(raw: Path) -> list[dict]:
    return [json.loads(line) for line in raw.read_text().splitlines()]


def promised(lines: list[dict]) -> dict[str, str]:
    """What each peer promises on a crash of its worker."""
    return {line["peer"]: line["promise"] for line in lines if line.get("promise")}


def promises(raw: Path) -> str:
    """The promises beside what `jobs_crash.py` saw, as Markdown; medians."""
    lines = read(raw)
    out = ["| peer | a running job of a killed worker runs | all have run, s | lost | still stored | ran twice |", "|---|---|--:|--:|--:|--:|"]
    for peer, promise in promised(lines).items():
        seen = {metric: rounds(lines, "crash", peer, metric).values() for metric in ("restart_s", "lost", "stuck", "twice", "cap_s")}
        lost, stuck, twice = (f"{statistics.median(seen[name]):g}" if seen[name] else "" for name in ("lost", "stuck", "twice"))
        back = "" if not seen["cap_s"] else "never" if stuck == "0" != lost else f"not within {max(seen['cap_s']):g}"
        if len(seen["restart_s"]) == len(seen["cap_s"]) > 0:
            back = number(statistics.median(seen["restart_s"]))
        out.append(f"| {peer} | {promise} | {back} | {lost} | {stuck} | {twice} |")
    return "\n".join(out) + "\n"


def table(raw: Path) -> str:
    """The goals as Markdown."""
    lines = read(raw)
    out = ["| measure | seen | beside | ratio | goal | |", "|---|--:|---|--:|--:|---|"]
    for subject, words, metric, name, to, goal in GOALS:
        ours = rounds(lines, subject, name, metric)
        if not ours:
            continue
        seen = statistics.median(ours.values())
        if to == "":
            beside, reached = "", seen
        elif to in (None, ALWAYS, ASYNC, BLOCKING):
            beside, reached = best_peer(lines, subject, metric, ours, to, max if goal < 0 else min) or ("", None)
        else:
            beside, reached = to, ratio(ours, rounds(lines, subject, to, metric))
        if reached is None:
            continue
        met = reached <= -goal if goal < 0 else reached >= goal
        beside += f" ({promise})" if (promise := promised(lines).get(beside)) else ""
        shown = "" if to == "" else f"{reached:.2f}"
        out.append(f"| {words} | {number(seen)} | {beside} | {shown} | {abs(goal):g} | {'met' if met else 'missed'} |")
    found = {(name, version) for line in lines for name, version in (line.get("versions") or {}).items() if version}
    names = sorted({name for name, _ in found})
    versions = (f"{name} {'/'.join(sorted(v for n, v in found if n == name))}" for name in names)
    return "\n".join(out) + f"\n\nVersions: {', '.join(versions)}\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--raw", default="results-raw.jsonl")
    where = Path(parser.parse_args().raw)
    print(table(where), promises(where), sep="\n")
