"""The stream of a fleet: streams of Redis or Valkey, a few of them so that a cluster may share their load.

Law: as every stream's. Nothing here delays a decision: see `talk`. A worker's parcels are all in one shard, so that
their order is kept. Who leads is said by a key that runs out; a script looks at it in the same step in which anything
is kept, so that a leader who was away too long (a pause, a partition) can overwrite nothing of the next one's.

| key | holds |
| --- | --- |
| `he{0}` … | parcels |
| `hw{watch}lead` | who leads, for `LEASE` |
| `hw{watch}seen` | that somebody has watched within `WATCHED`: without it nothing is put |
| `hw{watch}kept:NAME:0` … | what the leader keeps, in pieces |

As long as nobody has ever watched, or for an hour not, a fleet's memory is spent on nothing.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence

from headgate.errors import StoreError
from headgate.stores.redis import address
from headgate.stores.redis.script.keys import WATCH, stream_key, watch_key
from headgate.watch.stream import KEEP, SHARDS, Found, Marks, order
from headgate.watch.talk import Talk

NAMES = tuple(map(str, range(SHARDS)))

LEASE = 3_000
"""Milliseconds for which a leader leads without a word: so long after its death another takes over."""

WATCHED = 3_600
"""Seconds after the last leader's last word for which parcels are still put, so that it may come back to them."""

LOOKED = 5.0
"""Seconds from one look for whether anybody watches to the next."""

PIECE = 1024 * 1024
"""Bytes of a piece of what is kept: a server that takes one is busy for less than a millisecond."""

BETWEEN = 0.005
"""Seconds between two pieces: decisions have their turn."""

PIECES = 512
"""Pieces at most."""

LEADS = """\
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('SET', KEYS[2], '1', 'EX', ARGV[3])
return 1
"""

RESIGNS = """\
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""

KEEPS = """\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('SET', KEYS[2], ARGV[2])
return 1
"""


class RedisStream:
    """The stream at the servers of `uri`, for one event loop.

    >>> RedisStream("redis://localhost").shared
    True
    """

    shared = True

    def __init__(self, uri: str, keep: int = KEEP) -> None:
        self._talk = Talk(address.read(uri))
        self._keep = max(1, keep // SHARDS)
        self._me = secrets.token_hex(8)
        self._watched = False
        self._look_at = float("-inf")

    async def put(self, shard: str, parcels: Sequence[bytes]) -> bool:
        """Append them to a shard in one round trip."""
        if not await self._somebody_watches():
            return False
        key = stream_key(shard)
        words = [("XADD", key, "MAXLEN", "~", self._keep, "*", "p", data) for data in parcels]
        await self._talk.ask(shard.encode(), *words)
        return True

    async def _somebody_watches(self) -> bool:
        now = time.monotonic()
        if now >= self._look_at:
            [found] = await self._talk.ask(WATCH.encode(), ("EXISTS", watch_key("seen")))
            self._watched, self._look_at = bool(found), now + LOOKED
        return self._watched

    async def read(self, marks: Marks, most: int) -> list[Found]:
        """Those after the marks, a share from each shard."""
        found: list[Found] = []
        for shard in NAMES:
            words = ("XREAD", "COUNT", max(1, most // SHARDS), "STREAMS", stream_key(shard))
            [told] = await self._talk.ask(shard.encode(), (*words, marks.get(shard, "") or "0-0"))
            for _, entries in told or ():
                # An entry that is none of ours has no second field, and is a parcel that cannot be read.
                found += [Found(shard, mark.decode(), fields[1] if fields else b"") for mark, fields in entries]
        # By the instant at which the server took them.
        found.sort(key=lambda one: order(one.mark))
        return found

    async def leads(self) -> bool:
        """Whether this one leads, for `LEASE` from now."""
        return await self._scripted(LEADS, ("lead", "seen"), self._me, LEASE, WATCHED)

    async def resign(self) -> None:
        """Let another lead at once."""
        await self._scripted(RESIGNS, ("lead",), self._me)

    async def keep(self, name: str, data: bytes, read: Marks) -> None:
        """Keep them in pieces, then drop the parcels that they make needless."""
        pieces = [data[at : at + PIECE] for at in range(0, len(data), PIECE)]
        if len(pieces) > PIECES:
            raise StoreError(f"{len(data):,} bytes are more than can be kept", transient=False)
        # An empty one ends it: what an earlier and longer one left behind is not read.
        for at, piece in enumerate([*pieces, b""]):
            if not await self._scripted(KEEPS, ("lead", f"kept:{name}:{at}"), self._me, piece, LEASE):
                raise StoreError("another process leads by now", transient=True)
            await asyncio.sleep(BETWEEN)
        for shard in NAMES:
            if mark := read.get(shard, ""):
                await self._talk.ask(shard.encode(), ("XTRIM", stream_key(shard), "MINID", "~", mark))

    async def kept(self, name: str) -> bytes | None:
        """What was kept. It may be half of one and half of another: whoever keeps, puts a digest to it."""
        pieces: list[bytes] = []
        for at in range(PIECES + 1):
            [piece] = await self._talk.ask(WATCH.encode(), ("GET", watch_key(f"kept:{name}:{at}")))
            if not piece:
                break
            pieces.append(piece)
        return b"".join(pieces) if pieces else None

    async def _scripted(self, script: str, keys: tuple[str, ...], *words: str | bytes | int) -> bool:
        named = [watch_key(key) for key in keys]
        [answer] = await self._talk.ask(WATCH.encode(), ("EVAL", script, len(named), *named, *words))
        return bool(answer)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._talk.drop()
