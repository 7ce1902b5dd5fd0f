"""What `doctor` looks at in the server: each check is a function from facts to findings."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sync_kit._io.flow import Eval
from sync_kit._io.keys import KeyGroup
from sync_kit._io.scripts import Script
from sync_kit.cli.finding import Finding, worst

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sync_kit._io.flow import Flow
    from sync_kit._io.inquiry import Inquiry
    from sync_kit.kit import SyncKit

PROBE = Script.load(__name__, "probe")
ROUNDS = 7
SLOW, VERY_SLOW = 0.02, 0.25
SKEWED = 1.0
OLDEST = {"Redis": (7, 0), "Valkey": (7, 2)}
FULL, OVERFULL = 0.8, 0.97
MIB = 1024 * 1024


@dataclass(frozen=True)
class Facts:
    """What one server says of itself."""

    label: str
    info: dict[str, str]
    save: str | None
    """The times of snapshots; None when the server refuses to tell."""
    cluster: dict[str, str] | None
    expects_cluster: bool

    def number(self, name: str) -> int:
        """A number of `info`; 0 when it is not there."""
        text = self.info.get(name, "0")
        return int(text) if text.isdigit() else 0


def check_server(kit: SyncKit) -> list[Finding]:
    """All checks of the server of a kit, in a cluster of each node. Raises `Unavailable`, `ServerError`."""
    findings = _trip(kit)
    for asked in kit.inquiries():
        with asked:
            findings += _asked(asked, kit)
    return findings


def _asked(asked: Inquiry, kit: SyncKit) -> list[Finding]:
    info = asked.info()
    if info is None:
        advice = "allow the user the command INFO to have version, memory and persistence looked at"
        return [Finding("warn", "server", f"{asked.label} refuses INFO", advice)]
    cluster = asked.cluster_info() if info.get("cluster_enabled") == "1" else None
    facts = Facts(asked.label, info, asked.setting("save"), cluster, kit.is_cluster)
    checks = (_version, _role, _eviction, _persistence, _memory, _clients, _cluster)
    return [finding for check in checks for finding in check(facts)]


def _trip(kit: SyncKit) -> list[Finding]:
    """Whether scripts run, how long a round trip takes, how far the clocks are apart."""
    kit.run_blocking(_probe(kit), "...")  # connects, and loads the script
    times, skews = [], []
    for _ in range(ROUNDS):
        began, wall = time.perf_counter(), time.time()
        now = kit.run_blocking(_probe(kit), "...")
        times.append(time.perf_counter() - began)
        skews.append(now - wall - times[-1] / 2)
    trip, skew = statistics.median(times), statistics.median(skews)
    level = worst((trip >= VERY_SLOW, "fail"), (trip >= SLOW, "warn"))
    advice = (
        "run the app nearer to the server, or see what keeps the server busy (SLOWLOG GET)" if level != "ok" else ""
    )
    apart = f"{abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this host's"
    said = f"the server's is {apart}" if abs(skew) >= SKEWED else "the server's and this host's agree"
    return [
        Finding("ok", "scripts", f"they run in namespace {kit.namespace!r}"),
        Finding(level, "latency", f"a round trip takes {trip * 1000:.1f} ms", advice),
        Finding("ok", "clock", f"{said} (the server's decides)"),
    ]


def _probe(kit: SyncKit) -> Flow[float]:
    """The flow of one round trip; returns the server's time in epoch seconds."""
    reply = yield Eval(PROBE, (KeyGroup(kit.namespace, "doctor", "probe").key("probe"),), (), repeat=True)
    return int(reply[2]) / 1000


def _version(facts: Facts) -> Iterator[Finding]:
    kind = "Valkey" if "valkey_version" in facts.info else "Redis"
    said = facts.info.get(f"{kind.lower()}_version", "0")
    version = tuple(int(part) for part in said.split(".")[:2] if part.isdigit())
    oldest = OLDEST[kind]
    advice = f"sync_kit needs {kind} {oldest[0]}.{oldest[1]} or newer" if version < oldest else ""
    yield Finding("fail" if advice else "ok", "server", f"{kind} {said} at {facts.label}", advice)


def _role(facts: Facts) -> Iterator[Finding]:
    if facts.info.get("role") == "slave":
        advice = "give the address of the primary, or of the sentinels: redis+sentinel://host:26379/mymaster/0"
        yield Finding("fail", "role", "it is a replica, which refuses to write", advice)


def _eviction(facts: Facts) -> Iterator[Finding]:
    policy, limit = facts.info.get("maxmemory_policy", "unknown"), facts.number("maxmemory")
    if limit == 0:
        yield Finding("ok", "eviction", "none: maxmemory is not set")
    elif policy == "noeviction":
        yield Finding("ok", "eviction", "none: maxmemory-policy is noeviction")
    else:
        advice = "CONFIG SET maxmemory-policy noeviction; keep caches on another server"
        said = f"maxmemory-policy is {policy}: jobs, locks and counters can be thrown away"
        yield Finding("fail", "eviction", said, advice)


def _persistence(facts: Facts) -> Iterator[Finding]:
    info = facts.info
    if "err" in (info.get("aof_last_write_status"), info.get("rdb_last_bgsave_status")):
        yield Finding("fail", "persistence", "the last write to disk failed", "see the server's log: is its disk full?")
    elif info.get("aof_enabled") == "1":
        yield Finding("ok", "persistence", "every write goes to disk (AOF)")
    else:
        said = {None: "no AOF, and CONFIG is refused, so snapshots cannot be seen", "": "nothing is written to disk"}
        seen = said.get(facts.save, "snapshots only: a crash loses what came after the last one")
        advice = "switch appendonly on, so that accepted jobs survive a crash of the server"
        yield Finding("warn", "persistence", seen, advice)


def _memory(facts: Facts) -> Iterator[Finding]:
    used, limit = facts.number("used_memory"), facts.number("maxmemory")
    if limit == 0:
        yield Finding("ok", "memory", f"{used / MIB:.0f} MiB used, without a limit")
        return
    level = worst((used >= OVERFULL * limit, "fail"), (used >= FULL * limit, "warn"))
    advice = "when it is full, sending is refused: give it more memory, or see what fills it" if level != "ok" else ""
    yield Finding(level, "memory", f"{used / MIB:.0f} of {limit / MIB:.0f} MiB used", advice)


def _clients(facts: Facts) -> Iterator[Finding]:
    there, most = facts.number("connected_clients"), facts.number("maxclients")
    level = worst((most > 0 and there >= FULL * most, "warn"))
    advice = "raise maxclients, or see who holds them: CLIENT LIST" if level != "ok" else ""
    yield Finding(level, "clients", f"{there} of {most or 'unknown'} connections", advice)


def _cluster(facts: Facts) -> Iterator[Finding]:
    enabled = facts.info.get("cluster_enabled") == "1"
    if enabled and not facts.expects_cluster:
        advice = "write redis+cluster:// in the url"
        yield Finding("fail", "cluster", "the server is a node of a cluster, and the url does not say so", advice)
    elif enabled and facts.cluster is not None:
        state, served = facts.cluster.get("cluster_state", "unknown"), facts.cluster.get("cluster_slots_ok", "?")
        fine = state == "ok"
        advice = "" if fine else "nodes are missing: see CLUSTER NODES"
        yield Finding("ok" if fine else "fail", "cluster", f"state {state}, {served} slots are served", advice)
