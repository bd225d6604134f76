"""What a served request uses, and that it is settled once however it ends."""

from __future__ import annotations

import asyncio
import gc
import os
from contextlib import suppress
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from asgi.upstream import rested, slowly
from headgate.asgi import HeadgateMiddleware, charge
from headgate.asgi.metering import Metered
from headgate.asgi.metering import metered as metered_module
from headgate.errors import IdentityError
from headgate.gate import Gate
from headgate.quota.meter import Meter

START = {"type": "http.response.start", "status": 200, "headers": []}


def held(stage: Any, app: HeadgateMiddleware) -> dict[str, tuple[int, int]]:
    return stage.balances(app._entry.gate)


# --- bytes


def test_bytes_are_counted_as_they_pass(stage, limits):
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(START)
        await send({"type": "http.response.body", "body": b"x" * 100, "more_body": True})
        await send({"type": "http.response.body", "body": b"y"})

    app = stage.app(limits.total("in", "bytes_in"), limits.total("out", "bytes_out"), behind=behind)
    stage.ask(app, method="POST", body=[b"a" * 7, b"b" * 9])
    assert held(stage, app) == {"in": (7, 0), "out": (101, 0)}  # the app took only the first part of the body


def test_the_body_of_a_head_response_is_not_sent_and_not_counted(stage, limits):
    app = stage.app(limits.total("out", "bytes_out"))
    stage.ask(app, method="HEAD")
    assert held(stage, app) == {"out": (0, 0)}


def test_a_file_that_the_server_sends_counts_by_its_size(stage, limits, tmp_path):
    file = tmp_path / "page"
    file.write_bytes(b"0123456789")

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        if scope["path"] == "/path":
            await send({"type": "http.response.pathsend", "path": str(file)})
        elif scope["path"] == "/none":
            await send({"type": "http.response.pathsend", "path": str(file) + "-none"})
        else:
            with file.open("rb") as opened:
                more = {"count": 4} if scope["path"] == "/part" else {"offset": 3} if scope["path"] == "/rest" else {}
                await send({"type": "http.response.zerocopysend", "file": opened, **more})

    app = stage.app(limits.total("out", "bytes_out"), behind=behind)
    sums = []
    for path in ("/path", "/part", "/rest", "/all", "/none"):
        stage.ask(app, path)
        sums.append(held(stage, app)["out"][0])
    assert sums == [10, 14, 21, 31, 31]


def test_a_pipe_has_no_size(stage, limits):
    reader, writer = os.pipe()

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send({"type": "http.response.zerocopysend", "file": reader})

    app = stage.app(limits.total("out", "bytes_out"), behind=behind)
    stage.ask(app)
    os.close(reader)
    os.close(writer)
    assert held(stage, app) == {"out": (0, 0)}


# --- charge


def charging(stage: Any, limits: Any, rows: Meter, endpoint: Any) -> Any:
    gate = stage.gate(limits.total("rows", rows))
    app = Starlette(routes=[Route("/", endpoint)], middleware=[Middleware(HeadgateMiddleware, gate=gate)])
    return app, gate


def test_an_endpoint_charges_before_its_response_and_while_it_is_sent(stage, limits, rows):
    async def endpoint(request: Request) -> StreamingResponse:
        charge(request, rows=2)

        async def parts() -> Any:
            for _ in range(3):
                charge(request.scope, rows=1)
                yield b"x"

        return StreamingResponse(parts())

    app, gate = charging(stage, limits, rows, endpoint)
    assert stage.ask(app).status == 200
    assert stage.balances(gate) == {"rows": (5, 0)}


def test_an_endpoint_in_a_thread_charges_too(stage, limits, rows):
    def endpoint(request: Request) -> JSONResponse:
        charge(request, rows=4)
        return JSONResponse({})

    app, gate = charging(stage, limits, rows, endpoint)
    stage.ask(app)
    assert stage.balances(gate) == {"rows": (4, 0)}


def test_no_request_is_charged_more_than_its_meter_allows(stage, limits):
    def endpoint(request: Request) -> JSONResponse:
        charge(request, rows=500)
        return JSONResponse({})

    app, gate = charging(stage, limits, Meter("rows", "app", reserve=10, most=25), endpoint)
    stage.ask(app)
    assert stage.balances(gate) == {"rows": (25, 0)}


@pytest.mark.parametrize("amount", [-1, 1.0, "3", True, None, 2**53])
def test_an_amount_that_is_no_whole_number_is_refused_and_nothing_is_charged(stage, limits, rows, amount):
    said: list[str] = []

    async def endpoint(request: Request) -> JSONResponse:
        with pytest.raises(ValueError) as fault:
            charge(request, rows=amount)
        said.append(str(fault.value))
        return JSONResponse({})

    app, gate = charging(stage, limits, rows, endpoint)
    stage.ask(app)
    assert "whole number" in said[0] and stage.balances(gate) == {"rows": (0, 0)}


def test_a_meter_that_the_policy_does_not_know_is_told_with_what_was_meant(stage, limits, rows):
    async def endpoint(request: Request) -> JSONResponse:
        with pytest.raises(IdentityError, match="did you mean `rows`"):
            charge(request, rows=1, row=3)
        with pytest.raises(IdentityError, match="there are: rows"):
            charge(request, requests=3)
        return JSONResponse({})

    app, gate = charging(stage, limits, rows, endpoint)
    stage.ask(app)
    assert stage.balances(gate) == {"rows": (0, 0)}


def test_without_a_headgate_a_charge_does_nothing(stage):
    charge(stage.scope(), rows=3)
    charge(Request(stage.scope()), anything=-1)


def test_a_charge_that_comes_after_the_end_is_told_and_not_counted(stage, limits, rows, caplog):
    app = stage.app(limits.total("rows", rows))
    stage.ask(app)
    charge(stage.hits[0], rows=5)
    assert held(stage, app) == {"rows": (0, 0)} and "headgate.charge.late" in caplog.text


# --- endings


class Ledger:
    """Counts reservations that were granted and settlements, by what the gate is asked."""

    def __init__(self, gate: Gate) -> None:
        self.reserved = self.settled = 0
        transact = gate.store.transact

        async def counted(commands: Any, now: Any = None) -> Any:
            outcomes = await transact(commands, now)
            for command, outcome in zip(commands, outcomes, strict=True):
                if type(command).__name__ == "Reserve" and type(outcome).__name__ == "Granted":
                    self.reserved += 1
                self.settled += type(command).__name__ == "Settle"
            return outcomes

        gate.store.transact = counted  # type: ignore[method-assign]


class Gone(Exception):
    pass


async def stream(scope: Any, receive: Any, send: Any) -> None:
    """Ten chunks, a charge before each, as long as the client stays."""
    await send(START)
    for _ in range(10):
        charge(scope, rows=1)
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body"})


def leaving(stage: Any, app: Any, after: int, how: str) -> None:
    """One request that ends in some other way after some chunks."""
    chunks = 0

    async def send(message: dict[str, Any]) -> None:
        nonlocal chunks
        chunks += message.get("body", b"") == b"x"
        if chunks == after and how == "exception":
            raise Gone
        if chunks == after and how == "os error":
            raise OSError("the client went away")
        if chunks == after and how == "hang":
            await asyncio.Event().wait()

    async def cancelled() -> None:
        task = asyncio.create_task(app(stage.scope(), None, send))
        for _ in range(after + 1):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def scoped() -> None:
        with anyio.CancelScope() as cancel:
            async with anyio.create_task_group() as group:
                group.start_soon(app, stage.scope(), None, send)
                for _ in range(after + 2):
                    await asyncio.sleep(0)
                cancel.cancel()

    async def closed() -> None:
        work = app(stage.scope(), None, send)
        for _ in range(after):
            work.send(None)
        work.close()

    async def collected() -> None:
        work = app(stage.scope(), None, send)
        work.send(None)
        del work
        gc.collect()

    async def plain() -> None:
        with suppress(Gone, OSError):
            await app(stage.scope(), None, send)

    ways = {"cancel": cancelled, "cancel scope": scoped, "close": closed, "collect": collected}

    async def story() -> None:
        await ways.get(how, plain)()
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(story())


@pytest.mark.parametrize("how", ["exception", "os error", "cancel", "cancel scope", "close", "collect", "whole"])
def test_twenty_of_each_ending_leave_nothing_held_and_settle_once(stage, limits, rows, how):
    """AT-13 of the bypass corpus."""
    app = stage.app(limits.slots(3), limits.total("rows", rows, 10_000), behind=stream)
    ledger = Ledger(app._entry.gate)
    for _ in range(20):
        leaving(stage, app, 3, how)
    assert ledger.reserved == ledger.settled == 20
    used, still = held(stage, app)["rows"]
    assert still == 0 and held(stage, app)["slots"] == (0, 0) and used >= 20
    assert not [metered for held in app._under_way.values() for metered in held]


@pytest.mark.parametrize("after", range(1, 11))
@pytest.mark.parametrize("how", ["exception", "cancel"])
def test_a_client_gone_at_any_chunk_is_charged_what_was_sent(stage, limits, rows, after, how):
    app = stage.app(limits.total("rows", rows), limits.total("out", "bytes_out"), behind=stream)
    leaving(stage, app, after, how)
    charged, sent = held(stage, app)["rows"], held(stage, app)["out"]
    assert charged[1] == sent[1] == 0
    assert abs(charged[0] - after) <= 1 and abs(sent[0] - after) <= 1


def test_a_store_that_waits_settles_though_the_request_is_cancelled_again_and_again(stage, limits, rows):
    gate = stage.gate(limits.total("rows", rows))
    gate.deadline, transact = 5.0, gate.store.transact

    async def slow(commands: Any, now: Any = None) -> Any:
        for _ in range(3):
            await asyncio.sleep(0)
        return await transact(commands, now)

    gate.store.transact, gate.store.immediate = slow, False  # type: ignore[method-assign]
    app = HeadgateMiddleware(stream, gate=gate)

    async def story() -> None:
        async def send(message: Any) -> None:
            pass

        task = asyncio.create_task(app(stage.scope(), None, send))
        for _ in range(8):
            await asyncio.sleep(0)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(task, return_exceptions=True)
        await gate.close()

    asyncio.run(story())
    used, still = stage.balances(gate)["rows"]
    assert still == 0 and used >= 1


def test_a_coroutine_that_is_closed_over_a_store_that_waits_settles_behind(stage, limits, rows):
    gate = stage.gate(limits.total("rows", rows))
    app = HeadgateMiddleware(stream, gate=gate)
    transact = gate.store.transact

    async def slow(commands: Any, now: Any = None) -> Any:
        await asyncio.sleep(0)
        return await transact(commands, now)

    async def story() -> None:
        async def send(message: Any) -> None:
            pass

        work = app(stage.scope(), None, send)
        work.send(None)
        gate.store.transact, gate.store.immediate = slow, False  # type: ignore[method-assign]
        work.close()
        for _ in range(6):
            await asyncio.sleep(0)
        await gate.close()

    asyncio.run(story())
    assert stage.balances(gate) == {"rows": (1, 0)}


# --- long responses


class Beats:
    """A loop's clock and timers, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Any]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, pause: float, call: Any) -> Any:
        timer = (self.now + pause, call)
        self.timers.append(timer)
        return SimpleNamespace(cancel=lambda: self.timers.remove(timer))

    async def pass_by(self, seconds: float) -> None:
        until = self.now + seconds
        while self.timers and (first := min(self.timers, key=lambda timer: timer[0]))[0] <= until:
            self.timers.remove(first)
            self.now = first[0]
            first[1]()
            await asyncio.sleep(0)
        self.now = until


@pytest.fixture
def beats(monkeypatch):
    found = Beats()

    def put() -> Beats:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", found.time)
        monkeypatch.setattr(loop, "call_later", found.call_later)
        return found

    yield put
    monkeypatch.undo()


@pytest.fixture
def renewed(monkeypatch):
    """The instants at which each decision was renewed, by its id."""
    found: dict[str, list[float]] = {}

    async def renew(self: Gate, decision: Any) -> None:
        found.setdefault(decision.id, []).append(asyncio.get_running_loop().time())

    monkeypatch.setattr(Gate, "renew", renew)
    return found


def test_a_long_response_keeps_its_place(stage, limits, beats, renewed):
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await clock.pass_by(600)

    async def story() -> None:
        nonlocal clock
        clock = beats()
        app = stage.app(limits.slots(3, lease=60_000_000), behind=behind)
        await app(stage.scope(), None, None)
        await clock.pass_by(600)

    clock: Any = None
    asyncio.run(story())
    [at] = renewed.values()
    pauses = [later - before for before, later in pairwise([0.0, *at, 600.0])]
    # Two renewals may fail before the lease of 60 s is over, and none comes twice as often as it need.
    assert max(pauses) <= 20 and min(pauses[:-1]) >= 15
    assert not clock.timers


def test_one_timer_beats_for_all_responses_under_way(stage, limits, beats, renewed):
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await held_up.wait()

    async def story() -> int:
        nonlocal held_up
        held_up, clock = asyncio.Event(), beats()
        app = stage.app(limits.slots(20, lease=60_000_000), behind=behind)
        tasks = []
        for _ in range(10):
            tasks.append(asyncio.create_task(app(stage.scope(), None, None)))
            await asyncio.sleep(0)
            await clock.pass_by(3)
        most = len(clock.timers)
        await clock.pass_by(60)
        held_up.set()
        await asyncio.gather(*tasks)
        await clock.pass_by(60)
        return most + len(clock.timers)

    held_up: Any = None
    assert asyncio.run(story()) == 1
    assert len(renewed) == 10 and all(3 <= len(at) <= 6 for at in renewed.values())


def test_renewals_hold_the_place_past_its_lease(stage, limits):
    gate = stage.gate(limits.slots(1, lease=60_000_000))
    metered: list[Metered] = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        metered.append(scope["headgate"])
        if len(metered) > 1:
            return
        for _ in range(4):
            stage.clock.advance(30)
            await gate.renew(metered[0].decision)
            assert (await stage.asked(app)).status == 429

    app = HeadgateMiddleware(behind, gate=gate)
    asyncio.run(app(stage.scope(), None, None))
    assert stage.balances(gate) == {"slots": (0, 0)}


def test_a_stream_of_which_amounts_are_held_keeps_its_place_too(stage, limits, rows):
    """What it reports is settled at each renewal, under a reservation of its own; the place stays where it is."""
    gate = stage.gate(limits.slots(1, lease=60_000_000), limits.total("rows", rows))
    seen: list[dict[str, tuple[int, int]]] = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        if seen:
            return
        await send(START)
        for _ in range(4):
            charge(scope, rows=7)
            for _ in range(2):
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
            stage.clock.advance(45)
            await scope["headgate"].renewed()
            for _ in range(9):
                await asyncio.sleep(0)
            assert (await stage.asked(app)).status == 429
            seen.append(stage.balances(gate))
        await send({"type": "http.response.body", "body": b""})

    app = HeadgateMiddleware(behind, gate=gate)

    async def send(message: Any) -> None:
        pass

    asyncio.run(app(stage.scope(), None, send))
    assert [(found["rows"][0], found["slots"]) for found in seen] == [
        (7, (0, 1)),
        (14, (0, 1)),
        (21, (0, 1)),
        (28, (0, 1)),
    ]
    assert stage.balances(gate) == {"slots": (0, 0), "rows": (28, 0)}


# --- what the app does when its response is whole


class Lingering:
    """An app that answers, and then goes on for itself."""

    def __init__(self, rows: int = 0) -> None:
        self.rows, self.may_end, self.ends = rows, asyncio.Event(), 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        for size in (3, 3, 1):
            await send({"type": "http.response.body", "body": b"x" * size, "more_body": size > 1})
        await self.may_end.wait()
        if self.rows:
            charge(scope, rows=self.rows)
        self.ends += 1


@pytest.mark.parametrize("amounts", [False, True])
def test_a_place_is_free_when_the_response_is_whole_and_amounts_when_the_app_has_ended(
    stage, limits, rows, amounts, monkeypatch
):
    monkeypatch.setattr(metered_module, "SOON", 0)
    more = [limits.total("rows", rows), limits.total("out", "bytes_out")] if amounts else []
    gate, behind = stage.gate(limits.slots(1), *more), Lingering(rows=3 if amounts else 0)
    app = HeadgateMiddleware(behind, gate=gate)

    async def story() -> None:
        first = asyncio.create_task(stage.asked(app))
        await rested()
        assert stage.balances(gate)["slots"] == (0, 0) and not behind.ends
        second = asyncio.create_task(stage.asked(app))
        await rested()
        if amounts:
            assert stage.balances(gate)["rows"] == (0, 20)
            for _ in range(2):
                for metered in app._under_way[asyncio.get_running_loop()]:
                    await metered.renewed()
                stage.clock.advance(40)  # seconds of a lease of a minute
            assert stage.balances(gate)["rows"] == (0, 20)
        behind.may_end.set()
        assert [(await one).status for one in (first, second)] == [200, 200]

    stage.run(story())
    assert stage.balances(gate) == {"slots": (0, 0)} | ({"rows": (6, 0), "out": (14, 0)} if amounts else {})


def test_what_ends_at_once_is_settled_by_one_command(stage, limits, rows):
    gate = stage.gate(limits.slots(1), limits.total("rows", rows))
    told = slowly(gate)
    app = HeadgateMiddleware(stage.origin, gate=gate)
    assert [stage.ask(app).status for _ in range(2)] == [200, 200]
    assert told == [["Reserve"], ["Settle"]] * 2
