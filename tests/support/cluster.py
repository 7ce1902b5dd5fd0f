"""A real cluster, and a real primary with a replica and sentinels. Every process is our own."""

from __future__ import annotations

import itertools
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import redis
from redis.crc import key_slot

from tests.support.servers import PATIENCE, Server, free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

SLOTS = 16384
SERVICE = "mymaster"
QUICK = "INFO-PERIOD 200 ASK-PERIOD 100 PUBLISH-PERIOD 200 ELECTION-TIMEOUT 1000".split()
"""How often sentinels look around, so that tests need not wait for them (their own periods are seconds)."""


def wait_for(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Wait until `condition()` is true; errors of redis-py count as false."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := condition():
                return found
        except redis.RedisError:
            pass
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


class Cluster:
    """Three nodes that share the slots evenly. `options` are further command-line options of each."""

    def __init__(self, kind: str = "auto", *options: str, node_timeout: int = 2000, nodes: int = 3) -> None:
        self._stack = ExitStack()
        self._kind = kind
        self._options = ["--cluster-enabled", "yes", "--cluster-node-timeout", str(node_timeout)]
        self._options += ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1", *options]
        self._count = nodes
        self._clients: dict[Server, redis.Redis] = {}
        self._away: dict[int, Server] = {}
        self.pair: tuple[Server, ...] = ()
        self.nodes: list[Server] = []

    def __enter__(self) -> Self:
        try:
            for first, last in self._shares():
                self.ask(self.join(), "CLUSTER", "ADDSLOTSRANGE", first, last)
            wait_for(lambda: all(map(self._settled, self.nodes)), "the cluster to settle", 30)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """`redis+cluster://` with every node."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def join(self) -> Server:
        """Start a further node, which has no slots."""
        node, bus = self._start()
        self._clients[node] = node.client(socket_timeout=PATIENCE)
        if self.nodes:
            self.ask(self.nodes[0], "CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        self.nodes.append(node)
        return node

    def _start(self) -> tuple[Server, int]:
        """A node and its second port. A port that was free may be taken by the time it is used: then another one."""
        for last in (False, False, False, True):
            bus = free_port()
            node = Server(self._kind, *self._options, "--cluster-port", str(bus))
            try:
                return self._stack.enter_context(node), bus
            except RuntimeError:
                node.close()
                if last:
                    raise
        raise AssertionError("the last try returns or raises")

    def follow(self, replica: Server, primary: Server) -> None:
        """Make a node without slots a replica, and wait until it has everything and everybody knows."""
        self.pair = (primary, replica)
        name = self._id(primary)
        wait_for(lambda: self.ask(replica, "CLUSTER", "REPLICATE", name), "the nodes to know each other", 20)
        wait_for(lambda: self.ask(replica, "ROLE")[3] == b"connected", "the replica to be connected", 20)
        wait_for(
            lambda: all(len(_servers(self.ask(node, "CLUSTER", "SLOTS"), primary)) == 2 for node in self.nodes),
            "all to know",
            20,
        )

    def ask(self, node: Server, *command: Any) -> Any:
        """Send one command to one node."""
        return self._clients[node].execute_command(*command)

    def ask_all(self, *command: Any) -> list[Any]:
        """Send one command to every node."""
        return [self.ask(node, *command) for node in self.nodes]

    def owner(self, key: str) -> Server:
        """The node that serves the slot of `key`, by its own account."""
        slot = key_slot(key.encode())
        return next(node for node in self.nodes if any(low <= slot <= high for low, high in self._ranges(node)))

    def others(self, *nodes: Server) -> list[Server]:
        """The nodes that are none of these."""
        return [node for node in self.nodes if node not in nodes]

    def begin_move(self, key: str, to: Server) -> Server:
        """From now on the owner of the slot, which is returned, answers `ASK` for keys that it does not have."""
        source, slot = self.owner(key), key_slot(key.encode())
        self._away.setdefault(slot, source)
        self.ask(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", self._id(source))
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self._id(to))
        return source

    def move_keys(self, key: str, source: Server, to: Server) -> int:
        """Take the keys of the slot along; returns how many there were."""
        moved, slot = 0, key_slot(key.encode())
        while keys := self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100):
            self.ask(source, "MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
            moved += len(keys)
        return moved

    def end_move(self, key: str, source: Server, to: Server) -> None:
        """Now `source` answers `MOVED`."""
        for node in (to, source):
            self.ask(node, "CLUSTER", "SETSLOT", key_slot(key.encode()), "NODE", self._id(to))

    def move(self, key: str, to: Server) -> None:
        """A whole move of the slot of `key`, live."""
        source = self.begin_move(key, to)
        self.move_keys(key, source, to)
        self.end_move(key, source, to)

    def clients(self) -> list[redis.Redis]:
        """A client of each server that has data."""
        return [self._clients[node] for node in self.nodes]

    def clear(self) -> None:
        """Empty every node, and bring home the slots that were moved."""
        self.ask_all("FLUSHALL")
        while self._away:
            self._bring(*self._away.popitem())

    def _bring(self, slot: int, home: Server) -> None:
        """As an import, since that gives the home a newer epoch: without it a node that has not heard yet takes
        the slot away again, and two nodes say MOVED to each other."""
        self.ask_all("CLUSTER", "SETSLOT", slot, "STABLE")
        for node in self.others(home):
            if any(low <= slot <= high for low, high in self._ranges(node)):
                self.ask(home, "CLUSTER", "SETSLOT", slot, "IMPORTING", self._id(node))
        for node in (home, *self.others(home)):
            self.ask(node, "CLUSTER", "SETSLOT", slot, "NODE", self._id(home))

    def _shares(self) -> list[tuple[int, int]]:
        edges = [SLOTS * each // self._count for each in range(self._count + 1)]
        return [(first, last - 1) for first, last in itertools.pairwise(edges)]

    def _id(self, node: Server) -> str:
        return str(self.ask(node, "CLUSTER", "MYID").decode())

    def _settled(self, node: Server) -> bool:
        ranges = self.ask(node, "CLUSTER", "SLOTS")
        return b"cluster_state:ok" in self.ask(node, "CLUSTER", "INFO") and len(ranges) == self._count

    def _ranges(self, node: Server) -> list[tuple[int, int]]:
        try:
            ranges = self.ask(node, "CLUSTER", "SLOTS")
        except redis.ConnectionError:
            return []  # it is dead
        return [(first, last) for first, last, primary, *_ in ranges if primary[1] == node.port]


def _servers(ranges: Any, primary: Server) -> list[int]:
    """The ports of a primary and of its replicas, in a reply to CLUSTER SLOTS."""
    found = [[place[1] for place in places] for _, _, *places in ranges]
    return next((ports for ports in found if ports[0] == primary.port), [])


class Sentinel(Server):
    """A sentinel that watches one primary."""

    def __init__(self, kind: str, primary: Server, password: str | None = None) -> None:
        super().__init__(kind, password=password)
        self._file = self.home / "conf"
        lines = [
            f"monitor {SERVICE} 127.0.0.1 {primary.port} 2",
            f"down-after-milliseconds {SERVICE} 500",
            f"failover-timeout {SERVICE} 1000",
        ]
        self._file.write_text("".join(f"sentinel {line}\n" for line in lines))

    def _command(self, port: int) -> list[str]:
        here = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(self.home), "--daemonize", "no"]
        return [self.binary, str(self._file), "--sentinel", *here, *self._credentials()]


class Data(Server):
    """A server that can be told whom to follow when it starts."""

    def follow(self, primary: Server) -> Data:
        """Start as a replica from now on."""
        self._options += ["--replicaof", f"127.0.0.1 {primary.port}"]
        return self


class Sentinels:
    """A primary with one replica, and three sentinels that watch them."""

    def __init__(self, kind: str = "auto") -> None:
        self._stack = ExitStack()
        self._kind = kind
        self._clients: dict[Server, redis.Redis] = {}

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """`redis+sentinel://` with every sentinel."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}/0"

    @property
    def primary(self) -> Data:
        """The primary, as the first sentinel that answers knows it."""
        place = wait_for(
            lambda: self.ask(self.sentinels[0], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE), "a primary"
        )
        return next(server for server in self.servers if server.port == int(place[1]))

    @property
    def replica(self) -> Data:
        """The other server."""
        primary = self.primary
        return next(server for server in self.servers if server is not primary)

    def clients(self) -> list[redis.Redis]:
        """A client of each server that has data."""
        return [self._clients[self.primary]]

    def client(self, server: Server) -> redis.Redis:
        """The client of one server."""
        return self._clients[server]

    def clear(self) -> None:
        """Empty the primary."""
        self.ask(self.primary, "FLUSHALL")

    def ask(self, server: Server, *command: Any) -> Any:
        """Send one command to one server or sentinel."""
        return self._clients[server].execute_command(*command)

    def kill_primary(self) -> Data:
        """SIGKILL, once the replica has what was written; returns the killed one. The sentinels will notice."""
        primary = self.primary
        self.replicate(primary)
        primary.kill()
        return primary

    def replicate(self, primary: Data) -> None:
        """Wait until the replica has everything. (WAIT is about the writes of its own connection.)"""
        self.ask(primary, "SET", "written", "last", "PX", 100)
        assert self.ask(primary, "WAIT", 1, 5000) == 1

    def switch(self, primary: Data) -> None:
        """Swap the roles in an orderly way: no connection is closed, and the sentinels are told."""
        old = self.primary
        self.ask(primary, "REPLICAOF", "NO", "ONE")
        self.ask(old, "REPLICAOF", "127.0.0.1", primary.port)
        for sentinel in self.sentinels:
            self.ask(sentinel, "SENTINEL", "REMOVE", SERVICE)
            self.ask(sentinel, "SENTINEL", "MONITOR", SERVICE, "127.0.0.1", primary.port, 2)

    def wait_for_failover(self, old: Server) -> None:
        """Wait until the sentinels have promoted the other server."""
        wait_for(
            lambda: self._agreed() and self.primary is not old and self.ask(self.primary, "ROLE")[0] == b"master",
            "a failover",
            20,
        )

    def heal(self, server: Data) -> None:
        """Bring a killed server back as the replica, and wait until everybody knows."""
        server.follow(self.primary).start()
        wait_for(self._healthy, "the replica to be back", 30)

    def _start(self) -> None:
        options = ["--repl-diskless-sync-delay", "0"]
        primary, replica = self.servers = [Data(self._kind, *options) for _ in range(2)]
        self._add(primary)
        self._add(replica.follow(primary))
        wait_for(lambda: self.ask(primary, "ROLE")[2], "the replica to connect", 20)
        self.sentinels = [self._add(Sentinel(self._kind, primary)) for _ in range(3)]
        for sentinel in self.sentinels:
            self.ask(sentinel, "SENTINEL", "DEBUG", *QUICK)
        wait_for(self._healthy, "the sentinels to know each other", 30)

    def _add(self, server: Server) -> Server:
        self._stack.enter_context(server)
        self._clients[server] = server.client(socket_timeout=PATIENCE)
        return server

    def _agreed(self) -> bool:
        said = [self.ask(each, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE) for each in self.sentinels]
        return all(place == said[0] for place in said)

    def _healthy(self) -> bool:
        return all(self._sees_all(self._clients[each]) for each in self.sentinels)

    def _sees_all(self, sentinel: Any) -> bool:
        primary, replicas = sentinel.sentinel_master(SERVICE), sentinel.sentinel_slaves(SERVICE)
        good = [each for each in replicas if (each["flags"], each["master-link-status"]) == ("slave", "ok")]
        return (primary["num-other-sentinels"], primary["flags"]) == (2, "master") and len(good) == 1
