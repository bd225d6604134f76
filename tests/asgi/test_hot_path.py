"""What one request costs, in steps and not in time: a step too many is seen on any machine, a microsecond on none."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import headgate
from asgi.upstream import CUT, Stream, total
from headgate.asgi import HeadgateMiddleware
from headgate.quota.command import Reserve, Settle
from headgate.quota.gcra import Rate
from headgate.quota.match import Limit
from headgate.quota.meter import BUILT_IN_METERS
from headgate.quota.window import Rolling

OURS = str(Path(headgate.__file__).parent)
HOUR = 3_600_000_000


class Steps:
    """Headgate's own functions that are entered, by name, and what the store is told."""

    def __init__(self, app: HeadgateMiddleware) -> None:
        self.app = app
        self.functions: Counter[str] = Counter()
        self.coroutines: Counter[str] = Counter()
        self.told: list[Any] = []
        store = app._entry.gate.store
        self._transact, store.transact = store.transact, self._overheard

    async def of(self, stage: Any, **scope: Any) -> Steps:
        """Counts one request, after two that have worked out what is kept."""
        for _ in range(2):
            assert (await stage.asked(self.app, **scope)).status == 200
        self.told.clear()
        before = sys.getprofile()
        sys.setprofile(self._entered)
        try:
            await stage.asked(self.app, **scope)
        finally:
            sys.setprofile(before)
        return self

    async def _overheard(self, commands: Any, now: Any = None) -> Any:
        self.told.append([type(command) for command in commands])
        return await self._transact(commands, now)

    def _entered(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(OURS):
            flags = inspect.CO_COROUTINE | inspect.CO_GENERATOR
            (self.coroutines if code.co_flags & flags else self.functions)[code.co_name] += 1


def three(limits: Any) -> list[Limit]:
    requests = BUILT_IN_METERS["requests"]
    return [
        limits.rpm(1_000),
        Limit("rph", requests, ("org",), {"": Rate(10_000, HOUR)}),
        Limit("week", requests, ("group",), {"": Rolling(100_000, 7 * 24 * HOUR)}),
    ]


def test_a_plain_request_waits_once_for_the_store_and_for_nothing_else(stage, limits):
    found = asyncio.run(Steps(stage.app(*three(limits))).of(stage))
    assert found.told == [[Reserve]]
    assert found.coroutines == dict.fromkeys(["__call__", "_decided", "identify", "admit", "transact"], 1)


def test_a_plain_request_works_out_nothing_that_no_limit_asks_for(stage, limits):
    found = asyncio.run(Steps(stage.app(*three(limits))).of(stage))
    assert not {"paths_of", "address", "lookup", "usage", "told", "settle", "begun", "digest"} & set(found.functions)
    assert found.functions["take"] == 3 and found.functions["apply"] == found.functions["fields"] == 1


def test_a_fact_that_several_limits_ask_for_is_worked_out_once(stage, limits):
    def asks(call: Any) -> bool:
        return call.paths == ("/",) and call.method == "GET"

    asking = [
        Limit(name, BUILT_IN_METERS["requests"], ("ip", "key"), {"": Rate(1_000, HOUR)}, asks) for name in ("a", "b")
    ]
    found = asyncio.run(Steps(stage.app(*asking)).of(stage))
    assert [found.functions[name] for name in ("paths_of", "method_of", "address")] == [1, 1, 1]
    assert found.functions["take"] == 2


def test_what_is_held_is_settled_in_one_more_call_and_without_a_timer_of_its_own(stage, limits, rows, monkeypatch):
    async def story() -> Steps:
        app = stage.app(*three(limits), limits.slots(3), limits.total("rows", rows, 10_000))
        await stage.asked(app)
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "call_later", None)  # the beat of the first request goes on for all
        return await Steps(app).of(stage)

    found = asyncio.run(story())
    assert found.told == [[Reserve], [Settle]]


def test_a_part_of_a_stream_costs_a_few_steps_and_asks_the_store_for_nothing(stage, limits):
    """Between two looks at what is held, a part is counted and handed on; it is read later, with many others."""

    async def story(app: HeadgateMiddleware, chunks: int) -> Steps:
        app.app = Stream(chunks)
        return await Steps(app).of(stage, method="POST")

    found = []
    for chunks in (100, 300):
        roomy = total(replace(CUT, reserve=1_000), 100_000)
        found.append(asyncio.run(story(stage.app(*three(limits), roomy), chunks)))
    assert [one.told for one in found] == [[[Reserve], [Settle]]] * 2
    more = {name: count - found[0].functions[name] for name, count in found[1].functions.items()}
    assert [more[name] for name in ("send", "_body")] == [200, 200]
    assert more["fed_all"] == more["_on"] < 10
    assert not [name for name in ("amounts", "looked", "exhausted", "_waited", "_looked") if more.get(name)]
