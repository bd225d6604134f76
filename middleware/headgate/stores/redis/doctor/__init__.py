"""What is wrong with a Redis or Valkey server, from what it says of itself.

Law: pure. Facts go in (`facts`, read by `visit`), findings come out; the same facts give the same findings.
`memory` is about what may be dropped, `keeping` about what outlives the server, `reach` about the way there, `rights`
about the user, `shards` about what several servers do together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from headgate.stores.finding import Finding, NotKnown, sorted_out
from headgate.stores.redis.doctor import keeping, memory, reach, rights, shards
from headgate.stores.redis.doctor.facts import Facts, Server

__all__ = ["KINDS", "TOLD_BY", "Facts", "Server", "at_connect", "findings", "not_known", "seen"]

KINDS = (*reach.KINDS, *rights.KINDS, *memory.KINDS, *keeping.KINDS, *shards.KINDS)
"""Every matter that may be found; docs/operations.md has a row for each."""

TOLD_BY = {
    "INFO": "version, role, memory, eviction, the state of log and snapshots, replicas, connections",
    "CONFIG GET": "appendfsync, save, stop-writes-on-bgsave-error, min-replicas-to-write, timeout, "
    "tcp-keepalive, and a cluster's timeouts",
    "CLUSTER INFO": "whether the server finds the cluster well, and all slots owned",
    "SCAN": "keys without an end, other programs' keys",
    "PTTL": "keys without an end",
    "SLOWLOG GET": "slow commands",
    "TIME": "how far the clocks differ",
    "PING": "how long a round trip takes",
    "EVAL": "which rights the user lacks",
    "anything more": "what else the server would have told",
}
"""What is not known where a command may not be asked."""


def findings(facts: Facts) -> tuple[Finding, ...]:
    """All that is wrong, faults first.

    >>> server = Server("h:6379", {"redis_version": "6.2.1", "maxmemory_policy": "allkeys-lru", "maxmemory": "99"})
    >>> [(finding.name, finding.severity) for finding in findings(Facts((server,)))]
    [('version', 'fault'), ('eviction', 'fault')]
    """
    return sorted_out(_all(facts))


def _all(facts: Facts) -> Iterator[Finding]:
    yield from reach.address(facts)
    yield from shards.whole(facts)
    for server in facts.servers:
        for part in (reach, rights, memory, keeping, shards):
            yield from part.rules(facts, server)


def at_connect(info: Mapping[str, str], address: str) -> tuple[Finding, ...]:
    """What INFO alone says of a server that must not be counted on: its version, and that it drops keys.

    >>> [finding.what for finding in at_connect({"redis_version": "7.2.4", "maxmemory_policy": "noeviction"}, "h:1")]
    []
    """
    server = Server(address, info)
    return sorted_out([*reach.version(server), *memory.eviction(server)])


def not_known(facts: Facts) -> tuple[NotKnown, ...]:
    """What was not permitted to be read, or not there; the same at several servers is said once."""
    kept: dict[tuple[str, str], tuple[str, ...]] = {}
    for server in facts.servers:
        for command, reason in server.refused.items():
            kept[command, reason] = (*kept.get((command, reason), ()), server.address)
    return tuple(
        NotKnown(where, TOLD_BY[command], f"{command}: {reason}") for (command, reason), where in kept.items()
    )


def seen(server: Server) -> str:
    """One server in a line, as far as it is known.

    >>> seen(Server("h:1", {"redis_version": "7.2.4", "role": "master", "used_memory": "2048", "aof_enabled": "0"}))
    'Redis 7.2.4, primary, 2.0 KB, no log'
    """
    parts = [server.product] if server.info else ["says nothing of itself"]
    parts += [{"master": "primary", "slave": "replica"}.get(server.info.get("role", ""), "")]
    used, bound = server.number("used_memory"), server.number("maxmemory")
    if used is not None:
        parts.append(memory.size(used) + (f" of {memory.size(bound)}" if bound else ""))
    log = server.number("aof_enabled")
    if log is not None:
        parts.append(" ".join(["log", server.setting("appendfsync") or ""]).strip() if log else "no log")
    if count := server.number("connected_slaves"):
        parts.append(f"{count} replica{'' if count == 1 else 's'}")
    if server.trips:
        middle, late = reach.middle_and_late(server.trips)
        parts.append(f"round trip {1000 * middle:.2f} ms (p99 {1000 * late:.2f})")
    return ", ".join(part for part in parts if part)
