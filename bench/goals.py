"""What the limiter and the mutex are meant to reach, beside what a run saw: medians of same-round ratios.

  python goals.py [--raw results-raw.jsonl]
"""
from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

OURS = "sync_kit"
NO_PEERS = ("sync_kit", "raw-", "none-", "redis-benchmark")

# subject, measure in words, metric, what is measured, goal (ratio to the best peer unless `to` names another)
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
    ("http", "middleware: share of the bare app's requests/s", "rps", f"{OURS}-mw", "none-starlette", 0.55),
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


def best_peer(lines: list[dict], subject: str, metric: str, ours: dict[str, float]) -> tuple[str, float] | None:
    """The peer to which our ratio is the lowest."""
    peers = {line["peer"] for line in lines if line.get("subject") == subject and not line["peer"].startswith(NO_PEERS)}
    found = [(peer, ratio(ours, rounds(lines, subject, peer, metric))) for peer in sorted(peers)]
    return min(((peer, r) for peer, r in found if r), key=lambda pair: pair[1], default=None)


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def table(raw: Path) -> str:
    """The goals as Markdown."""
    lines = [json.loads(line) for line in raw.read_text().splitlines()]
    out = ["| measure | seen | beside | ratio | goal | |", "|---|--:|---|--:|--:|---|"]
    for subject, words, metric, name, to, goal in GOALS:
        ours = rounds(lines, subject, name, metric)
        if not ours:
            continue
        seen = statistics.median(ours.values())
        if to == "":
            beside, reached = "", seen
        elif to:
            beside, reached = to, ratio(ours, rounds(lines, subject, to, metric))
        else:
            beside, reached = best_peer(lines, subject, metric, ours) or ("", None)
        if reached is None:
            continue
        met = reached <= -goal if goal < 0 else reached >= goal
        shown = "" if to == "" else f"{reached:.2f}"
        out.append(f"| {words} | {number(seen)} | {beside} | {shown} | {abs(goal):g} | {'met' if met else 'missed'} |")
    found = {(name, version) for line in lines for name, version in (line.get("versions") or {}).items() if version}
    names = sorted({name for name, _ in found})
    versions = (f"{name} {'/'.join(sorted(v for n, v in found if n == name))}" for name in names)
    return "\n".join(out) + f"\n\nVersions: {', '.join(versions)}\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--raw", default="results-raw.jsonl")
    print(table(Path(parser.parse_args().raw)))
