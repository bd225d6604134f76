"""Where observations wait for who watches, whatever keeps them: a process, a file, a server.

Law: what is in a stream has an order and a mark each; who has read up to a mark reads on from there, also after a
restart, and nothing that a stream still has is read twice or left out. A stream is bounded: the oldest goes first,
and a reader that comes too late is told so by the first mark that is there. One process leads at a time; what a
leader keeps beside the stream (`kept`) is written whole or not at all, and by nobody who leads no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

KEEP = 16_384
"""Parcels that a stream keeps at most: some 100 MB where every one is full."""

SHARDS = 4
"""Shards of a fleet's stream; other streams have one."""

Marks = Mapping[str, str]
"""How far was read, by shard; "" or no entry for the beginning."""


class Found(NamedTuple):
    """Parcels from a stream: the shard of each, its mark, and its bytes."""

    shard: str
    mark: str
    data: bytes


class Stream(Protocol):
    """A stream of parcels, and the place where its one leader keeps its state.

    `shared`: whether other processes put into it, too. Every call may raise StoreError; then it may be said again.
    All calls of one stream come from one event loop.
    """

    shared: bool

    async def put(self, shard: str, parcels: Sequence[bytes]) -> bool:
        """Append parcels in order, bounded; False if nobody has watched for long, and nothing was kept."""
        ...

    async def read(self, marks: Marks, most: int) -> list[Found]:
        """The next parcels after these marks, oldest first, about so many at most; none where there are none yet."""
        ...

    async def leads(self) -> bool:
        """Whether this one leads: it becomes the leader where there is none, and stays it by asking again."""
        ...

    async def resign(self) -> None:
        """Lead no more, so that another may at once."""
        ...

    async def keep(self, name: str, data: bytes, read: Marks) -> None:
        """Keep bytes under a name. What lies before `read` need not be kept any more. Raises StoreError where
        another leads by now: then nothing was kept."""
        ...

    async def kept(self, name: str) -> bytes | None:
        """What was kept under a name; None if nothing was, or if it is not whole."""
        ...

    async def close(self) -> None:
        """Let go of it. A call after that opens it again."""
        ...


def fewest(one: Marks, other: Marks) -> dict[str, str]:
    """The earlier of two marks, shard by shard.

    >>> fewest({"0": "5-0", "1": "7-1"}, {"0": "12-0"})
    {'0': '5-0', '1': ''}
    """
    return {shard: min(one.get(shard, ""), other.get(shard, ""), key=order) for shard in sorted({**one, **other})}


def order(mark: str) -> tuple[int, ...]:
    """What marks are compared by: `5-0` comes before `12-0`, and "" before all."""
    return tuple([int(part) for part in mark.split("-")]) if mark else ()
