"""Whether the server is one that headgate can count on, and answers in time.

Law: only what was measured from this machine is said of time. The same pure rules are read when a store connects: see
`at_connect`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from headgate.stores.finding import Finding, Kind
from headgate.stores.redis.doctor.facts import Facts, Server
from headgate.stores.redis.faults import OLDEST

CLOCK, CLOCK_WRONG = 1.0, 3600.0
"""Seconds between the server's clock and this machine's: from which on it is worth mending, and is a fault."""

CROWDED = 0.8
"""Share of `maxclients` in use from which on a restart of all workers may not find room."""

LATELY = 86_400
"""Seconds for which a slow command is told."""

VERSION = Kind(
    "version", ("fault",), "Scripts with flags came with Redis 7.0: an older server cannot count, or not when full."
)
IMITATION = Kind("not-tested", ("note",), "Promises are tested with Redis and Valkey; another server may differ.")
SHAPE = Kind("address", ("fault",), "The store will not find its counters there: the address is of another kind.")
TIME = Kind(
    "clock",
    ("warning", "fault"),
    "Windows begin and end by the server's clock: days and months at another moment than people expect.",
)
CLIENTS = Kind(
    "connections",
    ("warning", "fault"),
    "A worker that finds no connection has no store. Each worker needs one to every server, two while it reconnects.",
)
TRIP = Kind(
    "round-trip",
    ("warning", "fault"),
    "A request that waits longer than the deadline goes the way of on_store_error, though the store is well.",
)
SLOW = Kind("slow-commands", ("warning",), "While one command runs, all others wait, also past the deadline.")
IDLE = Kind("idle-cut", ("note",), "The server cuts connections that are quiet; the next request pays for a new one.")
KEEPALIVE = Kind(
    "keepalive", ("note",), "Without it a connection that a firewall dropped is not noticed until a request waits."
)
OPEN = Kind("no-password", ("warning",), "Whoever reaches the port can empty the counters, or write others.")
PLAIN = Kind("no-tls", ("note",), "The password and the digests cross the network readable.")

KINDS = (VERSION, IMITATION, SHAPE, TIME, CLIENTS, TRIP, SLOW, IDLE, KEEPALIVE, OPEN, PLAIN)


def version(server: Server) -> Iterator[Finding]:
    """Whether the server is new enough. Needs INFO alone."""
    if server.version is not None and server.version < OLDEST:
        yield VERSION.found(
            server.address, f"it is {server.product}", "use Redis 7.0 or newer, or Valkey 7.2 or newer"
        )


def rules(facts: Facts, server: Server) -> Iterator[Finding]:
    """All of this module for one server."""
    yield from version(server)
    yield from _kind(facts, server)
    yield from _clock(server)
    yield from _clients(facts, server)
    yield from _trips(facts, server)
    yield from _slow(facts, server)
    yield from _cut(server)


def address(facts: Facts) -> Iterator[Finding]:
    """What the address itself leaves open."""
    where = facts.servers[0].address if facts.servers else ""
    if not facts.local and not facts.password:
        yield OPEN.found(
            where,
            "the server lets in who has no password",
            "make a user (see `rights`), name it in HEADGATE_STORE, and switch the default user off",
        )
    if not facts.local and not facts.encrypted:
        yield PLAIN.found(where, "the address begins with no rediss://", "use rediss:// (or rediss+cluster://)")


def _kind(facts: Facts, server: Server) -> Iterator[Finding]:
    named = {"single": "redis://", "sentinel": "redis+sentinel://", "cluster": "redis+cluster://"}[facts.shape]
    if server.mode == "cluster" and facts.shape != "cluster":
        yield SHAPE.found(
            server.address,
            f"the server belongs to a cluster, and HEADGATE_STORE begins with {named}",
            "write redis+cluster:// (or rediss+cluster://) in HEADGATE_STORE",
        )
    elif server.mode == "sentinel":
        yield SHAPE.found(
            server.address,
            f"a Sentinel answers there, and HEADGATE_STORE begins with {named}",
            "write redis+sentinel://HOST:PORT,HOST:PORT/NAME in HEADGATE_STORE",
        )
    elif facts.shape == "cluster" and server.mode == "standalone":
        yield SHAPE.found(
            server.address,
            "the server belongs to no cluster",
            "write redis:// (or rediss://) in HEADGATE_STORE, or set cluster-enabled yes",
        )
    if server.product.startswith("Dragonfly"):
        yield IMITATION.found(server.address, f"it is {server.product}", "use Redis or Valkey")


def _clock(server: Server) -> Iterator[Finding]:
    if server.ahead is not None and abs(server.ahead) > CLOCK:
        yield TIME.found(
            server.address,
            f"the server's clock is {abs(server.ahead):,.1f} s {'ahead of' if server.ahead > 0 else 'behind'} "
            "this machine's",
            "let both follow the same time server (chronyc tracking, timedatectl)",
            "fault" if abs(server.ahead) > CLOCK_WRONG else "warning",
        )


def _clients(facts: Facts, server: Server) -> Iterator[Finding]:
    used, most = server.number("connected_clients"), server.number("maxclients")
    if most is None:
        most = server.amount("maxclients")
    if used is not None and most:
        needed = used + facts.workers
        share = needed / most
        if share > CROWDED:
            yield CLIENTS.found(
                server.address,
                f"{used:,} connections of {most:,} are in use; {facts.workers} "
                f"worker{'' if facts.workers == 1 else 's'} may need {2 * facts.workers:,} more",
                "CONFIG SET maxclients to more (and the limit of open files with it)",
                "fault" if needed > most else "warning",
            )
    turned = server.number("rejected_connections")
    if turned:
        yield CLIENTS.found(
            server.address,
            f"{turned:,} connections were turned away since the start of the server",
            "CONFIG SET maxclients to more; then CONFIG RESETSTAT",
        )


def _trips(facts: Facts, server: Server) -> Iterator[Finding]:
    if not server.trips:
        return
    middle, late = middle_and_late(server.trips)
    if late > facts.deadline / 2:
        yield TRIP.found(
            server.address,
            f"a round trip from here takes {1000 * middle:.1f} ms, one in a hundred {1000 * late:.1f} ms; the "
            f"deadline is {1000 * facts.deadline:.0f} ms",
            "bring the workers nearer to the server, or set HEADGATE_DEADLINE_MS to more",
            "fault" if middle > facts.deadline else "warning",
        )


def _slow(facts: Facts, server: Server) -> Iterator[Finding]:
    lately = [entry for entry in server.slow or () if entry[2] <= LATELY and entry[1] >= facts.deadline / 2]
    if lately:
        name, seconds, _ = max(lately, key=lambda entry: entry[1])
        yield SLOW.found(
            server.address,
            f"{len(lately)} command{' has' if len(lately) == 1 else 's have'} held the server up in the last day, "
            f"{name} for {1000 * seconds:,.0f} ms",
            "SLOWLOG GET shows who; KEYS, SMEMBERS and long scripts belong on another server",
        )


def _cut(server: Server) -> Iterator[Finding]:
    idle = server.amount("timeout")
    if idle:
        yield IDLE.found(server.address, f"timeout is {idle} s", "CONFIG SET timeout 0")
    if server.amount("tcp-keepalive") == 0:
        yield KEEPALIVE.found(server.address, "tcp-keepalive is 0", "CONFIG SET tcp-keepalive 60")


def middle_and_late(trips: tuple[float, ...]) -> tuple[float, float]:
    """The median, and the time that one in a hundred exceeds.

    >>> middle_and_late((3.0, 1.0, 2.0))
    (2.0, 3.0)
    """
    ranked = sorted(trips)
    return ranked[len(ranked) // 2], ranked[math.ceil(len(ranked) * 0.99) - 1]
