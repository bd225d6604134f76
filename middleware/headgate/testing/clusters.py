"""A Valkey or Redis Cluster of one's own: real nodes on this machine, ready in a few seconds.

Law: a cluster is ready when every node says so of every other: all slots served, all replicas in step. Nodes are
`Server`s, so that each can be killed, paused and started again in place; which of them is a primary is asked of the
cluster, never remembered.

    with Cluster() as cluster:
        store = open_store(cluster.url)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from redis.exceptions import RedisError

from headgate.testing.servers import Server, ServerUnready, Setting

__all__ = ["SLOTS", "Cluster"]

SLOTS = 16_384

BUS = 10_000
"""A node's bus is so far above its port."""

PATIENCE = 40.0
"""Seconds that a cluster may take to agree: 3 s on a quiet machine, of which 2 are the nodes' own caution."""

FORMING_TIMEOUT = 500
"""`cluster-node-timeout` (ms) while it forms: nodes that just met wait as long before they serve, so it is short."""


TALKATIVE = 1_000
"""`cluster-node-timeout` (ms) at which nodes tell each other news soon: they speak twice within it."""


class Node(NamedTuple):
    """One line of `CLUSTER NODES`, as one node sees another. `slots` are ranges, both ends included.

    `moving`: slots under way, which only the node itself tells; two views differ until none is.
    """

    id: str
    port: int
    flags: frozenset[str]
    primary: str
    linked: bool
    slots: tuple[tuple[int, int], ...]
    moving: frozenset[str]


class Cluster:
    """`primaries` primaries with `replicas` replicas each; started by `start` or `with`.

    `node_timeout`: milliseconds after which a silent node is taken for dead; failover takes about that and one second
    more. The default is for clusters whose nodes are not killed: on a busy machine a short one promotes replicas of
    primaries that were merely slow. `settings` are every node's, as those of `Server`.
    """

    def __init__(
        self,
        primaries: int = 3,
        replicas: int = 1,
        *,
        program: Path | None = None,
        node_timeout: int = 15_000,
        **settings: Setting,
    ) -> None:
        ours: dict[str, Any] = {
            "cluster-enabled": True,
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": FORMING_TIMEOUT,
            "cluster-allow-replica-migration": False,  # who has which replicas stays as it was laid out
            "cluster-replica-validity-factor": 0,  # a replica may always be promoted
            "repl-ping-replica-period": 1,
        }
        if "requirepass" in settings:
            ours["masterauth"] = settings["requirepass"]
        self.node_timeout = node_timeout
        self.nodes = [Server(program, **(ours | settings)) for _ in range(primaries * (1 + replicas))]
        self._primaries = primaries

    def __enter__(self) -> Cluster:
        """Start it."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of every node."""
        return [node.address for node in self.nodes]

    @property
    def url(self) -> str:
        """Its address for `HEADGATE_STORE`: two nodes are named, which know the others."""
        return self.url_of(self.addresses[:2])

    def url_of(self, addresses: Sequence[tuple[str, int]]) -> str:
        """The address for `HEADGATE_STORE` that names these, with the nodes' password if they have one."""
        password = f":{self.nodes[0].password}@" if self.nodes[0].password else ""
        return f"redis+cluster://{password}" + ",".join(f"{host}:{port}" for host, port in addresses)

    def start(self) -> Cluster:
        """Start all nodes, let them meet, give the primaries their slots; return when all agree.

        Raises ServerUnready.
        """
        try:
            for node in self.nodes:
                node.launch()
            for node in self.nodes:
                node.wait()
            self._form()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End all nodes and remove their files."""
        for node in self.nodes:
            node.stop()

    def flush(self) -> None:
        """Forget all keys and scripts, on primaries and replicas."""
        for node in self.primaries():
            node.flush()

    def set(self, name: str, value: object) -> None:
        """Set it on every node that runs, also for when it is started again."""
        for node in self.nodes:
            if node.awake():
                node.ask("CONFIG", "SET", name, value)
                node.ask("CONFIG", "REWRITE")

    @contextmanager
    def talkative(self) -> Iterator[None]:
        """Meanwhile nodes tell each other twice a second how they are; else as often as `node_timeout` asks for."""
        self.set("cluster-node-timeout", min(TALKATIVE, self.node_timeout))
        try:
            yield
        finally:
            self.set("cluster-node-timeout", self.node_timeout)

    def until(self, what: str, holds: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Wait until something holds of the cluster; a node that cannot be asked says no. Raises ServerUnready."""
        until = time.monotonic() + patience
        while not _holds(holds):
            if time.monotonic() > until:
                raise ServerUnready(f"the nodes of the cluster did not {what} within {patience:.0f} s")
            time.sleep(0.02)

    def settled(self, patience: float = PATIENCE) -> None:
        """Wait until all nodes run, all see the same, all slots are served and all replicas are in step."""
        self.until("agree", self.healthy, patience)

    def healthy(self) -> bool:
        """Whether all nodes run and agree."""
        views = [seen(node) for node in self.nodes if node.awake()]
        if len(views) < len(self.nodes) or any(view != views[0] for view in views):
            return False
        served = sum(end - begin + 1 for node in views[0] for begin, end in node.slots)
        replicas = [node for node in views[0] if node.primary]
        whole = served == SLOTS and len(replicas) == len(self.nodes) - self._primaries
        return (
            whole
            and all(node.linked and "fail" not in node.flags for node in views[0])
            and all(map(in_step, self.nodes))
        )

    def primaries(self) -> list[Server]:
        """The primaries now, in the order of their slots, as the first node that answers sees it."""
        lines = [line for line in self._view() if line.slots and "fail" not in line.flags]
        return [self._at(line.port) for line in sorted(lines, key=lambda line: line.slots)]

    def owner(self, slot: int) -> Server:
        """The primary that serves a slot now. Raises ServerUnready if none does."""
        for line in self._view():
            if any(begin <= slot <= end for begin, end in line.slots):
                return self._at(line.port)
        raise ServerUnready(f"nobody serves slot {slot}")

    def replicas(self, primary: Server) -> list[Server]:
        """The replicas of a primary now."""
        view = self._view()
        [mine] = [line.id for line in view if line.port == primary.port]
        return [self._at(line.port) for line in view if line.primary == mine]

    def promote(self, replica: Server, *, force: bool = False) -> None:
        """Make a replica the primary, in order (nothing is lost) or, with `force`, without asking the primary.

        Returns when the others agree.
        """
        replica.ask("CLUSTER", "FAILOVER", *(["TAKEOVER"] if force else []))
        mine = replica.port
        self.until("change over", lambda: all(self._serves(node, mine) for node in self.nodes if node.awake()))

    def move(self, slot: int, to: Server) -> None:
        """Move one slot with all its keys, as an operator reshards; clients meet ASK and then MOVED."""
        self.begin_move(slot, to)
        self.end_move(slot, to)

    def begin_move(self, slot: int, to: Server) -> Server:
        """The first half: the slot is under way (keys that are not at its owner: ASK); its owner is answered."""
        source = self.owner(slot)
        to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", identity(source))
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", identity(to))
        return source

    def move_keys(self, slot: int, to: Server) -> int:
        """Carry the keys that the slot has now; how many."""
        source, moved = self.owner(slot), 0
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.ask(
                "MIGRATE", *to.address, "", 0, 5_000, *(["AUTH", to.password] if to.password else []), "KEYS", *keys
            )
            moved += len(keys)
        return moved

    def end_move(self, slot: int, to: Server) -> None:
        """The second half: the rest of the keys, then everybody is told who serves the slot."""
        source = self.owner(slot)
        self.move_keys(slot, to)
        # The new owner first: it takes the slot with a higher epoch, so that nobody believes the old one again.
        for node in (to, source, *(node for node in self.primaries() if node not in (to, source))):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", identity(to))

    def _form(self) -> None:
        first, *others = self.nodes
        primaries = self.nodes[: self._primaries]
        for epoch, node in enumerate(self.nodes, start=1):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", epoch)
        for number, node in enumerate(primaries):
            begin, end = (SLOTS * n // len(primaries) for n in (number, number + 1))
            node.ask("CLUSTER", "ADDSLOTSRANGE", begin, end - 1)
        for node in others:
            first.ask("CLUSTER", "MEET", *node.address)
        met = {node.port for node in self.nodes}
        self.until("meet", lambda: all({n.port for n in seen(node)} == met for node in self.nodes))
        for number, node in enumerate(self.nodes[self._primaries :]):
            node.ask("CLUSTER", "REPLICATE", identity(primaries[number % len(primaries)]))
        self.settled()
        self.set("cluster-node-timeout", self.node_timeout)

    def _view(self) -> list[Node]:
        for node in self.nodes:
            if node.awake():
                with suppress(RedisError):
                    return seen(node)
        raise ServerUnready("no node of the cluster answers")

    def _at(self, port: int) -> Server:
        for node in self.nodes:
            if node.port == port:
                return node
        raise ServerUnready(f"the cluster tells of a node at port {port}, which is none of ours")

    def _serves(self, node: Server, port: int) -> bool:
        return any(line.port == port and line.slots for line in seen(node))


def identity(node: Server) -> str:
    """The node's id in its cluster."""
    return str(node.ask("CLUSTER", "MYID").decode())


def seen(node: Server) -> list[Node]:
    """All nodes as one of them sees them, by id; without what differs from one to the other in any case."""
    lines = node.ask("CLUSTER", "NODES").decode().splitlines()
    return sorted(_node(line.split()) for line in lines)


def in_step(node: Server) -> bool:
    """Whether the node says that the cluster is well and, if it is a replica, that its primary is at hand."""
    well = b"cluster_state:ok" in node.ask("CLUSTER", "INFO")
    standing = node.ask("INFO", "replication")
    return well and (standing["role"] == "master" or standing["master_link_status"] == "up")


def _node(words: Sequence[str]) -> Node:
    name, address, flags, primary, _, _, _, link, *slots = words
    # By the port of its bus: the other one is what clients are told, which may be a proxy's.
    port = int(address.partition("@")[2].partition(",")[0]) - BUS
    ranges = [(int(one), int(end or one)) for one, _, end in (s.partition("-") for s in slots if s[0] != "[")]
    marks = frozenset(flags.split(",")) - {"myself", "nofailover", "noflags"}
    moving = frozenset(slot for slot in slots if slot[0] == "[")
    return Node(name, port, marks, "" if primary == "-" else primary, link == "connected", tuple(ranges), moving)


def _holds(condition: Callable[[], bool]) -> bool:
    """Whether it holds; a node that cannot be asked says no."""
    with suppress(RedisError, ServerUnready):
        return condition()
    return False
