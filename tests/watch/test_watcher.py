"""One process learns and publishes, whoever dies."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headgate.errors import StoreError
from headgate.testing import ManualClock
from headgate.testing.servers import Server
from headgate.watch import watcher as watcher_module
from headgate.watch.learning import AUTHORS, Learning
from headgate.watch.memory import MemoryStream
from headgate.watch.redis import RedisStream
from headgate.watch.snapshot import Snapshot, read, written
from headgate.watch.sqlite import SqliteStream
from headgate.watch.stream import Found, Stream
from headgate.watch.watcher import CONFIRM_EVERY, LEAD_EVERY, RELEARNT, SAVE_EVERY, TELL_EVERY, Watcher
from headgate.watch.watching import linker
from watch.stand_in import Alike, Forgetful, Register, parcel, run, seen

ME, YOU = b"worker 1", b"worker 2"


class House:
    """Streams on one file or server, a register, and watchers that come and die."""

    def __init__(self, opened: Callable[[], Stream]) -> None:
        self.opened = opened
        self.clock = ManualClock()
        self.register = Register()
        self.streams: list[Stream] = []

    def stream(self) -> Stream:
        self.streams.append(self.opened())
        return self.streams[-1]

    def watcher(self, kind: Any = Alike) -> Watcher:
        return Watcher(self.stream(), kind, self.register, clock=self.clock, pace=self.clock)

    async def died(self, watcher: Watcher) -> None:
        """Nothing is said; the lead falls, as a lock or a lease does."""
        await watcher._stream.resign()

    async def all_read(self, watcher: Watcher) -> None:
        self.clock.advance(microseconds=LEAD_EVERY)
        while await watcher.step():
            self.clock.advance(microseconds=LEAD_EVERY)

    def tell(self, story: Callable[[House], Any]) -> None:
        async def told() -> None:
            try:
                await story(self)
            finally:
                for stream in self.streams:
                    await stream.close()

        run(told())


@pytest.fixture(params=["sqlite", "valkey"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> House:
    if request.param == "sqlite":
        return House(lambda: SqliteStream(str(tmp_path / "watch")))
    url = request.getfixturevalue("valkey").url
    return House(lambda: RedisStream(url))


async def workers(house: House) -> Stream:
    """The workers' side of the stream; somebody has watched before."""
    stream = house.stream()
    assert await stream.leads()
    await stream.resign()
    return stream


def many(watcher: Watcher) -> int:
    assert watcher._learning is not None
    return int(watcher._learning.learner.many)  # type: ignore[attr-defined]


def test_keys_that_are_alike_are_published_as_one_group(house: House) -> None:
    async def story(house: House) -> None:
        stream, watcher = await workers(house), house.watcher()
        await house.all_read(watcher)
        assert not any(house.register.lists), "nothing seen, nothing found"
        await stream.put("0", [parcel(ME, n, seen(f"k{n}", 5), seen(f"other{n}", 100 + n)) for n in range(20)])
        await house.all_read(watcher)
        assert house.register.groups == [{f"k{n}" for n in range(20)}]
        said = len(house.register.lists)
        await stream.put("0", [parcel(ME, 20, seen("k_new", 999))])
        await house.all_read(watcher)
        assert len(house.register.lists) == said, "who belongs together is the same, and is not said again at once"
        house.clock.advance(microseconds=CONFIRM_EVERY)
        await stream.put("0", [parcel(ME, 21, seen("k_new", 999))])
        await house.all_read(watcher)
        assert len(house.register.lists) == said + 1, "but now and then, for its evidence has grown"

    house.tell(story)


def test_after_a_kill_the_next_one_knows_what_was_kept_and_reads_the_rest(house: House) -> None:
    async def story(house: House) -> None:
        stream, first = await workers(house), house.watcher()
        await stream.put("0", [parcel(ME, 0, seen("k0", 5))])
        await house.all_read(first)
        house.clock.advance(microseconds=SAVE_EVERY)
        await first.step()
        await stream.put("0", [parcel(ME, 1, seen("k1", 5))])
        await house.all_read(first)
        await house.died(first)

        second = house.watcher()
        await stream.put("0", [parcel(ME, 2, seen("k2", 5))])
        await house.all_read(second)
        assert house.register.groups == [{"k0", "k1", "k2"}]
        assert many(second) == 3, "k0 from the snapshot, k1 again from the stream, k2 for the first time"
        assert second.tally.missed == second.tally.twice == 0

    house.tell(story)


def test_of_two_watchers_one_leads_and_the_other_takes_over(house: House) -> None:
    async def story(house: House) -> None:
        stream, one, other = await workers(house), house.watcher(), house.watcher()
        await house.all_read(one)
        await stream.put("0", [parcel(ME, 0, seen("k0", 5), seen("k1", 5))])
        await house.all_read(other)
        assert (one.leading, other.leading, house.register.lists) == (True, False, [[]])
        await house.died(one)
        await house.all_read(other)
        assert (other.leading, house.register.groups) == (True, [{"k0", "k1"}])
        await house.all_read(one)
        assert not one.leading, "who was away finds another in its place"

    house.tell(story)


def test_who_was_away_too_long_keeps_nothing_and_leads_no_more(house: House) -> None:
    async def story(house: House) -> None:
        stream, one, other = await workers(house), house.watcher(), house.watcher()
        await stream.put("0", [parcel(ME, 0, seen("k0", 5))])
        await house.all_read(one)
        await house.died(one)
        await house.all_read(other)
        await other.save(house.clock())
        kept = await other._stream.kept("b")
        with pytest.raises(StoreError, match="another process leads"):
            await one.save(house.clock())
        await one.step()
        assert (one.leading, other.leading) == (False, True)
        assert await other._stream.kept("b") == kept

    house.tell(story)


def test_a_parcel_that_was_put_twice_counts_once_also_after_a_restart(house: House) -> None:
    async def story(house: House) -> None:
        stream, first = await workers(house), house.watcher()
        once = parcel(ME, 0, seen("k0", 5))
        await stream.put("0", [once])
        await stream.put("0", [once])
        await house.all_read(first)
        assert (many(first), first.tally.twice) == (1, 1)
        await first.end()
        await stream.put("0", [once, parcel(YOU, 0, seen("k0", 5)), parcel(ME, 1, seen("k0", 5))])
        second = house.watcher()
        await house.all_read(second)
        assert (many(second), second.tally.twice) == (3, 1)

    house.tell(story)


@pytest.mark.parametrize("broken", ["torn", "other version", "the learner's"])
def test_a_broken_snapshot_is_refused_and_the_one_before_and_the_stream_make_up_for_it(
    house: House, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(house: House) -> None:
        stream, first = await workers(house), house.watcher()
        for number in range(3):
            await stream.put("0", [parcel(ME, number, seen(f"k{number}", 5))])
            await house.all_read(first)
            await first.save(house.clock())
        newest = await first._stream.kept("b")
        assert newest is not None and read(newest).serial == 3
        spoilt = {
            "torn": newest[:-3],
            "other version": b"HGW9" + newest[4:],
            "the learner's": written(read(newest)._replace(learnt=b"\xc1")),
        }
        await first._stream.keep("b", spoilt[broken], {})
        await house.died(first)
        second = house.watcher()
        await house.all_read(second)
        assert (many(second), second.tally.missed) == (3, 0), "the snapshot of two, and the third from the stream"
        assert house.register.groups == [{"k0", "k1", "k2"}]
        await second.save(house.clock())
        assert read(await second._stream.kept("b") or b"").serial == 3, "the broken one is written over"

    with caplog.at_level("ERROR", "headgate"):
        house.tell(story)
    assert any("headgate.watch.refused" in record.getMessage() for record in caplog.records)


def test_what_is_found_no_more_is_taken_back_but_not_by_who_began_to_learn_anew(house: House) -> None:
    async def story(house: House) -> None:
        stream, first = await workers(house), house.watcher()
        await stream.put("0", [parcel(ME, 0, seen("k0", 5), seen("k1", 5))])
        await house.all_read(first)
        assert first._learning is not None
        first._learning.learner.holders.clear()  # type: ignore[attr-defined]
        await stream.put("0", [parcel(ME, 1, seen("k2", 9))])
        await house.all_read(first)
        assert (house.register.lists[-1], house.register.whole[-1]) == ([], True)

        await stream.put("0", [parcel(ME, 2, seen("k3", 7), seen("k4", 7))])
        await house.all_read(first)
        for place in "ab":
            await first._stream.keep(place, b"nonsense", {})
        await house.died(first)
        second = house.watcher()
        await house.all_read(second)
        assert not house.register.whole[-1]
        await second.end()
        third = house.watcher()
        await house.all_read(third)
        assert not house.register.whole[-1], "that is kept, too"
        house.clock.advance(microseconds=RELEARNT)
        await stream.put("0", [parcel(ME, 3, seen("k5", 7))])
        await house.all_read(third)
        assert house.register.whole[-1]

    house.tell(story)


def test_without_any_snapshot_that_can_be_read_it_is_learnt_anew_from_what_the_stream_has(house: House) -> None:
    async def story(house: House) -> None:
        stream, first = await workers(house), house.watcher()
        await stream.put("0", [parcel(ME, 0, seen("k0", 5)), parcel(ME, 1, seen("k1", 5))])
        await house.all_read(first)
        for place in "ab":
            await first._stream.keep(place, b"nonsense", {})
        await house.died(first)
        second = house.watcher()
        await house.all_read(second)
        assert (many(second), house.register.groups) == (2, [{"k0", "k1"}])

    house.tell(story)


def test_a_learner_that_cannot_be_kept_reads_the_stream_anew(house: House) -> None:
    async def story(house: House) -> None:
        stream, first = await workers(house), house.watcher(Forgetful)
        await stream.put("0", [parcel(ME, 0, seen("k0", 5)), parcel(ME, 1, seen("k1", 5))])
        await house.all_read(first)
        await first.end()
        second = house.watcher(Forgetful)
        await house.all_read(second)
        assert (many(second), house.register.groups) == (2, [{"k0", "k1"}])

    house.tell(story)


def test_what_is_no_parcel_costs_itself_alone(house: House, caplog: pytest.LogCaptureFixture) -> None:
    async def story(house: House) -> None:
        stream, watcher = await workers(house), house.watcher()
        bad = [b"nonsense", b"", parcel(ME, 1, seen("k_stumble", 5), seen("k1", 5))]
        await stream.put("0", [parcel(ME, 0, seen("k0", 5)), *bad])
        await house.all_read(watcher)
        assert (watcher.tally.broken, watcher.tally.stumbled) == (2, 1)
        assert house.register.groups == [{"k0", "k1"}]

    with caplog.at_level("WARNING", "headgate"):
        house.tell(story)
    assert "k_stumble" not in caplog.text, "what a fault says is not told"


class Slow(Alike):
    """Its findings take longer than a lead lasts unsaid."""

    def findings(self) -> Any:
        self.going.wait(30)
        return super().findings()

    going: Any = None


def test_while_findings_are_worked_out_the_lead_is_kept(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_module, "LEAD_EVERY", 10_000)
    monkeypatch.setattr(Slow, "going", threading.Event())

    async def story(house: House) -> None:
        stream, one, other = await workers(house), house.watcher(Slow), house.watcher()
        asked = 0
        leads = one._stream.leads

        async def counted() -> bool:
            nonlocal asked
            asked += 1
            if asked > 5:
                Slow.going.set()
            return await leads()

        monkeypatch.setattr(one._stream, "leads", counted)
        await stream.put("0", [parcel(ME, 0, seen("k0", 5), seen("k1", 5))])
        await house.all_read(one)
        assert (asked > 5, one.leading, house.register.groups) == (True, True, [{"k0", "k1"}])
        await house.all_read(other)
        assert not other.leading

    house.tell(story)


def test_who_loses_the_lead_meanwhile_publishes_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_module, "LEAD_EVERY", 10_000)
    monkeypatch.setattr(Slow, "going", threading.Event())

    async def story(house: House) -> None:
        stream, one, other = await workers(house), house.watcher(Slow), house.watcher()
        await stream.put("0", [parcel(ME, 0, seen("k0", 5), seen("k1", 5))])
        leads = one._stream.leads
        asked = 0

        async def lost() -> bool:
            nonlocal asked
            asked += 1
            if asked == 2:
                await house.died(one)
                assert await other._stream.leads()
                Slow.going.set()
            return await leads()

        monkeypatch.setattr(one._stream, "leads", lost)
        with pytest.raises(StoreError, match="another process leads"):
            await house.all_read(one)
        assert house.register.lists == []
        await house.all_read(one)
        assert not one.leading

    house.tell(story)


def test_what_never_came_is_counted(house: House) -> None:
    async def story(house: House) -> None:
        stream, watcher = await workers(house), house.watcher()
        await stream.put("0", [parcel(ME, 0, seen("k0", 5)), parcel(ME, 4, seen("k1", 5))])
        await house.all_read(watcher)
        assert watcher.tally.missed == 3

    house.tell(story)


def test_a_register_that_is_away_is_told_later_and_the_same_observations_are_not_learnt_twice(house: House) -> None:
    async def story(house: House) -> None:
        stream, watcher = await workers(house), house.watcher()
        house.register.down = True
        await stream.put("0", [parcel(ME, 0, seen("k0", 5), seen("k1", 5))])
        with pytest.raises(StoreError):
            await house.all_read(watcher)
        house.register.down = False
        await house.all_read(watcher)
        assert (house.register.groups, many(watcher)) == ([{"k0", "k1"}], 2)

    house.tell(story)


def test_once_reads_what_is_there_publishes_and_keeps(house: House) -> None:
    async def story(house: House) -> None:
        stream = await workers(house)
        await stream.put("0", [parcel(ME, n, seen(f"k{n}", 5)) for n in range(300)])
        await house.watcher().once()
        assert len(house.register.groups[0]) == 300
        assert read(await stream.kept("b") or b"").serial == 1
        holder = house.watcher()
        await house.all_read(holder)
        with pytest.raises(StoreError, match="another process watches already"):
            await house.watcher().once()

    house.tell(story)


def test_a_line_a_minute_says_what_it_does(house: House, caplog: pytest.LogCaptureFixture) -> None:
    async def story(house: House) -> None:
        stream, watcher = await workers(house), house.watcher()
        await stream.put("0", [parcel(ME, 0, seen("k0", 5), seen("k1", 5))])
        await house.all_read(watcher)
        for _ in range(3):
            house.clock.advance(microseconds=TELL_EVERY)
            await house.all_read(watcher)

    with caplog.at_level("INFO", "headgate"):
        house.tell(story)
    told = [json.loads(record.getMessage()) for record in caplog.records]
    minutes = [line for line in told if line["event"] == "headgate.watch.minute"]
    assert [line["observations"] for line in minutes] == [2, 0, 0]
    assert (minutes[0]["findings"], minutes[0]["keys"]) == (1, 2)


def test_order_in_time_counts_and_not_who_was_quicker_to_send() -> None:
    async def story() -> list[int]:
        stream, register = MemoryStream(), Register()
        watcher = Watcher(stream, Alike, register, pace=ManualClock())
        await stream.put("0", [parcel(ME, 0, seen("k1", 5, at=9)), parcel(YOU, 0, seen("k1", 5, at=3))])
        while await watcher.step():
            pass
        assert watcher._learning is not None
        return [at for held in watcher._learning.learner.holders.values() for at in held.values()]  # type: ignore[attr-defined]

    assert run(story()) == [3]


def test_of_authors_the_last_heard_are_remembered_and_no_more() -> None:
    learning = Learning(Alike())
    for n in range(AUTHORS + 10):
        learning.read([Found("0", str(n), parcel(b"%d" % n, 0, seen("k0")))])
        learning.read([Found("0", str(n), parcel(b"busy", n, seen("k0")))])
    assert len(learning._authors) == AUTHORS
    assert learning._authors[b"busy"] == AUTHORS + 9
    assert learning.tally.missed == 0


def test_a_snapshot_that_is_not_whole_is_refused() -> None:
    whole = written(Snapshot(1, {"0": "5"}, [(b"me", 3)], b"learnt"))
    for at in range(len(whole)):
        with pytest.raises(ValueError):
            read(whole[:at])
        with pytest.raises(ValueError):
            read(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])


def test_a_watcher_waits_for_a_server_that_is_not_there_yet(
    make_server: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        watcher = Watcher(RedisStream("redis://127.0.0.1:1"), Alike, Register(), pace=ManualClock())
        assert [await watcher._stepped() for _ in range(3)] == [1.0, 1.0, 1.0]
        await watcher.end()

    with caplog.at_level("ERROR", "headgate"):
        run(story())
    assert len(caplog.records) == 1, "told once a minute"


def test_the_learner_that_is_used_goes_on_where_it_was(house: House) -> None:
    async def story(house: House) -> None:
        stream, first = await workers(house), house.watcher(linker())
        await stream.put("0", [parcel(ME, n, seen(f"k{n}", 5, at=n)) for n in range(5)])
        await house.all_read(first)
        await first.end()
        second = house.watcher(linker())
        await stream.put("0", [parcel(ME, 5, seen("k5", 5, at=5))])
        await house.all_read(second)
        assert (second.tally.observations, second.tally.stumbled, second.tally.missed) == (1, 0, 0)
        assert house.register.lists[-1] == [], "one clause is no evidence"

    house.tell(story)
