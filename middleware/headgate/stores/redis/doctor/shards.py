"""Whether a store of several servers holds together: a cluster's slots and votes, Sentinels and their majority.

Law: a server that belongs to the store and does not answer is a finding, and no reason to keep silent of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from headgate.stores.finding import Finding, Kind
from headgate.stores.redis.doctor.facts import Facts, Server

SLOTS = 16_384
"""Slots of a cluster."""

VOTERS = 3
"""Primaries of a cluster, or Sentinels, that it takes so that two can agree that one is gone."""

PATIENT, HASTY = 5_000, 1_000
"""Milliseconds of `cluster-node-timeout` above which an outage is long, and below which a pause looks like one."""

DOWN_AFTER = 10.0
"""Seconds of `down-after-milliseconds` above which an outage is long."""

AWAY = Kind(
    "server-away",
    ("fault", "warning"),
    "What a primary counts cannot be counted while it is away; a replica that is away cannot take over.",
)
STATE = Kind("cluster-state", ("fault",), "A cluster that is down answers nobody, or not for all keys.")
UNOWNED = Kind("slots", ("fault",), "Whose counters lie in these slots is not counted: on_store_error decides.")
VOTES = Kind("few-primaries", ("warning",), "With fewer than 3 primaries no majority is left to replace one.")
COVERAGE = Kind(
    "full-coverage", ("note",), "With it, the loss of one shard stops the whole cluster, not only its own keys."
)
NODE_TIMEOUT = Kind(
    "node-timeout",
    ("note", "warning"),
    "When a primary dies, its counters are away for this long and about a second more; below 1 s a pause of the "
    "server looks like its death.",
)
QUORUM = Kind("quorum", ("fault",), "When the primary dies now, nobody takes over.")
FEW_SENTINELS = Kind("few-sentinels", ("warning",), "With fewer than 3 Sentinels the loss of one leaves no majority.")
DOWN = Kind("down-after", ("note",), "When the primary dies, nothing is counted for this long and some seconds more.")

KINDS = (AWAY, STATE, UNOWNED, VOTES, COVERAGE, NODE_TIMEOUT, QUORUM, FEW_SENTINELS, DOWN)


def whole(facts: Facts) -> Iterator[Finding]:
    """All of this module that is about the store as a whole."""
    for address, what, why in facts.away:
        yield AWAY.found(
            address,
            f"{what} does not answer from here: {why.partition('; ')[0]}",
            "start it; where others reach it, open the way from here (cluster-announce-ip is what it tells)",
            "warning" if what != "a primary" else "fault",
        )
    if facts.shape == "cluster" and facts.servers:
        yield from _votes(facts)
    if facts.shape == "sentinel":
        yield from _watches(facts)


def rules(facts: Facts, server: Server) -> Iterator[Finding]:
    """All of this module for one server."""
    if facts.shape != "cluster" or server.mode == "standalone":
        return
    said = server.cluster or {}
    if said.get("cluster_state") == "fail":
        yield STATE.found(
            server.address,
            "it says that the cluster is down (cluster_state is fail)",
            "redis-cli --cluster check HOST:PORT says what is missing",
        )
    owned, well = _count(said, "cluster_slots_assigned"), _count(said, "cluster_slots_ok")
    if owned is not None and owned < SLOTS:
        yield UNOWNED.found(
            server.address, f"{SLOTS - owned:,} slots belong to no server", "redis-cli --cluster fix HOST:PORT"
        )
    if well is not None and owned is not None and well < owned:
        yield UNOWNED.found(
            server.address,
            f"{owned - well:,} slots belong to a server that is away",
            "start it again; or CLUSTER FAILOVER TAKEOVER on a replica of its",
        )
    yield from _timeouts(server)


def _votes(facts: Facts) -> Iterator[Finding]:
    count = max([_count(server.cluster or {}, "cluster_size") or 0 for server in facts.servers], default=0)
    if 0 < count < VOTERS:
        yield VOTES.found(
            facts.servers[0].address,
            f"the cluster has {count} primar{'y' if count == 1 else 'ies'}",
            "redis-cli --cluster add-node, until there are 3 primaries; or one server with Sentinel",
        )


def _timeouts(server: Server) -> Iterator[Finding]:
    if server.setting("cluster-require-full-coverage") == "yes":
        yield COVERAGE.found(
            server.address,
            "cluster-require-full-coverage is yes",
            "CONFIG SET cluster-require-full-coverage no",
        )
    wait = server.amount("cluster-node-timeout")
    if wait is not None and not HASTY <= wait <= PATIENT:
        yield NODE_TIMEOUT.found(
            server.address,
            f"cluster-node-timeout is {wait:,} ms",
            f"CONFIG SET cluster-node-timeout {PATIENT}",
            "warning" if wait < HASTY else "note",
        )


def _watches(facts: Facts) -> Iterator[Finding]:
    for watch in facts.watches:
        if not watch.fine:
            yield QUORUM.found(
                watch.address,
                f"the Sentinels that it reaches cannot fail the primary over (quorum {watch.quorum})",
                "start the other Sentinels; SENTINEL CKQUORUM NAME says how many are missing",
            )
        if watch.down_after > DOWN_AFTER:
            yield DOWN.found(
                watch.address,
                f"down-after-milliseconds is {1000 * watch.down_after:,.0f}",
                "SENTINEL SET NAME down-after-milliseconds 5000",
            )
    known = max([watch.others + 1 for watch in facts.watches], default=0)
    if 0 < known < VOTERS:
        yield FEW_SENTINELS.found(
            facts.watches[0].address,
            f"there {'is one Sentinel' if known == 1 else f'are {known} Sentinels'}",
            "start Sentinels on three machines",
        )


def _count(said: Mapping[str, str], name: str) -> int | None:
    value = said.get(name, "")
    return int(value) if value.isdigit() else None
