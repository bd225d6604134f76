"""What is found wrong with a server, from facts alone: each matter appears where it should, and only there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from headgate.stores.finding import Finding, sorted_out
from headgate.stores.redis.doctor import KINDS, TOLD_BY, at_connect, findings, not_known, rights, seen
from headgate.stores.redis.doctor.facts import BEGINNINGS, Facts, Right, Sample, Server, Watch
from headgate.stores.redis.doctor.keeping import snapshots
from headgate.stores.redis.doctor.topology import nodes_of
from headgate.stores.redis.script import keys

INFO = {
    "redis_version": "7.2.4", "valkey_version": "9.1.2", "server_mode": "standalone", "role": "master",
    "used_memory": "1000000", "maxmemory": "100000000", "maxmemory_policy": "noeviction",
    "total_system_memory": "8000000000", "evicted_keys": "0", "aof_enabled": "1", "aof_last_write_status": "ok",
    "rdb_last_bgsave_status": "ok", "loading": "0", "connected_clients": "3", "maxclients": "10000",
    "rejected_connections": "0", "connected_slaves": "1", "slave0": "ip=10.0.0.2,port=6379,state=online,lag=0",
    "db0": "keys=10,expires=10",
}  # fmt: skip
SETTINGS = {
    "appendfsync": "always", "save": "", "stop-writes-on-bgsave-error": "yes", "min-replicas-to-write": "1",
    "timeout": "0", "tcp-keepalive": "300", "maxclients": "10000",
    "cluster-node-timeout": "5000", "cluster-require-full-coverage": "no",
}  # fmt: skip
CLUSTER = {
    "cluster_state": "ok", "cluster_slots_assigned": "16384", "cluster_slots_ok": "16384", "cluster_size": "3",
}  # fmt: skip
HERE = "10.0.0.1:6379"
WELL = Facts(
    (Server(HERE, INFO, SETTINGS, ahead=0.01, trips=(0.0002,) * 100, slow=(), denied=(), sample=Sample(10, 0, 0)),)
)
NO_REPLICA = {"connected_slaves": "0"}
WATCH = Watch("10.0.0.9:26379", 2, 2, True, 5.0)


def facts(
    info: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
    cluster: Mapping[str, str] | None = None,
    whole: Mapping[str, Any] | None = None,
    **server: Any,
) -> Facts:
    """A store that is well, with what is said otherwise."""
    changed = replace(
        WELL.servers[0],
        info=INFO | (info or {}),
        settings=SETTINGS | (settings or {}),
        cluster=CLUSTER | (cluster or {}),
        **server,
    )
    return replace(WELL, servers=(changed,), **(whole or {}))


def in_cluster(
    info: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
    cluster: Mapping[str, str] | None = None,
    **whole: Any,
) -> Facts:
    return facts({"server_mode": "cluster", **(info or {})}, settings, cluster, {"shape": "cluster", **whole})


def watched(*watches: Watch) -> Facts:
    return replace(WELL, shape="sentinel", watches=watches)


REPLICATED = {"durability": "replicated"}
FAILED = {"rdb_last_bgsave_status": "err"}
OF_REPLICA = {"role": "slave", "master_host": "10.0.0.2", "master_port": "6379"}
WAITING = {"slave0": "ip=10.0.0.2,port=6379,state=wait_bgsave,lag=0"}
BEHIND = {"slave0": "ip=10.0.0.2,port=6379,state=online,lag=60"}

FOUND: list[tuple[str, str, Facts, str]] = [
    # name, severity, facts, a part of what is said
    ("version", "fault", facts({"redis_version": "6.2.14", "valkey_version": ""}), "it is "),
    ("not-tested", "note", facts({"dragonfly_version": "df-v1.30.0"}), "Dragonfly 1.30.0"),
    ("address", "fault", facts({"server_mode": "cluster"}), "belongs to a cluster"),
    ("address", "fault", facts({"server_mode": "sentinel"}), "a Sentinel answers there"),
    ("address", "fault", facts(whole={"shape": "cluster"}), "belongs to no cluster"),
    ("clock", "warning", facts(ahead=1.5), "1.5 s ahead of"),
    ("clock", "fault", facts(ahead=-3700.0), "3,700.0 s behind"),
    ("connections", "warning", facts({"connected_clients": "9000"}), "9,000 connections of 10,000"),
    ("connections", "fault", facts({"connected_clients": "9", "maxclients": "20"}, whole={"workers": 20}), " 40 "),
    ("connections", "warning", facts({"rejected_connections": "7"}), "7 connections were turned away"),
    ("round-trip", "warning", facts(trips=(0.001,) * 90 + (0.02,) * 10), "one in a hundred 20.0 ms"),
    ("round-trip", "fault", facts(trips=(0.04,) * 9), "takes 40.0 ms"),
    ("slow-commands", "warning", facts(slow=(("KEYS", 0.4, 60.0), ("EVAL", 0.02, 5.0))), "KEYS for 400 ms"),
    ("idle-cut", "note", facts(settings={"timeout": "300"}), "timeout is 300 s"),
    ("keepalive", "note", facts(settings={"tcp-keepalive": "0"}), "tcp-keepalive is 0"),
    ("no-password", "warning", replace(WELL, local=False, password=False), "who has no password"),
    ("no-tls", "note", replace(WELL, local=False, encrypted=False), "rediss://"),
    ("rights", "fault", facts(denied=("HSET KEY",), whole={"needs": (Right("hset", "HSET KEY"),)}), "hset"),
    ("eviction", "fault", facts({"maxmemory_policy": "allkeys-lru"}), "maxmemory-policy is allkeys-lru"),
    ("eviction", "warning", facts({"maxmemory_policy": "volatile-ttl", "maxmemory": "0"}), "though maxmemory is 0"),
    ("eviction", "warning", facts({"maxmemory_policy": "volatile-ttl", "maxmemory": ""}), "maxmemory is not known"),
    ("evicted", "fault", facts({"maxmemory_policy": "allkeys-lfu", "evicted_keys": "1200"}), "1,200 keys"),
    ("evicted", "warning", facts({"evicted_keys": "1"}), "1 keys were evicted"),
    ("no-bound", "note", facts({"maxmemory": "0"}), "maxmemory is 0"),
    ("no-bound", "warning", facts({"maxmemory": "0", "used_memory": "6000000000"}), "5.6 GB of the"),
    ("filling", "warning", facts({"used_memory": "85000000"}), "85%"),
    ("filling", "fault", facts({"used_memory": "99000000"}), "99%"),
    ("lasting", "fault", facts(sample=Sample(500, 0, 2)), "of 500 keys looked at, 2 of headgate's have no end"),
    ("shared", "note", facts(sample=Sample(500, 30, 0)), "30 of 500 keys"),
    ("shared", "note", facts({"db3": "keys=1,expires=0"}), "2 databases"),
    ("flushed", "warning", facts({"cmdstat_flushall": "calls=2,usec=1"}), "calls: 2"),
    ("forgets", "warning", facts({"aof_enabled": "0"}), "neither the append-only file nor snapshots"),
    ("forgets", "warning", facts({"aof_enabled": "0"}, {"save": "60 1"}), "after 60 s with 1 change"),
    ("fsync", "note", facts(settings={"appendfsync": "everysec"}), "up to 2 s"),
    ("fsync", "warning", facts(settings={"appendfsync": "no"}), "about 30 s"),
    ("log-fails", "fault", facts({"aof_last_write_status": "err"}), "aof_last_write_status is err"),
    ("snapshot-fails", "fault", facts(FAILED, {"save": "60 1"}), "stop-writes-on-bgsave-error is yes"),
    ("snapshot-fails", "warning", facts(FAILED), "the last snapshot failed"),
    (
        "snapshot-fails", "warning",
        facts(FAILED, {"save": "60 1", "stop-writes-on-bgsave-error": "no"}), "stop-writes-on-bgsave-error is no",
    ),
    ("loading", "fault", facts({"loading": "1", "loading_eta_seconds": "12"}), "for about 12 s more"),
    ("alone", "note", facts(NO_REPLICA), "no replica follows"),
    ("alone", "warning", in_cluster(NO_REPLICA), "no replica follows"),
    ("alone", "fault", facts(NO_REPLICA, whole=REPLICATED), "durability is replicated"),
    ("replica-away", "warning", facts(BEHIND), "10.0.0.2:6379 is 60 s behind"),
    ("replica-away", "fault", facts(WAITING, whole=REPLICATED), "is wait_bgsave"),
    (
        "replica-away", "warning",
        facts({**OF_REPLICA, "master_link_status": "down", "master_link_down_since_seconds": "9"}), "for 9 s",
    ),
    ("split", "note", facts(settings={"min-replicas-to-write": "0"}), "min-replicas-to-write is 0"),
    ("split", "warning", facts(settings={"min-replicas-to-write": "0"}, whole=REPLICATED), "is 0"),
    ("too-few-replicas", "fault", facts(NO_REPLICA), "min-replicas-to-write is 1, and 0 are there"),
    (
        "too-few-replicas", "fault",
        facts({**BEHIND, "min_slaves_good_slaves": "1"}, {"min-replicas-to-write": "2"}), "is 2, and 1 is there",
    ),
    ("a-replica", "fault", facts(OF_REPLICA), "names a replica of 10.0.0.2:6379"),
    ("server-away", "fault", replace(WELL, away=(("10.0.0.3:1", "a primary", "nothing listens"),)), "a primary does"),
    ("server-away", "warning", replace(WELL, away=(("10.0.0.3:1", "a replica", "no answer"),)), "a replica does not"),
    ("cluster-state", "fault", in_cluster(cluster={"cluster_state": "fail"}), "the cluster is down"),
    ("slots", "fault", in_cluster(cluster={"cluster_slots_assigned": "16000"}), "384 slots belong to no server"),
    ("slots", "fault", in_cluster(cluster={"cluster_slots_ok": "10923"}), "5,461 slots belong to a server"),
    ("few-primaries", "warning", in_cluster(cluster={"cluster_size": "1"}), "1 primary"),
    ("full-coverage", "note", in_cluster(settings={"cluster-require-full-coverage": "yes"}), "is yes"),
    ("node-timeout", "note", in_cluster(settings={"cluster-node-timeout": "15000"}), "15,000 ms"),
    ("node-timeout", "warning", in_cluster(settings={"cluster-node-timeout": "500"}), "500 ms"),
    ("quorum", "fault", watched(replace(WATCH, fine=False)), "quorum 2"),
    ("few-sentinels", "warning", watched(replace(WATCH, others=0)), "one Sentinel"),
    ("down-after", "note", watched(replace(WATCH, down_after=30.0)), "30,000"),
]  # fmt: skip


def named(found: tuple[Finding, ...]) -> set[str]:
    return {finding.name for finding in found}


@pytest.mark.parametrize(("name", "severity", "of", "part"), FOUND, ids=[f"{n}-{s}" for n, s, _, _ in FOUND])
def test_what_is_wrong_is_found(name: str, severity: str, of: Facts, part: str) -> None:
    [found] = [finding for finding in findings(of) if finding.name == name and part in finding.what]
    assert found.severity == severity
    assert found.why and found.remedy and found.where


@pytest.mark.parametrize(
    "of",
    [WELL, in_cluster(), watched(WATCH), facts(whole=REPLICATED), replace(WELL, local=False)],
    ids=["single", "cluster", "sentinel", "replicated", "afar"],
)
def test_of_a_store_that_is_well_nothing_is_found(of: Facts) -> None:
    assert findings(of) == ()


def test_every_matter_is_found_as_bad_as_it_may_be() -> None:
    said = {(kind.name, severity) for kind in KINDS for severity in kind.severities}
    assert {(name, severity) for name, severity, _, _ in FOUND} == said
    assert len({kind.name for kind in KINDS}) == len(KINDS)


NEARLY = [
    facts({"used_memory": "79000000"}),
    facts({"maxmemory": "0"}, whole={}),
    facts(ahead=0.9),
    facts(trips=(0.012,) * 100),
    facts({"connected_clients": "7900"}),
    facts(slow=(("KEYS", 0.4, 100_000.0), ("GET", 0.001, 1.0))),
    facts({"slave0": "ip=10.0.0.2,port=6379,state=online,lag=10"}),
    in_cluster(settings={"cluster-node-timeout": "1000"}),
    replace(WELL, local=True, password=False, encrypted=False),
]


@pytest.mark.parametrize("of", NEARLY)
def test_what_is_nearly_wrong_is_no_warning(of: Facts) -> None:
    assert {finding.severity for finding in findings(of)} <= {"note"}


def test_what_could_not_be_read_is_neither_well_nor_wrong() -> None:
    silent = Server(HERE, refused={"INFO": "not permitted", "CONFIG GET": "not permitted", "SCAN": "not permitted"})
    of = Facts((silent, replace(silent, address="10.0.0.2:6379")), durability="replicated")
    assert findings(of) == ()
    unknown = not_known(of)
    assert [what.reason for what in unknown] == [
        "INFO: not permitted", "CONFIG GET: not permitted", "SCAN: not permitted",
    ]  # fmt: skip
    assert unknown[0].where == (HERE, "10.0.0.2:6379") and "eviction" in unknown[0].what


def test_a_server_that_lets_nobody_ask_for_its_settings_is_judged_by_the_rest() -> None:
    of = facts({"maxmemory_policy": "allkeys-lru", "aof_enabled": "0", "rdb_last_bgsave_status": "err"})
    managed = replace(of, servers=(replace(of.servers[0], settings=None),))
    told = {finding.name: finding for finding in findings(managed)}
    assert set(told) == {"eviction", "forgets", "snapshot-fails"}
    assert told["forgets"].what == "the append-only file is off", "when snapshots are taken is not guessed"


def test_numbers_that_are_none_are_not_known() -> None:
    odd = Server(HERE, {"maxmemory": "many", "redis_version": "seven"}, {"timeout": "-1"})
    assert (odd.number("maxmemory"), odd.amount("timeout"), odd.version) == (None, None, None)
    findings(Facts((odd,)))


def test_the_same_at_every_server_is_said_once_and_faults_come_first() -> None:
    three = [replace(WELL.servers[0], address=f"h:{n}", info=INFO | {"aof_enabled": "0"}) for n in range(3)]
    worse = replace(three[2], info=three[2].info | {"redis_version": "6.0.0"})
    found = findings(replace(WELL, servers=(*three[:2], worse)))
    assert [(finding.name, finding.where) for finding in found] == [
        ("version", ("h:2",)), ("forgets", ("h:0", "h:1", "h:2")),
    ]  # fmt: skip
    assert sorted_out(found) == found


def test_at_a_connection_the_version_and_eviction_are_looked_at_alone() -> None:
    assert at_connect(INFO, HERE) == ()
    assert at_connect({}, HERE) == (), "INFO is not permitted: not known is not wrong"
    bad = {"redis_version": "6.2.1", "maxmemory_policy": "allkeys-random", "maxmemory": "1", "aof_enabled": "0"}
    assert named(at_connect(bad, HERE)) == {"version", "eviction"}


def test_the_line_of_rights_names_what_the_scripts_call() -> None:
    script = "local v = redis.call('HGETALL', KEYS[1]); redis.pcall(\"PEXPIRE\", KEYS[1], 1); redis.call('TIME')"
    needs = rights.needed("cluster", True, script)
    assert [right.name for right in needs] == [
        "evalsha", "eval", "ping", "time", "info", "exists", "xadd", "xread", "xtrim",
        "wait", "cluster|slots", "asking", "hgetall", "pexpire",
    ]  # fmt: skip
    assert rights.line(needs, "shop").startswith("ACL SETUSER shop '~h[deghlmnoprw]{*' +evalsha +eval ")
    assert "wait" not in {right.name for right in rights.needed("single", False, script)}


def test_every_kind_of_key_is_known() -> None:
    subject = b"acme's--its key."
    written = [*keys.keys_of(subject), keys.receipt_key(keys.tag_of(subject)), *keys.overflow_keys(None)]
    written.append(b"hm" + keys.keys_of(subject)[0][2:])  # a parcel's
    written += [keys.sketch_key(key, b"name") for key in (keys.keys_of(subject)[0], keys.overflow_keys(None)[0])]
    written += [name.encode() for name in (keys.document_key("groups"), keys.stream_key("0"), keys.watch_key("lead"))]
    assert {key[:3] for key in written} == set(BEGINNINGS)


def test_a_server_is_told_in_a_line_as_far_as_it_is_known() -> None:
    assert seen(WELL.servers[0]) == (
        "Valkey 9.1.2, primary, 976.6 KB of 95.4 MB, log always, 1 replica, round trip 0.20 ms (p99 0.20)"
    )
    assert seen(Server(HERE)) == "says nothing of itself"


NODES = """\
f1 127.0.0.1:7001@17001,,tls-port=0,shard-id=1 myself,master - 0 0 1 connected 0-5460
f2 :7002@17002,node2.example master,fail - 1 1 2 disconnected 5461-10922
f3 [2001:db8::1]:7003@17003 slave f1 0 0 1 connected
f4 127.0.0.1:7004@17004 master - 0 0 4 connected
f5 :0@0 master,noaddr - 0 0 0 disconnected
"""


def test_the_members_of_a_cluster_are_read_as_it_names_them() -> None:
    assert [tuple(member) for member in nodes_of(NODES, ("asked", 1))] == [
        (("127.0.0.1", 7001), "a primary"),
        (("asked", 7002), "a primary"),
        (("2001:db8::1", 7003), "a replica"),
        (("127.0.0.1", 7004), "a primary without slots"),
    ]
    assert nodes_of(NODES, ("asked", 1), encrypted=True)[1].where == ("node2.example", 7002)


def test_when_snapshots_are_taken_is_said_in_words() -> None:
    assert snapshots("900 1") == "after 900 s with 1 change"


def test_every_command_that_may_be_refused_is_told_with_what_is_then_not_known() -> None:
    for command in TOLD_BY:
        [unknown] = not_known(Facts((Server(HERE, refused={command: "not permitted"}),)))
        assert unknown.what == TOLD_BY[command]
