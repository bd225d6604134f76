"""Whether what is counted stays: eviction, room, keys without end, whoever else uses the database.

Law: a counter that the server drops is a quota given anew. So a server that may drop keys is at fault before it has
dropped any.
"""

from __future__ import annotations

from collections.abc import Iterator

from headgate.stores.finding import Finding, Kind
from headgate.stores.redis.doctor.facts import PATTERN, Facts, Server

FULL = 0.98
"""Share of `maxmemory` from which on the server may refuse at any moment."""

FILLING = 0.8
"""Share from which on somebody should make room."""

UNBOUND = 0.5
"""Share of the machine's memory that a server without bound may use before it is a worry."""

EVICTION = Kind(
    "eviction",
    ("fault", "warning"),
    "When the server is full it throws counters away, and whose counter is gone has a fresh quota.",
)
EVICTED = Kind(
    "evicted", ("fault", "warning"), "Counters, or another program's keys, were lost: some quotas began anew."
)
NO_BOUND = Kind(
    "no-bound",
    ("note", "warning"),
    "The server grows until the system ends it, and then all wait for its restart. With a bound it says that it is "
    "full: who is counted stays counted, and newcomers share one counter.",
)
FILLING_UP = Kind(
    "filling",
    ("warning", "fault"),
    "A full server takes no new subject: all newcomers share one counter, and may be refused for each other.",
)
LASTING = Kind(
    "lasting",
    ("fault",),
    "Every key of headgate is written with an end. One without is never freed: the server fills up.",
)
SHARED = Kind(
    "shared",
    ("note",),
    "Another program's keys fill the memory that counters need, and its FLUSHALL empties the counters too.",
)
FLUSHED = Kind("flushed", ("warning",), "FLUSHALL and FLUSHDB empty the counters: everybody has a fresh quota.")
KINDS = (EVICTION, EVICTED, NO_BOUND, FILLING_UP, LASTING, SHARED, FLUSHED)


def eviction(server: Server) -> Iterator[Finding]:
    """What the server does when it is full. Needs INFO alone."""
    policy, bound = server.info.get("maxmemory_policy"), server.number("maxmemory")
    keeps = policy in {None, "noeviction"}
    if not keeps:
        without = "" if bound else ", though maxmemory is 0" if bound == 0 else "; maxmemory is not known"
        yield EVICTION.found(
            server.address,
            f"maxmemory-policy is {policy}{without}",
            "CONFIG SET maxmemory-policy noeviction, and in the server's configuration",
            "fault" if bound else "warning",
        )
    lost = server.number("evicted_keys")
    if lost:
        yield EVICTED.found(
            server.address,
            f"{lost:,} keys were evicted since the start of the server or of its statistics",
            "CONFIG SET maxmemory-policy noeviction; then CONFIG RESETSTAT, so that only new losses are told"
            if not keeps
            else "CONFIG RESETSTAT, so that only new losses are told: the policy is noeviction now",
            "fault" if policy != "noeviction" else "warning",
        )


def rules(facts: Facts, server: Server) -> Iterator[Finding]:
    """All of this module for one server."""
    yield from eviction(server)
    yield from _bound(server)
    yield from _others(server)


def _bound(server: Server) -> Iterator[Finding]:
    used, bound, machine = (server.number(n) for n in ("used_memory", "maxmemory", "total_system_memory"))
    if used is None or bound is None:
        return
    if bound == 0:
        crowded = machine is not None and used >= UNBOUND * machine
        yield NO_BOUND.found(
            server.address,
            f"maxmemory is 0, {size(used)} of the machine's {size(machine or 0)} are in use"
            if crowded
            else "maxmemory is 0",
            "CONFIG SET maxmemory to what the server may have, such as 1gb",
            "warning" if crowded else "note",
        )
    elif used / bound >= FILLING:
        full = used / bound >= FULL
        yield FILLING_UP.found(
            server.address,
            f"{size(used)} of {size(bound)} are in use, {used / bound:.0%}",
            "CONFIG SET maxmemory to more, or move other programs' keys to a server of their own",
            "fault" if full else "warning",
        )


def _others(server: Server) -> Iterator[Finding]:
    seen = server.sample
    if seen is not None and seen.lasting:
        yield LASTING.found(
            server.address,
            f"of {seen.looked_at:,} keys looked at, {seen.lasting:,} of headgate's have no end",
            "find who removed it (PERSIST, a restored dump); redis-cli --scan --pattern '"
            + PATTERN
            + "' lists the keys, TTL "
            "says which have none, EXPIRE KEY 86400 gives them one",
        )
    foreign = seen.foreign if seen is not None else 0
    elsewhere = [name for name in server.info if name.startswith("db") and name[2:].isdigit()]
    if foreign and seen is not None:
        yield SHARED.found(
            server.address,
            f"{foreign:,} of {seen.looked_at:,} keys looked at are not headgate's",
            "give headgate a server of its own",
        )
    elif len(elsewhere) > 1:
        yield SHARED.found(
            server.address,
            f"{len(elsewhere)} databases of the server hold keys",
            "give headgate a server of its own",
        )
    flushed = sum(_calls(server, name) for name in ("flushall", "flushdb"))
    if flushed:
        yield FLUSHED.found(
            server.address,
            f"FLUSHALL or FLUSHDB was called since the start of the server (calls: {flushed})",
            "take the right from who does it (ACL SETUSER NAME -flushall -flushdb); then CONFIG RESETSTAT",
        )


def _calls(server: Server, command: str) -> int:
    said = server.info.get(f"cmdstat_{command}", "")
    calls = next((part[6:] for part in said.split(",") if part.startswith("calls=")), "0")
    return int(calls) if calls.isdigit() else 0


def size(count: float) -> str:
    """Bytes as people read them.

    >>> size(512), size(1_500_000), size(3 * 1024**3)
    ('512 B', '1.4 MB', '3.0 GB')
    """
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TB"
