"""`headgate doctor`, against real servers and real files."""

from __future__ import annotations

import json
import os
import pty
import re
import socket
import socketserver
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from headgate.stores.redis.doctor import visit
from headgate.testing.clusters import Cluster
from headgate.testing.servers import Server
from servers.proxy import Fate, Faults, ProxyThread
from servers.replicated import Replicated
from servers.sentinels import Sentinels

from .conftest import Run

FIT = {"maxmemory": "64mb", "appendonly": True, "appendfsync": "always"}
SECRET = "canary-password-of-the-doctor"

Make = Callable[..., Server]


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    # A machine that is busy with other tests is no slow network.
    monkeypatch.setenv("HEADGATE_DEADLINE_MS", "30000")


def told(run: Run, *words: str) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The worst finding of each name, and the whole report."""
    report = json.loads(run("doctor", "--format", "json", *words).stdout)
    return {finding["name"]: finding for finding in reversed(report["findings"])}, report


@pytest.fixture(params=["valkey", "redis7"])
def program(request: pytest.FixtureRequest) -> Path:
    server: Server = request.getfixturevalue(request.param)
    if not isinstance(server, Server):
        pytest.skip("a borrowed server has no program")
    return server.program


def test_of_a_server_that_is_fit_only_notes_are_told(program: Path, make_server: Make, run: Run) -> None:
    server = make_server(program=program, **FIT)
    said = run("doctor", server.url)
    assert said.exit_code == 0 and said.stderr == "", said.stdout + said.stderr
    assert "log always" in said.stdout.splitlines()[0] and "of 64.0 MB" in said.stdout.splitlines()[0]
    assert said.stdout.splitlines()[-1].startswith("The store is fit")
    assert set(told(run, server.url)[0]) == {"alone"}
    assert run("doctor", "--strict", server.url).exit_code == 0


def test_what_is_at_fault_comes_first_with_its_remedy(make_server: Make, run: Run) -> None:
    server = make_server(**FIT | {"maxmemory_policy": "allkeys-lru", "timeout": 60, "appendonly": False})
    said = run("doctor", server.url)
    assert said.exit_code == 1
    kinds = re.findall(r"^(fault|warning|note) ([\w-]+)", said.stdout, re.M)
    assert kinds == [("fault", "eviction"), ("warning", "forgets"), ("note", "idle-cut"), ("note", "alone")]
    assert "remedy: CONFIG SET maxmemory-policy noeviction" in said.stdout
    assert said.stdout.splitlines()[-1].startswith("1 fault, 1 warning, 2 notes. Mend the faults first")
    server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert run("doctor", server.url).exit_code == 0
    assert run("doctor", "--strict", server.url).exit_code == 1


def test_keys_that_were_evicted_are_told(make_server: Make, run: Run) -> None:
    server = make_server(maxmemory="1100kb", maxmemory_policy="volatile-lru")
    for n in range(400):
        server.ask("SET", f"hg{{x}}{n}", "v" * 4096, "EX", 600)
    assert "evicted" in told(run, server.url)[0]


def test_the_store_of_the_settings_is_looked_at(make_server: Make, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_STORE", make_server(**FIT).socket_url)
    monkeypatch.setenv("HEADGATE_DURABILITY", "replicated")
    found, report = told(run)
    assert report["store"] == os.environ["HEADGATE_STORE"]
    assert found["alone"]["severity"] == "fault", "no replica can have what was counted"
    assert told(run, "--durability", "fast")[0]["alone"]["severity"] == "note"


def test_looking_changes_nothing_and_names_no_key(valkey: Server, run: Run) -> None:
    valkey.ask("HSET", "hg{secret-subject}", "f", "v")
    valkey.ask("SET", "someone-elses-secret", "v")
    before = valkey.ask("INFO", "persistence")["rdb_changes_since_last_save"]
    found, report = told(run, valkey.url)
    assert valkey.ask("INFO", "persistence")["rdb_changes_since_last_save"] == before
    assert found["lasting"]["severity"] == "fault" and found["shared"]["severity"] == "note"
    assert "of 2 keys looked at, 1 of headgate's have no end" in found["lasting"]["what"]
    assert "secret" not in json.dumps(report)


def test_a_wrong_password_is_told_and_shown_nowhere(make_server: Make, run: Run) -> None:
    server = make_server(requirepass="right")
    host, port = server.address
    url = f"redis://:{SECRET}@{host}:{port}/0"
    said = run("doctor", url)
    assert said.exit_code == 2 and said.stdout == ""
    assert said.stderr.startswith(f"headgate: {host}:{port}: ") and len(said.stderr.splitlines()) == 1
    report = run("doctor", url, "--format", "json")
    assert report.exit_code == 2 and SECRET not in said.stderr + report.stdout + report.stderr
    shown = json.loads(report.stdout)
    assert shown["ok"] is False and "password" in shown["reason"] and shown["findings"] == []
    without = run("doctor", f"redis://{host}:{port}")
    assert without.exit_code == 2 and "it asks for a password" in without.stderr


def test_the_right_password_is_shown_nowhere(make_server: Make, run: Run) -> None:
    server = make_server(requirepass=SECRET)
    host, port = server.address
    said = run("doctor", f"redis://:{SECRET}@{host}:{port}/0", "--format", "json")
    assert said.exit_code == 0 and SECRET not in said.stdout and "[hidden]@" in said.stdout


def test_where_nothing_listens_it_cannot_be_looked_at(run: Run) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        said = run("doctor", f"redis://127.0.0.1:{held.getsockname()[1]}")
    assert said.exit_code == 2 and "nothing listens there" in said.stderr
    assert run("doctor", "unix:///nowhere/socket").exit_code == 2
    assert run("doctor", "redis://127.0.0.1:1/zero").exit_code == 2
    assert run("doctor", "mysql://root:pw@h").exit_code == 2


def test_over_tls_it_is_looked_at_alike(make_server: Make, run: Run) -> None:
    server = make_server(tls=True, **FIT)
    said = run("doctor", server.url)
    assert said.exit_code == 0 and "round trip" in said.stdout
    plain = run("doctor", server.url.partition("?")[0].replace("rediss", "redis"))
    assert plain.exit_code == 2, "a port that speaks TLS alone"
    distrusted = run("doctor", server.url.partition("?")[0])
    assert distrusted.exit_code == 2 and "its certificate is not trusted" in distrusted.stderr


def test_a_way_that_takes_longer_than_the_deadline_is_a_fault(
    valkey: Server, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HEADGATE_DEADLINE_MS")
    monkeypatch.setattr(visit, "TRIPS", 5)
    with ProxyThread(valkey.address, faults=Faults(latency=0.04)) as far:
        trip = told(run, far.url)[0]["round-trip"]
    assert trip["severity"] == "fault" and "the deadline is 25 ms" in trip["what"]


def test_a_connection_that_is_cut_in_between_hides_nothing_that_was_read(valkey: Server, run: Run) -> None:
    with ProxyThread(valkey.address) as broken:
        broken.do(lambda proxy: proxy.spoil(Fate.UNSENT, b"SLOWLOG"))
        found, report = told(run, broken.url)
    assert "forgets" in found
    assert [what["reason"] for what in report["not_known"]] == [
        "anything more: the connection was lost before it answered"
    ]


class Web(socketserver.BaseRequestHandler):
    """Something else that answers."""

    def handle(self) -> None:
        self.request.recv(1024)
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.fixture
def web() -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Web) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield f"redis://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_what_is_no_redis_is_told_as_such(web: str, run: Run) -> None:
    said = run("doctor", web)
    assert said.exit_code == 2 and "is no Redis" in said.stderr


def test_a_server_that_hangs_is_waited_for_and_told(
    make_server: Make, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visit, "PATIENCE", 0.2)
    server = make_server()
    server.pause()
    said = run("doctor", server.url)
    server.resume()
    # What hangs is the handshake or the first question, as the system has it.
    assert said.exit_code == 2 and re.search(r"no (answer|connection) within (0\.2 s|200 ms)", said.stderr)


def allowed(server: Server, *rules: str) -> str:
    """The address of a user with these rights."""
    server.ask("ACL", "SETUSER", "few", "reset", "on", f">{SECRET}", *rules)
    host, port = server.address
    return f"redis://few:{SECRET}@{host}:{port}/0"


def test_the_rights_that_lack_are_named_and_the_remedy_gives_them(program: Path, make_server: Make, run: Run) -> None:
    server = make_server(program=program, **FIT)
    url = allowed(server, "~hg{*", "+eval", "+ping", "+info")
    lacking = told(run, url)[0]["rights"]
    assert lacking["severity"] == "fault" and "evalsha" in lacking["what"] and "ping" not in lacking["what"]
    line = lacking["remedy"]
    assert line.startswith("ACL SETUSER few '~h[deghlmnoprw]{*' +evalsha ")
    server.ask(*line.replace("'", "").split())
    found, report = told(run, url)
    assert "rights" not in found
    assert {what["reason"] for what in report["not_known"]} == {
        "CONFIG GET: not permitted", "SLOWLOG GET: not permitted", "SCAN: not permitted",
    }  # fmt: skip
    assert "round trip" in report["servers"][0]["what"], "what is permitted is told"


def test_a_user_that_may_do_nothing_is_told_what_is_known_of_it(make_server: Make, run: Run) -> None:
    found, report = told(run, allowed(make_server(**FIT)))
    assert found["rights"]["what"] == "the user may not do: eval"
    assert len(report["not_known"]) == 7 and not report["ok"]


def test_keys_of_another_pattern_are_no_right(make_server: Make, run: Run) -> None:
    url = allowed(make_server(**FIT), "~cache:*", "+@all")
    assert "may not do: evalsha" in told(run, url)[0]["rights"]["what"]


def test_a_replica_is_no_place_to_count(primary: Replicated, run: Run) -> None:
    found, _ = told(run, primary.replica.url)
    assert found["a-replica"]["severity"] == "fault"
    found, report = told(run, primary.primary.url, "--durability", "replicated")
    assert {"alone", "replica-away"}.isdisjoint(found) and "1 replica" in report["servers"][0]["what"]
    primary.replica.stop()
    primary.primary.ask("CONFIG", "SET", "min-replicas-to-write", "1")
    found, _ = told(run, primary.primary.url, "--durability", "replicated")
    assert found["alone"]["severity"] == "fault" and found["too-few-replicas"]["severity"] == "fault"


def test_every_server_of_a_cluster_is_looked_at(cluster: Cluster, run: Run) -> None:
    found, report = told(run, cluster.url)
    assert len(report["servers"]) == 6 and report["ok"]
    assert len(found["forgets"]["where"]) == 6, "what is the same everywhere is said once"
    assert {"server-away", "cluster-state", "slots", "alone", "address", "rights"}.isdisjoint(found)
    host, port = cluster.nodes[0].address
    assert told(run, f"redis://{host}:{port}")[0]["address"]["severity"] == "fault"


def test_a_shard_that_is_down_is_told_and_the_others_are_looked_at(fresh_cluster: Cluster, run: Run) -> None:
    primary = fresh_cluster.primaries()[0]
    shard = [primary, *fresh_cluster.replicas(primary)]
    for node in shard:
        node.kill()
    found, report = told(run, fresh_cluster.url)
    assert not report["ok"] and len(report["servers"]) == 4
    assert found["server-away"]["severity"] == "fault"
    assert f"{primary.address[0]}:{primary.port}" in found["server-away"]["where"]


def test_a_cluster_that_knows_that_slots_are_lost_says_so(fresh_cluster: Cluster, run: Run) -> None:
    fresh_cluster.owner(0).ask("CLUSTER", "DELSLOTS", "0")
    found, _ = told(run, fresh_cluster.url)
    assert "1 slots belong to no server" in found["slots"]["what"]


def test_sentinels_are_asked_whether_they_could_fail_over(sentinels: Sentinels, run: Run) -> None:
    found, report = told(run, sentinels.url)
    assert len(report["servers"]) == 2 and report["ok"]
    assert {"quorum", "few-sentinels", "server-away"}.isdisjoint(found)
    for watcher in sentinels.watchers[1:]:
        watcher.kill()
    found, report = told(run, sentinels.url)
    away = {f"{host}:{port}" for host, port in (watcher.address for watcher in sentinels.watchers[1:])}
    assert set(found["server-away"]["where"]) == away and "a Sentinel does not" in found["server-away"]["what"]
    host, port = sentinels.watchers[0].address
    assert told(run, f"redis://{host}:{port}")[0]["address"]["what"].startswith("a Sentinel answers there")
    unknown = run("doctor", sentinels.url.replace(sentinels.service, "nobody"))
    assert unknown.exit_code == 2 and "knows no `nobody`" in unknown.stderr


SHAPE = {
    "ok": bool, "store": str, "reason": type(None), "servers": list, "findings": list, "not_known": list,
}  # fmt: skip


def test_the_report_for_programs_keeps_its_form(make_server: Make, run: Run) -> None:
    url = allowed(make_server(), "+@all", "-scan", "~h?{*")
    _, report = told(run, url)
    assert {name: type(value) for name, value in report.items()} == SHAPE
    assert {frozenset(row) for row in report["servers"]} == {frozenset({"where", "what"})}
    assert {frozenset(row) for row in report["findings"]} == {
        frozenset({"name", "severity", "where", "what", "why", "remedy"})
    }
    assert [set(row) for row in report["not_known"]] == [{"where", "what", "reason"}]
    assert {type(finding["where"]) for finding in report["findings"]} == {list}


def test_on_a_terminal_it_is_coloured_and_fits_the_width(make_server: Make) -> None:
    server = make_server(maxmemory="64mb", maxmemory_policy="allkeys-lru")

    def drawn(**environment: str) -> str:
        ours, theirs = pty.openpty()
        env = {n: v for n, v in os.environ.items() if not n.startswith("HEADGATE")} | environment
        words = [sys.executable, "-m", "headgate.cli", "doctor", server.url]
        process = subprocess.Popen(words, stdout=theirs, stderr=theirs, env=env | {"TERM": "xterm", "COLUMNS": "60"})
        os.close(theirs)
        said = b""
        try:
            while part := os.read(ours, 65536):
                said += part
        except OSError:  # the other end is closed
            pass
        os.close(ours)
        assert process.wait(30) == 1
        return said.decode()

    coloured = drawn()
    assert "\x1b[1;31mFAULT\x1b[0m" in coloured and "→" in coloured
    bare = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    assert max(len(line) for line in bare.splitlines()) <= 60
    assert "\x1b[31m" not in drawn(NO_COLOR="1")


def test_memory_is_told_to_forget(run: Run) -> None:
    said = run("doctor", "memory://")
    assert said.exit_code == 0 and "forgets at its end" in said.stdout


def ledger(folder: Path, run: Run) -> Path:
    """A ledger as the service makes it."""
    run("init", "per-org")
    run("key", "new", "--org", "acme", "--plan", "free")
    script = "import asyncio; from headgate.stores import open_store; from headgate.quota.command import Look\n"
    script += (
        "async def go():\n s = open_store('sqlite:///headgate.db'); await s.transact([Look(())]); await s.close()\n"
    )
    subprocess.run([sys.executable, "-c", script + "asyncio.run(go())"], check=True, cwd=folder)
    return folder / "headgate.db"


def test_a_ledger_that_is_not_there_yet_is_fine_and_is_not_made(folder: Path, run: Run) -> None:
    said = run("doctor")
    assert said.exit_code == 0 and "headgate.db  not there yet" in said.stdout and list(folder.iterdir()) == []
    nowhere = run("doctor", "sqlite:///no/such/folder.db")
    assert nowhere.exit_code == 1 and "the directory no/such does not exist" in nowhere.stdout


def test_a_ledger_that_is_well_is_left_as_it_is(folder: Path, run: Run) -> None:
    file = ledger(folder, run)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    found, report = told(run)
    assert report["ok"] and set(found) <= {"file-passing"}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    file.chmod(0o644)
    assert "its mode is 0644" in told(run)[0]["file-exposed"]["what"]


def test_a_file_that_is_no_ledger_or_damaged_is_at_fault(folder: Path, run: Run) -> None:
    file = ledger(folder, run)
    with closing(sqlite3.connect(file)) as other:
        other.execute("PRAGMA user_version = 99")
    assert "a newer headgate wrote it" in told(run)[0]["file-foreign"]["what"]
    (folder / "notes.db").write_bytes(b"no database at all, but long enough to be one" * 99)
    assert told(run, "sqlite:///notes.db")[0]["file-foreign"]["severity"] == "fault"
    with closing(sqlite3.connect(folder / "shop.db")) as other:
        other.execute("CREATE TABLE wares (name)")
    assert "another program's tables" in told(run, "sqlite:///shop.db")[0]["file-foreign"]["what"]
    torn = file.read_bytes()
    (folder / "torn.db").write_bytes(torn[:4096] + b"\xff" * (len(torn) - 4096))
    with closing(sqlite3.connect(folder / "torn.db")) as other:
        other.execute("PRAGMA user_version = 2")
    assert told(run, "sqlite:///torn.db")[0]["file-damaged"]["severity"] == "fault"
