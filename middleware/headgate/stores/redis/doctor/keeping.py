"""Whether what is counted outlives the server: its log, its snapshots, its replicas.

Law: `fast` may lose what the server had not yet written or sent when it died; how much that is, is said. `replicated`
must lose nothing, so that whatever keeps it from that is a fault.
"""

from __future__ import annotations

from collections.abc import Iterator

from headgate.stores.finding import Finding, Kind, Severity
from headgate.stores.redis.doctor.facts import Facts, Server

BEHIND = 10
"""Seconds of silence after which a replica counts as away: Redis's own measure (`min-replicas-max-lag`)."""

FORGETS = Kind("forgets", ("warning",), "A restart gives back what was used since the last snapshot, or all of it.")
FSYNC = Kind(
    "fsync",
    ("note", "warning"),
    "What the disk does not have yet is lost in a power cut, and usage is too low by it. The end of the server's "
    "process alone loses what it held back while the disk was syncing: up to two seconds, mostly nothing.",
)
LOG_FAILS = Kind(
    "log-fails", ("fault",), "The server refuses to write: every request goes the way of on_store_error."
)
SNAPSHOT_FAILS = Kind(
    "snapshot-fails",
    ("fault", "warning"),
    "After a failed snapshot the server refuses to write, unless told otherwise; and a restart forgets more.",
)
LOADING = Kind("loading", ("fault",), "A server that reads its data answers nothing until it has.")
ALONE = Kind(
    "alone",
    ("note", "warning", "fault"),
    "When this server is lost, so is what it counted, and nothing is counted until it is back.",
)
REPLICA_AWAY = Kind(
    "replica-away",
    ("warning", "fault"),
    "A replica that is behind knows less than was counted: if it takes over, usage is too low by that.",
)
SPLIT = Kind(
    "split",
    ("note", "warning"),
    "A primary that is cut off from its replicas goes on counting for who still reaches it, while a replica takes "
    "over for the others: what it counted meanwhile is lost.",
)
REFUSES = Kind("too-few-replicas", ("fault",), "The server refuses to write: requests go the way of on_store_error.")
FOLLOWS = Kind("a-replica", ("fault",), "A replica cannot be written: every request goes the way of on_store_error.")

KINDS = (FORGETS, FSYNC, LOG_FAILS, SNAPSHOT_FAILS, LOADING, ALONE, REPLICA_AWAY, SPLIT, REFUSES, FOLLOWS)


def rules(facts: Facts, server: Server) -> Iterator[Finding]:
    """All of this module for one server."""
    yield from _written(server)
    yield from _failing(server)
    if server.replica:
        yield from _as_replica(facts, server)
    else:
        yield from _followers(facts, server)


def _written(server: Server) -> Iterator[Finding]:
    log = server.number("aof_enabled")
    if log == 0:
        saved = server.setting("save")
        yield FORGETS.found(
            server.address,
            {None: "the append-only file is off", "": "neither the append-only file nor snapshots are on"}.get(
                saved, f"the append-only file is off; snapshots are taken {snapshots(saved or '')}"
            ),
            "CONFIG SET appendonly yes, and in the server's configuration (never by a restart alone: it would begin "
            "with an empty file)",
        )
    elif log:
        synced = server.setting("appendfsync")
        if synced == "no":
            yield FSYNC.found(
                server.address,
                "appendfsync is no: a power cut forgets about 30 s",
                "CONFIG SET appendfsync everysec",
                "warning",
            )
        elif synced == "everysec":
            yield FSYNC.found(
                server.address,
                "appendfsync is everysec: a power cut forgets up to 2 s",
                "nothing, if that may be; CONFIG SET appendfsync always forgets nothing and is slower",
            )


def _failing(server: Server) -> Iterator[Finding]:
    if server.number("aof_enabled") and server.info.get("aof_last_write_status") == "err":
        yield LOG_FAILS.found(
            server.address,
            "the append-only file could not be written (aof_last_write_status is err)",
            "free room on the server's disk; it goes on by itself",
        )
    if server.info.get("rdb_last_bgsave_status") == "err":
        stops, saved = server.setting("stop-writes-on-bgsave-error"), server.setting("save")
        goes_on = stops == "no" or saved == ""
        yield SNAPSHOT_FAILS.found(
            server.address,
            "the last snapshot failed (rdb_last_bgsave_status is err)"
            + (f", stop-writes-on-bgsave-error is {stops}" if stops else ""),
            "look into the server's log (disk room, memory for the fork: vm.overcommit_memory=1), then BGSAVE",
            "warning" if goes_on else "fault",
        )
    if server.number("loading"):
        left = server.number("loading_eta_seconds")
        yield LOADING.found(
            server.address,
            "the server is loading its data" + (f", for about {left} s more" if left else ""),
            "wait; INFO persistence says how long",
        )


def _as_replica(facts: Facts, server: Server) -> Iterator[Finding]:
    if facts.shape == "single":
        primary = f"{server.info.get('master_host', '?')}:{server.info.get('master_port', '?')}"
        yield FOLLOWS.found(
            server.address,
            f"HEADGATE_STORE names a replica of {primary}",
            "name the primary; or Sentinel (redis+sentinel://), which finds it",
        )
    if server.info.get("master_link_status") == "down":
        since = server.number("master_link_down_since_seconds")
        yield REPLICA_AWAY.found(
            server.address,
            "the replica has no link to its primary" + (f" for {since} s" if since is not None and since > 0 else ""),
            "look into its log (network, masterauth); INFO replication on both says more",
        )


def _followers(facts: Facts, server: Server) -> Iterator[Finding]:
    known, needed = server.followers(), server.amount("min-replicas-to-write")
    if known is None:
        return
    well = [row for row in known if row.get("state") == "online" and _lag(row) <= BEHIND]
    strict = facts.durability == "replicated"
    if not known:
        worse: Severity = "fault" if strict else "warning" if facts.shape != "single" else "note"
        yield ALONE.found(
            server.address,
            f"no replica follows{', and durability is replicated' if strict else ''}",
            "add a replica (REPLICAOF on another server), or let durability be fast" if strict else "add a replica",
            worse,
        )
    for row in known:
        if row not in well:
            yield REPLICA_AWAY.found(
                server.address,
                f"its replica {row.get('ip', '?')}:{row.get('port', '?')} is "
                + (
                    f"{_lag(row)} s behind" if row.get("state") == "online" else row.get("state", "in no known state")
                ),
                "look into the replica's log; INFO replication says more",
                "fault" if strict and not well else "warning",
            )
    if known and needed == 0:
        yield SPLIT.found(
            server.address,
            "min-replicas-to-write is 0",
            f"CONFIG SET min-replicas-to-write 1, and min-replicas-max-lag {BEHIND}"
            + (" (then the loss of the one replica stops the counting)" if len(known) == 1 else ""),
            "warning" if strict else "note",
        )
    good = server.number("min_slaves_good_slaves")
    if needed and len(well) < needed and (good is None or good < needed):
        yield REFUSES.found(
            server.address,
            f"min-replicas-to-write is {needed}, and {len(well) if good is None else good} "
            f"{'is' if (len(well) if good is None else good) == 1 else 'are'} there",
            "bring the replicas back, or CONFIG SET min-replicas-to-write to fewer",
        )


def _lag(row: dict[str, str]) -> int:
    lag = row.get("lag", "0")
    return int(lag) if lag.isdigit() else 0


def snapshots(save: str) -> str:
    """When snapshots are taken, in words.

    >>> snapshots("3600 1 300 100")
    'after 3600 s with 1 change, or 300 s with 100 changes'
    """
    numbers = save.split()
    pairs = zip(numbers[::2], numbers[1::2], strict=False)
    return "after " + ", or ".join(f"{time} s with {n} change{'' if n == '1' else 's'}" for time, n in pairs)
