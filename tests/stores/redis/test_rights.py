"""The line of rights that `headgate doctor` prints is enough, and nothing of it is too much."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from headgate.quota.command import Demand, Granted, Look, Reserve
from headgate.quota.window import Total
from headgate.stores import Store, open_store
from headgate.stores.redis.doctor import rights, visit
from headgate.stores.redis.doctor.facts import Facts, Shape
from headgate.stores.redis.script.scripts import SCRIPT
from headgate.testing import ManualClock
from headgate.testing.clusters import Cluster
from headgate.testing.servers import Server
from headgate.testing.stores import StoreContract
from servers.replicated import Replicated

PATIENT = 30.0
USER = "few"


def needed(shape: Shape = "single", replicated: bool = False) -> tuple[rights.Right, ...]:
    return rights.needed(shape, replicated, SCRIPT.text.decode())


def allow(server: Server, shape: Shape = "single", replicated: bool = False, without: str = "") -> None:
    """Make the user by the line that is printed, without one right of it."""
    words = rights.line(needed(shape, replicated)).replace("'", "").replace("PASSWORD", "pw").split()
    words[2] = USER
    server.ask(*(word for word in words if word != f"+{without}"))


def of_user(url: str) -> str:
    return url.replace("://", f"://{USER}:pw@")


class OnServers(StoreContract):
    url: str
    server: Server | Cluster
    # At random it is asked by test_contract.py; here it is the rights that matter.
    test_the_store_answers_as_the_specification_does = None  # type: ignore[assignment]

    def make_store(self, clock: ManualClock) -> Store:
        self.server.flush()
        return open_store(of_user(self.url), clock=clock, deadline=PATIENT)


class TestOnValkey(OnServers):
    @pytest.fixture(autouse=True)
    def _there(self, valkey: Server) -> Iterator[None]:
        self.server, self.url = valkey, valkey.url
        allow(valkey)
        yield
        valkey.ask("ACL", "DELUSER", USER)


class TestOnRedis7(OnServers):
    @pytest.fixture(autouse=True)
    def _there(self, redis7: Server) -> Iterator[None]:
        self.server, self.url = redis7, redis7.url
        allow(redis7)
        yield
        redis7.ask("ACL", "DELUSER", USER)


class TestOnACluster(OnServers):
    @pytest.fixture(autouse=True)
    def _there(self, cluster: Cluster) -> Iterator[None]:
        self.server, self.url = cluster, cluster.url
        for node in cluster.nodes:
            allow(node, "cluster")
        yield
        for node in cluster.nodes:
            node.ask("ACL", "DELUSER", USER)


def test_it_is_enough_where_replicas_are_waited_for(primary: Replicated) -> None:
    allow(primary.primary, replicated=True)

    async def story() -> list[object]:
        store = open_store(of_user(primary.primary.url), deadline=PATIENT, durability="replicated")
        life = Demand((b"acme", "life"), Total(9), 1)
        told = await store.transact([Reserve(b"1", (life,), 60_000_000), Look((life,))])
        await store.close()
        return list(told)

    granted, _ = asyncio.run(story())
    assert isinstance(granted, Granted)


def looked(server: Server) -> Facts:
    return asyncio.run(visit.look(of_user(server.url), durability="fast", deadline=PATIENT))


@pytest.mark.parametrize("right", needed(), ids=lambda right: right.name)
@pytest.mark.parametrize("program", ["valkey", "redis7"])
def test_each_right_that_lacks_is_named(program: str, right: rights.Right, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(program)
    allow(server, without=right.name)
    try:
        [seen] = looked(server).servers
    finally:
        server.ask("ACL", "DELUSER", USER)
    assert seen.denied == (right.words,)
