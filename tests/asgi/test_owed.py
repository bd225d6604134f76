"""What is used after a limit has cut a response: it is not free, and it is charged once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi.conftest import Stage
from asgi.upstream import START, Client, held, rested, slowly, total
from headgate import resolver as resolver_module
from headgate.asgi import HeadgateMiddleware, charge, touch
from headgate.asgi.metering import held as held_module
from headgate.asgi.metering.cutting import LONGEST_REST
from headgate.errors import StoreError
from headgate.quota.gcra import Rate
from headgate.quota.match import Limit
from headgate.quota.meter import BUILT_IN_METERS, Meter

BYTES = replace(BUILT_IN_METERS["bytes_out"], overrun="cut")
ROWS = Meter("rows", "app", overrun="cut")
DOCS = Meter("docs", "distinct.app", overrun="cut")
EVENTS = [(b"content-type", b"text/event-stream")]


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Whoever says a thing again does not wait before it."""
    monkeypatch.setattr(held_module, "PAUSES", (0.0,) * 40)
    monkeypatch.setattr(resolver_module, "PAUSES", (0.0,) * 4)


class Reporting:
    """An app that says what it used before each part of its stream, and something more when it is told of the end."""

    def __init__(self, *, each: int = 7, last: int = 50, parts: int = 40) -> None:
        self.each, self.last, self.parts = each, last, parts
        self.said = 0

    def use(self, scope: Any, units: int) -> None:
        charge(scope, rows=units)
        self.said += units

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        try:
            for _ in range(self.parts):
                self.use(scope, self.each)
                await send({"type": "http.response.body", "body": b"row", "more_body": True})
                await asyncio.sleep(0)
            await send({"type": "http.response.body", "body": b""})
        finally:
            self.use(scope, self.last)


class Touching(Reporting):
    """The same of documents, by their names; some are handed out twice."""

    def use(self, scope: Any, units: int) -> None:
        touch(scope, [f"doc:{number}" for number in range(max(0, self.said - 2), self.said + units)])
        self.said += units


def ask(stage: Any, app: HeadgateMiddleware) -> None:
    async def story() -> None:
        client = Client()
        with suppress(OSError):
            await app(stage.scope(), client.receive, client.send)
        await rested()

    stage.run(story())


def later(stage: Any, *limits: Any, behind: Any) -> HeadgateMiddleware:
    """An app over a store that answers a turn of the loop later."""
    app = stage.app(*limits, behind=behind)
    slowly(app._entry.gate)
    return app


def test_what_an_endpoint_reports_when_it_is_cut_is_owed(stage):
    app = later(stage, total(ROWS, 100), behind=Reporting())
    ask(stage, app)
    assert held(stage, app) == {"rows": (app.app.said, 0)} and 150 < app.app.said < 200
    assert stage.ask(app).status == 429


@pytest.mark.parametrize(("each", "parts"), [(50, 2), (9, 11), (10, 10), (1, 100)])
def test_so_is_what_it_reports_behind_its_last_part_where_the_limit_was_just_reached(stage, each, parts):
    app = later(stage, total(ROWS, 100), behind=Reporting(each=each, parts=parts))
    ask(stage, app)
    assert held(stage, app) == {"rows": (each * parts + 50, 0)}


def test_things_that_are_handed_out_after_a_cut_are_owed_once_each(stage):
    app = later(stage, total(DOCS, 100), behind=Touching())
    ask(stage, app)
    assert held(stage, app) == {"docs": (app.app.said, 0)} and 150 < app.app.said < 200


def test_a_rate_pays_back_what_is_owed(stage):
    limit = Limit("rows", ROWS, ("key",), {"": Rate(100, 60_000_000)})
    app = later(stage, limit, behind=Reporting())
    ask(stage, app)
    app.app = stage.origin
    assert stage.ask(app).status == 429
    stage.clock.advance(30)
    assert stage.ask(app).status == 429
    stage.clock.advance(30)
    assert stage.ask(app).status == 200


@pytest.mark.parametrize("size", [3_000, LONGEST_REST + 5_000])
def test_the_end_of_an_event_that_was_begun_is_charged(stage, size):
    """However often it is asked: what reached the client is what is charged, but for our own event."""

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": EVENTS})
        for part in (b"data: begin\n\n", b"data: ", *[b"x" * 100] * (size // 100), b"\n\n"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
            await asyncio.sleep(0)

    app, client = later(stage, total(BYTES, 1_000), behind=behind), Client()

    async def story() -> None:
        await app(stage.scope(), client.receive, client.send)
        await rested()

    stage.run(story())
    sent = len(client.text.partition(b"event: error")[0].removesuffix(b"\n\n"))
    used, still = held(stage, app)["bytes_out"]
    assert still == 0 and sent > 1_000
    assert sent <= used <= sent + 2  # the empty line that ends it


@given(loses=st.sets(st.integers(0, 6), max_size=2), each=st.integers(1, 9), last=st.integers(0, 60))
def test_an_answer_that_is_lost_owes_nothing_twice(loses, each, last):
    stage = Stage()
    gate = stage.gate(total(ROWS, 100))
    app = HeadgateMiddleware(Reporting(each=each, last=last), gate=gate)
    transact, owed = gate.store.transact, []

    async def lossy(commands: Any, now: Any = None) -> Any:
        await asyncio.sleep(0)
        found = await transact(commands, now)
        if any(demand.owed for command in commands for demand in command.demands):
            owed.append(commands)
            if len(owed) - 1 in loses:
                raise StoreError("the answer was lost", transient=True, unknown=True)
        return found

    async def story() -> None:
        client = Client()
        with suppress(OSError):
            await app(stage.scope(), client.receive, client.send)
        await rested()
        await gate.resolver.idle()

    gate.store.transact = lossy
    stage.run(story())
    assert stage.balances(gate) == {"rows": (app.app.said, 0)}


@given(
    units=st.lists(st.integers(1, 300), min_size=1, max_size=50),
    lost=st.lists(st.sampled_from(["", "", "before", "after"]), max_size=30),
    kind=st.sampled_from([BYTES, ROWS, replace(BYTES, overrun="finish"), replace(ROWS, overrun="finish")]),
    last=st.integers(0, 300),
)
def test_whatever_is_lost_on_the_way_what_was_used_is_charged_once(units, lost, kind, last):
    """A store that for a while does not answer, before or after it did what it was asked: also at the very end."""
    stage = Stage()
    gate = stage.gate(total(kind, 2_000_000))
    fates, transact, begun = iter(lost), gate.store.transact, []

    async def flaky(commands: Any, now: Any = None) -> Any:
        await asyncio.sleep(0)
        fate = next(fates, "") if begun else ""
        if fate == "before":
            raise StoreError("away", transient=True)
        found = await transact(commands, now)
        if fate == "after":
            raise StoreError("no answer", transient=True, unknown=True)
        return found

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        begun.append(True)
        await send(START)
        for at, size in enumerate(units):
            if kind.name == "rows":
                charge(scope, rows=size)
            await send({"type": "http.response.body", "body": b"x" * size, "more_body": True})
            if at % 3:
                await asyncio.sleep(0)
            if at % 11 == 5:
                await scope["headgate"].renewed()
        await send({"type": "http.response.body", "body": b""})
        if kind.name == "rows":
            charge(scope, rows=last)

    async def story() -> None:
        await app(stage.scope(), Client().receive, client.send)
        for _ in range(20):
            await gate.resolver.idle()
            await rested()

    gate.store.transact = flaky
    app, client = HeadgateMiddleware(behind, gate=gate), Client()
    stage.run(story())
    assert stage.balances(gate)[kind.name] == (sum(units) + (last if kind.name == "rows" else 0), 0)


def test_a_store_that_never_answers_again_is_told_of(stage, caplog, monkeypatch):
    monkeypatch.setattr(held_module, "PAUSES", (0.0,) * 4)
    app = later(stage, total(ROWS, 100), behind=Reporting())
    gate = app._entry.gate
    transact, asked = gate.store.transact, []

    async def gone(commands: Any, now: Any = None) -> Any:
        if any(demand.owed for command in commands for demand in command.demands):
            asked.append(commands)
            raise StoreError("away", transient=True)
        return await transact(commands, now)

    gate.store.transact = gone
    ask(stage, app)
    assert len(asked) == 1 + len(held_module.PAUSES) and "headgate.settle.failed" in caplog.text
