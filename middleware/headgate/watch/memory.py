"""The stream of one process that forgets when it ends: beside `memory://`.

Law: as every stream's. Its process leads always, for there is no other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from headgate.watch.stream import KEEP, Found, Marks


class MemoryStream:
    """A bounded list of parcels.

    >>> import asyncio
    >>> async def story():
    ...     stream = MemoryStream(keep=2)
    ...     await stream.put("0", [b"a", b"b", b"c"])
    ...     return [one.data for one in await stream.read({}, 10)], await stream.read({"0": "3"}, 10)
    >>> asyncio.run(story())
    ([b'b', b'c'], [])
    """

    shared = False

    def __init__(self, keep: int = KEEP) -> None:
        self._parcels: deque[Found] = deque(maxlen=keep)
        self._put = 0
        self._kept: dict[str, bytes] = {}

    async def put(self, shard: str, parcels: Sequence[bytes]) -> bool:
        """Append them."""
        for data in parcels:
            self._put += 1
            self._parcels.append(Found("0", str(self._put), data))
        return True

    async def read(self, marks: Marks, most: int) -> list[Found]:
        """Those after the mark; what was read is let go of."""
        read = int(marks.get("0", "") or 0)
        while self._parcels and int(self._parcels[0].mark) <= read:
            self._parcels.popleft()
        return [self._parcels[at] for at in range(min(most, len(self._parcels)))]

    async def leads(self) -> bool:
        """Always."""
        return True

    async def resign(self) -> None:
        """There is nobody else."""

    async def keep(self, name: str, data: bytes, read: Marks) -> None:
        """Nothing outlives the process, and nothing needs to be written."""

    async def kept(self, name: str) -> bytes | None:
        """Nothing was."""
        return None

    async def close(self) -> None:
        """There is nothing to let go of."""
