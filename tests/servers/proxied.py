"""A cluster whose clients go through proxies, one for each node, while the nodes speak to each other directly.

Law: clients are told the proxies' ports (`cluster-announce-client-port`, which Valkey has and Redis has not); the
nodes keep their own, so that a fault of a proxy is the clients' alone and fails nobody over.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from headgate.testing.clusters import Cluster
from headgate.testing.servers import Server
from servers.proxy import Faults, Proxy

ANNOUNCED = "cluster-announce-client-port"


class Proxied:
    """`proxies`: by the port of the node that each stands before."""

    def __init__(self, cluster: Cluster, proxies: dict[int, Proxy]) -> None:
        self.cluster = cluster
        self.proxies = proxies

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [proxy.address for proxy in self.proxies.values()]

    @property
    def url(self) -> str:
        """The address for `HEADGATE_STORE`."""
        return self.cluster.url_of(self.addresses[:2])

    def before(self, node: Server) -> Proxy:
        """The proxy that stands before a node."""
        return self.proxies[node.port]

    def owning(self, slot: int) -> Proxy:
        """The proxy before the primary that serves a slot now."""
        return self.before(self.cluster.owner(slot))

    def set(self, **faults: object) -> None:
        """The same faults before every node."""
        for proxy in self.proxies.values():
            proxy.faults = Faults(**faults)


@asynccontextmanager
async def proxied(cluster: Cluster, *, seed: int = 0) -> AsyncIterator[Proxied]:
    """Stand before every node, for as long as this lasts. All of it belongs to the event loop that began it."""
    async with AsyncExitStack() as stack:
        proxies = {
            node.port: await stack.enter_async_context(Proxy(node.address, seed=seed + number))
            for number, node in enumerate(cluster.nodes)
        }
        try:
            with cluster.talkative():
                for node in cluster.nodes:
                    node.ask("CONFIG", "SET", ANNOUNCED, proxies[node.port].port)
                    node.ask("CONFIG", "REWRITE")
                cluster.until(
                    "tell of the proxies", lambda: _told(cluster) == {proxy.port for proxy in proxies.values()}
                )
            yield Proxied(cluster, proxies)
        finally:
            with cluster.talkative():
                cluster.set(ANNOUNCED, 0)
                running = {node.port for node in cluster.nodes if node.awake()}
                cluster.until("tell of themselves", lambda: running <= _told(cluster))


def _told(cluster: Cluster) -> set[int]:
    """The ports that clients are told, if all nodes tell the same; else none."""
    told = set()
    for node in cluster.nodes:
        if node.awake():
            ranges = node.ask("CLUSTER", "SLOTS")
            told.add(frozenset(server[1] for _, _, *servers in ranges for server in servers))
    return set(told.pop()) if len(told) == 1 else set()
