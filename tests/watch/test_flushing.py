"""From the ring to the stream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from headgate.errors import StoreError
from headgate.linking.observation import Blind
from headgate.policy.compiled import Linking, Policy
from headgate.quota.facts import Call, Principal
from headgate.quota.identify import Identify
from headgate.testing import ManualClock
from headgate.testing.servers import Server
from headgate.watch import talk
from headgate.watch.eye import Eye
from headgate.watch.flushing import PENDING, Flushing
from headgate.watch.memory import MemoryStream
from headgate.watch.parcel import TOGETHER, unpacked
from headgate.watch.redis import RedisStream
from headgate.watch.ring import Ring
from headgate.watch.watcher import Watcher
from servers.proxy import Fate, Proxy
from watch.stand_in import Alike, Register, run

POLICY = Policy("doc", "0", "enforce", Identify(), (), linking=Linking(linked=970_000))
SCOPE: dict[str, Any] = {"path": "/", "headers": []}
CANARY = "Mallory Canarius"


class Said(Call):
    __slots__ = ("body",)


def ask(eye: Eye, key: str = "k1", prompt: str = "Hello.") -> None:
    call = Said(Principal(key, "acme"))
    call.body = {"prompt": prompt}
    eye.saw(POLICY, call, SCOPE, 7, 200)


class Moody(MemoryStream):
    """Its answers get lost, before or after the deed."""

    def __init__(self) -> None:
        super().__init__()
        self.before = self.after = False
        self.wanted = True

    async def put(self, shard: str, parcels: Sequence[bytes]) -> bool:
        if self.before:
            raise StoreError("not done", transient=True)
        if self.wanted:
            await super().put(shard, parcels)
        if self.after:
            raise StoreError("done, and not heard", transient=True, unknown=True)
        return self.wanted


async def all_of(stream: MemoryStream) -> list[Any]:
    return [unpacked(one.data) for one in await stream.read({}, 10_000)]


def flushing(eye: Eye, stream: MemoryStream) -> Flushing:
    return Flushing(eye, Blind(b"pepper"), stream, pace=ManualClock())


def test_what_was_seen_is_in_the_stream_after_a_flush_in_order() -> None:
    eye, stream = Eye(), MemoryStream()
    for n in range(40):
        ask(eye, f"k{n}")
    assert run(flushing(eye, stream).flush()) == 0
    parcels = run(all_of(stream))
    assert [one.key for each in parcels for one in each.seen] == [f"k{n}" for n in range(40)]
    assert [each.number for each in parcels] == [0, 1, 2]


def test_no_prompt_reaches_the_stream(capfd: pytest.CaptureFixture[str]) -> None:
    eye, stream = Eye(), MemoryStream()
    ask(eye, prompt=f"Who is {CANARY}?")
    run(flushing(eye, stream).flush())
    [found] = run(stream.read({}, 9))
    assert b"anarius" not in found.data and b"allory" not in found.data
    assert unpacked(found.data).seen[0].clauses
    assert "anarius" not in "".join(capfd.readouterr())


def test_a_put_that_failed_is_said_again_with_the_same_numbers() -> None:
    eye, stream = Eye(), Moody()
    flush = flushing(eye, stream)

    async def story() -> list[Any]:
        stream.before = True
        ask(eye, "k1")
        assert await flush.flush() == 1
        stream.before, stream.after = False, True
        ask(eye, "k2")
        assert await flush.flush() == 2
        stream.after = False
        assert await flush.flush() == 0
        return await all_of(stream)

    parcels = run(story())
    assert [each.number for each in parcels] == [0, 1, 0, 1], "twice in the stream; who reads counts it once"


def test_a_stream_that_is_away_costs_bounded_memory_and_what_is_lost_is_counted_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    eye, stream = Eye(), Moody()
    flush = flushing(eye, stream)

    async def story() -> None:
        stream.before = True
        for _ in range(PENDING + 3):
            for _ in range(TOGETHER):
                ask(eye)
            assert await flush.flush() <= PENDING
        stream.before = False
        await flush.flush()

    with caplog.at_level("WARNING", "headgate"):
        run(story())
    assert flush.lost.untaken == 3
    told = [record.getMessage() for record in caplog.records]
    assert sum("headgate.watch.untaken" in line for line in told) == 1, "once a minute, not at each try"


def test_a_full_ring_is_told(caplog: pytest.LogCaptureFixture) -> None:
    eye, stream = Eye(Ring(most=2)), MemoryStream()
    for _ in range(5):
        ask(eye)
    with caplog.at_level("WARNING", "headgate"):
        run(flushing(eye, stream).flush())
    [told] = [record.getMessage() for record in caplog.records if "headgate.watch.lost" in record.getMessage()]
    assert '"full": 3' in told


def test_what_nobody_watches_is_counted_and_kept_nowhere() -> None:
    eye, stream = Eye(), Moody()
    stream.wanted = False
    ask(eye)
    flush = flushing(eye, stream)
    assert run(flush.flush()) == 0
    assert (flush.lost.unwatched, run(all_of(stream))) == (1, [])


def test_a_request_that_cannot_be_looked_at_harms_nobody() -> None:
    eye, stream = Eye(), MemoryStream()
    eye.saw(POLICY, object(), SCOPE, 7, 200)
    eye.saw(POLICY, Call(Principal("k1", "acme")), {}, 7, 200)
    ask(eye, "k2")
    broken = Call(Principal("k3", "acme", traits={"signup_ts": object()}))  # type: ignore[dict-item]
    eye.saw(POLICY, broken, SCOPE, 7, 200)
    flush = flushing(eye, stream)
    run(flush.flush())
    assert [one.key for each in run(all_of(stream)) for one in each.seen] == ["k2"]
    assert flush.lost.faults == 3


def test_without_linking_and_for_callers_that_nobody_vouches_for_nothing_is_taken() -> None:
    eye = Eye()
    eye.saw(Policy("doc", "0", "enforce", Identify(), ()), Call(Principal("k1", "acme")), SCOPE, 7, 200)
    eye.saw(POLICY, Call(Principal("", "")), SCOPE, 7, 200)
    assert len(eye.ring) == eye.faults == 0


@pytest.mark.parametrize("fate", [Fate.LOSE, Fate.CLOSE, Fate.TEAR, Fate.UNSENT])
def test_an_answer_that_is_lost_on_the_way_makes_nothing_count_twice(
    valkey: Server, fate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talk, "PATIENCE", 0.2)

    async def story() -> None:
        async with Proxy(valkey.address) as proxy:
            stream, eye, register = RedisStream(proxy.url), Eye(), Register()
            watcher = Watcher(RedisStream(valkey.url), Alike, register, pace=ManualClock())
            await watcher.step()
            flush = Flushing(eye, Blind(b"pepper"), stream)
            for n in range(3 * TOGETHER):
                ask(eye, f"k{n}")
            proxy.spoil(fate, b"XADD", skip=1)
            while await flush.flush():
                await asyncio.sleep(0)
            while await watcher.step():
                pass
            tally = watcher.tally
            await watcher.end()
            await stream.close()
            assert (tally.observations, tally.missed) == (3 * TOGETHER, 0)
            assert tally.twice > 0, "something was put twice"

    run(story())
