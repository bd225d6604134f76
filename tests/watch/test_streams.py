"""Every stream keeps the same promises: in memory, in a file, at a server, in a cluster."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from headgate.errors import StoreError
from headgate.testing.servers import Server
from headgate.watch import redis as fleet
from headgate.watch.memory import MemoryStream
from headgate.watch.redis import LEASE, RedisStream
from headgate.watch.sqlite import SqliteStream
from headgate.watch.stream import Found, Marks, Stream
from headgate.watch.streams import open_stream
from servers.sentinels import Sentinels
from watch.stand_in import run

KINDS = ["memory", "sqlite", "valkey", "cluster"]
SHARED = KINDS[1:]

Opened = Callable[..., Stream]


@pytest.fixture(params=KINDS)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """Opens a stream; each time another process's, as it were."""
    kind = request.param
    if kind == "memory":
        return lambda keep=16_384: MemoryStream(keep)
    if kind == "sqlite":
        return lambda keep=16_384: SqliteStream(str(tmp_path / "watch"), keep)
    url = request.getfixturevalue(kind).url
    return lambda keep=16_384: RedisStream(url, keep)


async def told(*streams: Stream, story: Callable[..., Awaitable[Any]]) -> Any:
    try:
        return await story(*streams)
    finally:
        for stream in streams:
            await stream.close()


async def begun(stream: Stream) -> None:
    """Somebody watches: then parcels are kept."""
    assert await stream.leads()


def data(found: list[Found]) -> list[bytes]:
    return [one.data for one in found]


def marks(found: list[Found]) -> Marks:
    return {one.shard: one.mark for one in found}


def test_what_was_put_is_read_in_order_and_from_a_mark_on(opened: Opened) -> None:
    async def story(stream: Stream) -> None:
        await begun(stream)
        assert await stream.put("0", [b"a", b"b", b"\x00\xff"])
        first = await stream.read({}, 40)
        assert data(first) == [b"a", b"b", b"\x00\xff"]
        assert await stream.read(marks(first), 40) == []
        await stream.put("0", [b"d"])
        assert data(await stream.read(marks(first), 40)) == [b"d"]

    run(told(opened(), story=story))


def test_a_stream_is_bounded_and_the_oldest_goes_first(opened: Opened) -> None:
    async def story(stream: Stream) -> None:
        await begun(stream)
        for at in range(40):
            await stream.put("0", [b"%d.%d" % (at, n) + bytes(1_000) for n in range(50)])
        found: list[bytes] = []
        reached: dict[str, str] = {}
        while some := await stream.read(reached, 200):
            found += data(some)
            reached.update(marks(some))
        assert len(found) <= 450, "a server drops whole nodes of a list, of a hundred entries at most"
        assert found[-1].startswith(b"39.49")

    run(told(opened(1_200) if "Redis" in type(opened()).__name__ else opened(300), story=story))


@pytest.mark.parametrize("opened", SHARED, indirect=True)
def test_one_leads_and_another_does_when_it_resigns(opened: Opened) -> None:
    async def story(one: Stream, other: Stream) -> None:
        assert [await one.leads(), await other.leads(), await one.leads()] == [True, False, True]
        await other.resign()
        assert not await other.leads(), "who does not lead takes nothing from who does"
        await one.resign()
        assert [await other.leads(), await one.leads()] == [True, False]

    run(told(opened(), opened(), story=story))


@pytest.mark.parametrize("opened", SHARED, indirect=True)
def test_what_a_leader_keeps_is_there_for_the_next_one(opened: Opened) -> None:
    async def story(one: Stream, other: Stream) -> None:
        await begun(one)
        assert await one.kept("a") is None
        large = os.urandom(2 * fleet.PIECE + 17)
        await one.keep("a", large, {})
        await one.keep("b", b"second", {})
        assert (await other.kept("a"), await other.kept("b")) == (large, b"second")
        await one.keep("a", b"shorter", {})
        assert await other.kept("a") == b"shorter"

    run(told(opened(), opened(), story=story))


@pytest.mark.parametrize("opened", SHARED, indirect=True)
def test_who_leads_no_more_keeps_nothing(opened: Opened) -> None:
    async def story(one: Stream, other: Stream) -> None:
        await begun(one)
        await one.resign()
        await begun(other)
        await other.keep("a", b"the next one's", {})
        with pytest.raises(StoreError, match="another process leads"):
            await one.keep("a", b"late", {})
        assert await other.kept("a") == b"the next one's"

    run(told(opened(), opened(), story=story))


@pytest.mark.parametrize("opened", SHARED, indirect=True)
def test_what_is_kept_makes_room_for_new_parcels(opened: Opened) -> None:
    async def story(stream: Stream) -> None:
        await begun(stream)
        for at in range(8):
            await stream.put("0", [b"%d.%d" % (at, n) + bytes(1_000) for n in range(50)])
        found = await stream.read({}, 4_000)
        await stream.keep("a", b"learnt", marks(found))
        left = await stream.read({}, 4_000)
        assert len(left) <= 100
        await stream.put("0", [b"new"])
        assert data(await stream.read(marks(found), 1_000)) == [b"new"], "and nothing new goes"

    run(told(opened(), story=story))


def test_workers_in_several_shards_are_all_read(valkey: Server) -> None:
    async def story(stream: Stream) -> None:
        await begun(stream)
        for shard in fleet.NAMES:
            await stream.put(shard, [b"1 of " + shard.encode(), b"2 of " + shard.encode()])
        found = await stream.read({}, 100)
        assert len(found) == 8
        assert await stream.read(marks(found), 100) == []

    run(told(RedisStream(valkey.url), story=story))


def test_a_fleet_where_nobody_watches_keeps_nothing(valkey: Server) -> None:
    async def story(worker: RedisStream, watcher: RedisStream) -> None:
        assert not await worker.put("0", [b"a"])
        await begun(watcher)
        worker._look_at = 0.0  # five seconds later
        assert await worker.put("0", [b"b"])
        assert data(await watcher.read({}, 10)) == [b"b"]

    run(told(RedisStream(valkey.url), RedisStream(valkey.url), story=story))


def test_a_leader_of_a_fleet_that_dies_is_followed_within_its_lease(
    valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "LEASE", 40)
    assert LEASE <= 5_000, "seconds"

    async def story(one: Stream, other: Stream) -> None:
        await begun(one)
        assert not await other.leads()
        while not await other.leads():  # the server's own time runs
            await asyncio.sleep(0.01)
        assert not await one.leads()

    run(told(RedisStream(valkey.url), RedisStream(valkey.url), story=story))


def test_a_server_that_comes_back_is_talked_to_again(make_server: Callable[..., Server]) -> None:
    server = make_server()

    async def story(stream: RedisStream) -> None:
        await begun(stream)
        await stream.put("0", [b"a"])
        clients = await stream._talk.ask(b"", ("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no"))
        assert clients
        with pytest.raises(StoreError):
            await stream.put("0", [b"b"])
        await stream.put("0", [b"c"])
        assert data(await stream.read({}, 10))[-1] == b"c"

    run(told(RedisStream(server.url), story=story))


def test_after_a_failover_the_new_master_is_talked_to(sentinels: Sentinels) -> None:
    async def again(call: Callable[[], Awaitable[Any]]) -> Any:
        """As whoever flushes or watches does: until it is done."""
        async with asyncio.timeout(60):
            while True:
                try:
                    return await call()
                except StoreError:
                    await asyncio.sleep(0.02)

    async def story(stream: RedisStream) -> None:
        await begun(stream)
        await stream.put("0", [b"a"])
        found = await stream.read({}, 10)
        await asyncio.to_thread(sentinels.promote)
        await again(lambda: stream.put("0", [b"b"]))
        assert await again(stream.leads)
        assert b"b" in data(await again(lambda: stream.read(marks(found), 10)))

    run(told(RedisStream(sentinels.url), story=story))


def test_a_server_that_is_not_there_is_a_store_error_in_time() -> None:
    async def story(stream: Stream) -> None:
        for call in (stream.leads(), stream.read({}, 1), stream.put("0", [b"a"]), stream.kept("a")):
            with pytest.raises(StoreError):
                await call

    run(told(RedisStream("redis://127.0.0.1:1"), story=story))


def test_the_file_is_the_services_alone_and_a_damaged_one_says_what_to_do(tmp_path: Path) -> None:
    async def story(stream: Stream) -> None:
        await stream.put("0", [b"a"])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await stream.close()
        for left in tmp_path.glob("watch*"):
            left.unlink()
        path.write_bytes(b"no database" * 1_000)
        with pytest.raises(StoreError, match="delete it"):
            await stream.put("0", [b"b"])
        path.unlink()
        assert await stream.put("0", [b"c"])

    path = tmp_path / "watch"
    run(told(SqliteStream(str(path)), story=story))


def test_a_file_of_another_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "watch"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=9")
    connection.commit()
    connection.close()

    async def story(stream: Stream) -> None:
        with pytest.raises(StoreError, match="another version"):
            await stream.put("0", [b"a"])

    run(told(SqliteStream(str(path)), story=story))


def test_every_store_of_headgates_own_has_a_stream_and_a_foreign_one_says_why_not() -> None:
    assert [type(open_stream(uri)).__name__ for uri in ("memory://", "sqlite:///a.db", "redis://h", "unix:///s")] == [
        "MemoryStream", "SqliteStream", "RedisStream", "RedisStream",
    ]  # fmt: skip
    with pytest.raises(StoreError, match="for linking keep usage in SQLite or Redis"):
        open_stream("memcached://h:11211")
