"""The shipped contract suite, on every kind of server that the fleet's store speaks to."""

from __future__ import annotations

import pytest

from headgate.stores import Store, open_store
from headgate.stores.redis import RedisStore
from headgate.testing import ManualClock, store_machine
from headgate.testing.clusters import Cluster
from headgate.testing.servers import Server
from headgate.testing.stores import StoreContract

PATIENT = 30.0
"""Seconds: on a busy machine a test is no measurement."""


class OnServers(StoreContract):
    url: str
    server: Server | Cluster

    def make_store(self, clock: ManualClock) -> Store:
        self.server.flush()
        return open_store(self.url, clock=clock, deadline=PATIENT)

    def make_peer(self, store: Store, clock: ManualClock) -> Store:
        return RedisStore(self.url, clock=clock, deadline=PATIENT)


class TestOnValkey(OnServers):
    @pytest.fixture(autouse=True)
    def _there(self, valkey: Server) -> None:
        self.server, self.url = valkey, valkey.url


class TestOnRedis7(OnServers):
    @pytest.fixture(autouse=True)
    def _there(self, redis7: Server) -> None:
        self.server, self.url = redis7, redis7.url


class TestOverASocket(OnServers):
    @pytest.fixture(autouse=True)
    def _there(self, valkey: Server) -> None:
        if not isinstance(valkey, Server):
            pytest.skip("a server that was lent has no socket here")
        self.server, self.url = valkey, valkey.socket_url


class TestOnACluster(OnServers):
    """The machine's subjects are of one org here, and lie in one slot. What a command over several slots answers
    besides is told by the tests of `plan`."""

    @pytest.fixture(autouse=True)
    def _there(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server, self.url = cluster, cluster.url
        monkeypatch.setattr(
            store_machine, "SUBJECTS", (b"the-org:key-0001", b"the-org:key-0002", b"the-org:itself..")
        )
