"""Which servers a store has: those that a cluster names, or its Sentinels.

Law: the first that answers is believed for who belongs to the store; what each of them is, it says itself.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, Protocol

from redis.exceptions import ResponseError

from headgate.errors import StoreError
from headgate.stores.redis import faults
from headgate.stores.redis.address import Address, Where, named
from headgate.stores.redis.doctor.facts import Watch

Away = tuple[tuple[str, str, str], ...]
"""Who does not answer: address, what it is, why."""


class Member(NamedTuple):
    """A server of the store, and what it is: `a primary`, `a replica`, `a server`."""

    where: Where
    role: str = "a server"


class Asking(Protocol):
    """A connection that can be asked."""

    async def ask(self, *commands: Sequence[str | bytes | int]) -> list[Any]:
        """The answers, errors among them."""

    def close(self) -> None:
        """Let go."""


Opened = Callable[..., Coroutine[Any, Any, Asking]]


async def members(address: Address, opened: Opened) -> tuple[list[Member], tuple[Watch, ...], Away]:
    """The servers, what Sentinels say of them, and which of those that the address names do not answer.

    Raises StoreError where none of those that the address names can be asked.
    """
    found: list[Member] = []
    watches: list[Watch] = []
    away: list[tuple[str, str, str]] = []
    failed: StoreError | None = None
    sentinel = address.shape == "sentinel"
    for where in address.servers:
        try:
            line = await opened(address, where, sentinel=sentinel)
        except StoreError as fault:
            failed = failed or fault
            if sentinel:
                away.append((named(where), "a Sentinel", str(fault).removeprefix(f"{named(where)}: ")))
            continue
        try:
            if not sentinel:
                return await _of_cluster(line, where, encrypted=address.tls is not None), (), ()
            watch, told = await _of_sentinel(line, where, address.service)
            watches.append(watch)
            found = found or told
        except StoreError as fault:
            failed = fault  # who answers knows better than who does not
        finally:
            line.close()
    if not found:
        raise failed if failed is not None else faults.closed()
    return found, tuple(watches), tuple(away)


async def _of_cluster(line: Asking, where: Where, *, encrypted: bool) -> list[Member]:
    nodes, slots = await line.ask(("CLUSTER", "NODES"), ("CLUSTER", "SLOTS"))
    if not isinstance(nodes, ResponseError):
        return nodes_of(nodes.decode("utf-8", "replace"), where, encrypted=encrypted)
    if not isinstance(slots, ResponseError):
        told: dict[Where, str] = {}
        for row in slots:
            for at, node in enumerate(row[2:]):
                place = ((node[0] or b"").decode() or where[0], int(node[1]))
                told[place] = "a replica" if at else "a primary"
        return [Member(*pair) for pair in told.items()] or [Member(where)]
    if "unknown command" in str(nodes).lower() or "cluster support disabled" in str(nodes).lower():
        return [Member(where)]  # no cluster: the server says so itself
    raise faults.replied(named(where), faults.reply_of(nodes))


def nodes_of(text: str, asked: Where, *, encrypted: bool = False) -> list[Member]:
    """The members that CLUSTER NODES names; a node without address is told as the one that was asked.

    >>> nodes_of("f0 10.0.0.1:1@2,a myself,master - 0 0 1 connected 0-5\\n", ("h", 9))
    [Member(where=('10.0.0.1', 1), role='a primary')]
    """
    found: list[Member] = []
    for row in text.splitlines():
        parts = row.split(" ")
        if len(parts) < 3:
            continue
        flags = set(parts[2].split(","))
        if flags & {"noaddr", "handshake"}:
            continue
        address, _, names = parts[1].partition("@")
        host, _, port = address.rpartition(":")
        name = names.split(",")[1] if "," in names else ""
        if encrypted and name:  # a certificate is made out to a name
            host = name
        empty = "master" in flags and not parts[8:]
        role = "a replica" if "slave" in flags else "a primary without slots" if empty else "a primary"
        found.append(Member((host.strip("[]") or asked[0], int(port)), role))
    return found


async def _of_sentinel(line: Asking, where: Where, service: str) -> tuple[Watch, list[Member]]:
    master, replicas, quorum = await line.ask(
        ("SENTINEL", "MASTER", service), ("SENTINEL", "REPLICAS", service), ("SENTINEL", "CKQUORUM", service)
    )
    for answer in (master, replicas):
        if isinstance(answer, ResponseError):
            raise StoreError(f"{named(where)}: {_refused(answer, where, service)}", transient=False)
    said = _pairs(master)
    watch = Watch(
        named(where), int(said["num-other-sentinels"]), int(said["quorum"]), not isinstance(quorum, ResponseError),
        int(said.get("down-after-milliseconds", 0)) / 1_000,
    )  # fmt: skip
    rows = [_pairs(row) for row in replicas]
    return watch, [
        Member((said["ip"], int(said["port"])), "a primary"),
        *[Member((row["ip"], int(row["port"])), "a replica") for row in rows],
    ]


def _refused(answer: ResponseError, where: Where, service: str) -> str:
    if "no such master" in str(answer).lower():
        return f"the Sentinel knows no `{service}`; SENTINEL MASTERS lists what it knows"
    return str(faults.replied(named(where), faults.reply_of(answer))).removeprefix(f"{named(where)}: ")


def _pairs(row: Sequence[bytes]) -> dict[str, str]:
    texts = [part.decode("utf-8", "replace") for part in row]
    return dict(zip(texts[::2], texts[1::2], strict=True))
