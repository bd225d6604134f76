"""WebSockets: their messages and bytes, counted, settled in parts, and closed at a limit."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from asgi.upstream import held, rested, slowly, total
from headgate.asgi import HeadgateMiddleware
from headgate.asgi.metering.cutting import CutOff
from headgate.quota.gcra import Rate
from headgate.quota.match import Limit
from headgate.quota.meter import BUILT_IN_METERS

MINUTE = 60_000_000
MESSAGES = replace(BUILT_IN_METERS["messages"], overrun="cut")
OUT = replace(BUILT_IN_METERS["bytes_out"], overrun="cut")


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Accepts, and answers each text with the same one."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


class Caller:
    """One end of a WebSocket: says what it is told to, one after the other, and hangs up."""

    def __init__(self, texts: list[str], pause: Any = None) -> None:
        self.texts, self.pause = list(texts), pause
        self.messages: list[dict[str, Any]] = []
        self.connected = False

    async def receive(self) -> dict[str, Any]:
        if not self.connected:
            self.connected = True
            return {"type": "websocket.connect"}
        await rested()
        if self.pause is not None:
            self.pause()
        if self.texts and not self.closed:
            return {"type": "websocket.receive", "text": self.texts.pop(0)}
        return {"type": "websocket.disconnect", "code": 1005}

    async def send(self, message: dict[str, Any]) -> None:
        assert not self.closed, "nothing is sent after the close"
        self.messages.append(message)

    @property
    def closed(self) -> list[int]:
        return [m["code"] for m in self.messages if m["type"] == "websocket.close"]

    @property
    def heard(self) -> list[str]:
        return [m["text"] for m in self.messages if m["type"] == "websocket.send"]


def call(stage: Any, app: Any, texts: list[str], pause: Any = None) -> Caller:
    async def story() -> Caller:
        caller = Caller(texts, pause)
        await app(stage.scope(type="websocket"), caller.receive, caller.send)
        await rested()
        return caller

    return asyncio.run(story())


@pytest.mark.parametrize("most", [1, 2, 5, 9, 30])
def test_a_socket_is_closed_at_the_first_message_beyond_the_limit(stage, most):
    app = stage.app(total(MESSAGES, most), behind=echo)
    caller = call(stage, app, ["hi"] * 40)
    assert caller.heard == ["hi"] * most and caller.closed == [1008]
    assert held(stage, app) == {"messages": (most, 0)}
    refused = call(stage, app, ["hi"])
    assert refused.heard == [] and refused.closed == [1008]


def test_a_limit_that_may_finish_closes_nobody_and_the_next_socket_pays(stage):
    app = stage.app(total(BUILT_IN_METERS["messages"], 5), behind=echo)
    assert call(stage, app, ["hi"] * 9).closed == []
    assert held(stage, app) == {"messages": (9, 0)}
    assert call(stage, app, ["hi"]).closed == [1008]


def test_bytes_of_both_directions_count_as_they_are_encoded(stage):
    app = stage.app(
        total(BUILT_IN_METERS["bytes_in"]), total(BUILT_IN_METERS["bytes_out"]), total(BUILT_IN_METERS["messages"]),
        behind=echo,
    )  # fmt: skip
    call(stage, app, ["hi", "für", "", "雨"])
    assert held(stage, app) == {"bytes_in": (9, 0), "bytes_out": (9, 0), "messages": (4, 0)}


def test_a_socket_is_closed_when_it_has_sent_what_may_be_sent(stage):
    app = stage.app(total(OUT, 10), behind=echo)
    caller = call(stage, app, ["1234"] * 9)
    assert caller.heard == ["1234"] * 2 and caller.closed == [1008]
    assert held(stage, app) == {"bytes_out": (8, 0)}


def test_tasks_that_send_side_by_side_send_no_more_than_there_is_and_close_once(stage):
    async def talks(scope: Any, receive: Any, send: Any) -> None:
        async def talk() -> None:
            for _ in range(50):
                await send({"type": "websocket.send", "text": "x" * 100})

        await receive()
        await send({"type": "websocket.accept"})
        told.extend(await asyncio.gather(*[talk() for _ in range(20)], return_exceptions=True))

    told: list[Any] = []
    gate = stage.gate(total(OUT, 10_000))
    slowly(gate)
    caller = call(stage, HeadgateMiddleware(talks, gate=gate), [])
    assert sum(map(len, caller.heard)) == 10_000 and caller.closed == [1008]
    assert stage.balances(gate) == {"bytes_out": (10_000, 0)}
    assert {type(fault) for fault in told} <= {CutOff, type(None)}


def test_an_app_that_sends_on_is_told_once_and_dropped(stage):
    faults: list[OSError] = []

    async def talks(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(20):
            try:
                await send({"type": "websocket.send", "bytes": b"1234"})
            except OSError as fault:
                faults.append(fault)
        assert (await receive()) == {"type": "websocket.disconnect", "code": 1008, "reason": ""}

    app = stage.app(total(OUT, 10), behind=talks)
    assert call(stage, app, []).closed == [1008]
    assert len(faults) == 1


def test_who_keeps_to_a_rate_is_never_closed(stage):
    """What was sent counts as sent while the socket lives, and drains: 60 a minute is one a second for ever."""
    meter = replace(MESSAGES, reserve=4)
    app = stage.app(Limit("pace", meter, ("key",), {"": Rate(60, MINUTE)}), behind=echo)
    caller = call(stage, app, ["hi"] * 300, lambda: stage.clock.advance(1))
    assert len(caller.heard) == 300 and caller.closed == []
    hasty = call(stage, app, ["hi"] * 300, lambda: stage.clock.advance(0.1))
    assert hasty.closed == [1008] and 50 <= len(hasty.heard) <= 70


def test_a_quiet_socket_is_renewed_and_what_it_used_is_settled_at_each_renewal(stage):
    app = stage.app(total(replace(MESSAGES, reserve=8), 100), behind=None)
    seen: list[tuple[int, int]] = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(2):
            for _ in range(3):
                await receive()
            for _ in range(4):
                stage.clock.advance(200)
                await scope["headgate"].renewed()
                await rested()
                seen.append(held(stage, app)["messages"])
        while (await receive())["type"] == "websocket.receive":
            pass

    app.app = behind
    assert call(stage, app, ["hi"] * 7).closed == []
    assert [used for used, _ in seen] == [3, 3, 3, 3, 6, 6, 6, 6] and all(still for _, still in seen)
    assert held(stage, app) == {"messages": (7, 0)}


def test_a_finishing_socket_is_settled_at_each_renewal_where_the_next_part_fits(stage):
    app = stage.app(total(replace(BUILT_IN_METERS["messages"], reserve=2), 6), behind=None)
    seen: list[tuple[int, int]] = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            await scope["headgate"].renewed()
            await rested()
            seen.append(held(stage, app)["messages"])

    app.app = behind
    assert call(stage, app, ["hi"] * 9).closed == []
    assert seen[0][0] == 1 and held(stage, app) == {"messages": (9, 0)}


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_a_socket_that_ends_in_the_middle_leaves_nothing_held(stage, how):
    app = stage.app(total(replace(MESSAGES, reserve=30), 30), behind=echo)

    async def story() -> None:
        caller = Caller(["hi"] * 12)
        work = app(stage.scope(type="websocket"), caller.receive, caller.send)
        if how == "close":
            while len(caller.heard) < 5:
                work.send(None)
                await asyncio.sleep(0)
            work.close()
        else:
            task = asyncio.create_task(work)
            while len(caller.heard) < 5:
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await rested()

    asyncio.run(story())
    used, still = held(stage, app)["messages"]
    assert 5 <= used <= 6 and still == 0
