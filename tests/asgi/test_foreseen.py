"""Bodies whose size is known before they are sent, against a limit that cuts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import FileResponse, PlainTextResponse
from starlette.routing import Route

from asgi.conftest import Stage
from asgi.upstream import START, Client, held, rested, slowly, total
from headgate.asgi import HeadgateMiddleware, spend
from headgate.asgi.metering.cutting import NO_WAIT
from headgate.errors import StoreError
from headgate.quota.meter import BUILT_IN_METERS, MILLION, Sum

BYTES = replace(BUILT_IN_METERS["bytes_out"], overrun="cut")
SIZE = 100_000


class Sending:
    """An app that sends parts of a body, and tells their length or not."""

    def __init__(self, *parts: int, told: int = 0, status: int = 200, begins: int = 1) -> None:
        self.parts, self.told, self.status, self._begins = parts, told, status, begins
        self.faults: list[BaseException] = []
        self._all = asyncio.Event()

    def start(self) -> dict[str, Any]:
        return {**START, "status": self.status, "headers": [(b"content-length", b"%d" % self.told)] * bool(self.told)}

    def bodies(self) -> Iterable[dict[str, Any]]:
        last = len(self.parts) - 1
        for at, size in enumerate(self.parts):
            yield {"type": "http.response.body", "body": b"x" * size, "more_body": at < last}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self._begins -= 1  # all that ask at once have been let in before one of them is answered
        if not self._begins:
            self._all.set()
        await self._all.wait()
        try:
            await send(self.start())
            for message in self.bodies():
                await send(message)
                await asyncio.sleep(0)
        except OSError as fault:
            self.faults.append(fault)
            raise


def whole(size: int = SIZE, **more: Any) -> Sending:
    return Sending(size, told=size, **more)


def at_once(stage: Any, app: HeadgateMiddleware, count: int, **scope: Any) -> list[int | None]:
    """So many ask at once: the status of each, None where the body was broken off."""

    async def one() -> int | None:
        client = Client()
        try:
            await app(stage.scope(**scope), client.receive, client.send)
        except OSError:
            return None
        return client.messages[0]["status"] if client.whole else None

    async def all_of_them() -> list[int | None]:
        return list(await asyncio.gather(*[one() for _ in range(count)]))

    return stage.run(all_of_them())


@pytest.mark.parametrize("parts", [1, 2, 10])
def test_of_bodies_that_tell_their_length_as_many_are_served_as_fit_and_the_rest_is_refused_as_a_whole(stage, parts):
    behind = Sending(*[SIZE // parts] * parts, told=SIZE, begins=20)
    app = stage.app(total(BYTES, 10 * SIZE), behind=behind)
    slowly(app._entry.gate)
    assert sorted(at_once(stage, app, 20)) == [200] * 10 + [429] * 10
    assert held(stage, app) == {"bytes_out": (10 * SIZE, 0)}
    assert len(behind.faults) == (10 if parts > 1 else 0)  # who would have gone on was told so, once


def test_a_body_that_never_fits_is_refused_and_charged_nothing(stage):
    app = stage.app(total(BYTES, 10_000), behind=whole())
    answer = stage.ask(app)
    assert answer.status == 429 and b"x" * 9 not in answer.body
    assert held(stage, app) == {"bytes_out": (0, 0)}


def test_what_is_left_of_a_limit_is_served_to_the_last_byte(stage):
    app = stage.app(total(BYTES, SIZE), behind=whole())
    assert [stage.ask(app).status for _ in range(2)] == [200, 429]
    assert held(stage, app) == {"bytes_out": (SIZE, 0)}


@pytest.mark.parametrize("more", [{"method": "HEAD"}, {"status": 204}, {"status": 304}, {"status": 500}])
def test_a_response_without_a_body_and_one_that_failed_are_not_held(stage, more):
    size = SIZE if more.get("status") == 500 else 0
    behind = Sending(size, told=SIZE, status=more.pop("status", 200))
    app = stage.app(total(BYTES, 10_000), behind=behind)
    assert stage.ask(app, **more).status == behind.status
    assert held(stage, app) == {"bytes_out": (size, 0)}


def test_a_limit_that_may_finish_and_one_in_shadow_refuse_nothing(stage):
    plain = BUILT_IN_METERS["bytes_out"]
    priced = replace(BYTES, name="credits", source="sum", sum=Sum({"bytes_out": MILLION}), parts=(plain,))
    for limits in ([total(plain, 10)], [total(BYTES, 10, shadow=True)], [total(plain, 10), total(priced, 2 * SIZE)]):
        app = stage.app(*limits, behind=whole())
        assert stage.ask(app).status == 200


def test_bytes_are_held_by_their_price_where_a_sum_counts_them(stage):
    priced = replace(
        BYTES, name="credits", source="sum", sum=Sum({"bytes_out": MILLION // 1_000, "requests": MILLION}),
        parts=(BYTES, BUILT_IN_METERS["requests"]),
    )  # fmt: skip
    app = stage.app(total(priced, 301), behind=whole(begins=5))
    assert sorted(at_once(stage, app, 5)) == [200, 200, 429, 429, 429]
    # Two answers; the requests that were let in and refused count as requests.
    assert held(stage, app) == {"credits": (2 * 101 + 3, 0)}


def test_a_client_that_leaves_is_charged_for_what_was_sent_and_the_rest_is_free_again(stage):
    app = stage.app(total(BYTES, SIZE), behind=Sending(*[SIZE // 10] * 10, told=SIZE))
    client = Client(leaves=3, how="os error")

    async def story() -> None:
        with pytest.raises(OSError, match="went away"):
            await app(stage.scope(), client.receive, client.send)

    stage.run(story())
    assert held(stage, app) == {"bytes_out": (SIZE * 3 // 10, 0)}


def test_while_a_long_body_is_sent_nobody_else_gets_what_it_needs(stage):
    gate = stage.gate(total(BYTES, 15 * SIZE // 10))
    told = slowly(gate)

    class Renewed(Sending):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await send(self.start())
            for message in self.bodies():
                await send(message)
                # A beat of the renewals, as in each third of a lease.
                await scope["headgate"].renewed()
                await rested()
                used, still = stage.balances(gate)["bytes_out"]
                seen.append(used + still)

    seen: list[int] = []
    app = HeadgateMiddleware(Renewed(*[SIZE // 10] * 10, told=SIZE), gate=gate)
    assert stage.ask(app).status == 200
    assert min(seen) >= SIZE and max(seen) <= 15 * SIZE // 10
    assert stage.balances(gate) == {"bytes_out": (SIZE, 0)} and ["Extend"] in told


def test_what_is_held_ahead_is_asked_for_once(stage):
    app = stage.app(total(BYTES, 9 * SIZE), behind=Sending(*[SIZE // 100] * 100, told=SIZE))
    told = slowly(app._entry.gate)
    stage.ask(app)
    assert told == [["Reserve"], ["Extend"], ["Settle"]]


def test_a_store_that_is_not_heard_refuses_nobody(stage):
    app = stage.app(total(BYTES, 10_000), behind=whole())
    transact = app._entry.gate.store.transact

    async def deaf(commands: Any, now: Any = None) -> Any:
        if type(commands[0]).__name__ == "Extend":
            raise StoreError("no answer", transient=True, unknown=True)
        return await transact(commands, now)

    app._entry.gate.store.transact = deaf
    assert stage.ask(app).status == 200
    assert held(stage, app) == {"bytes_out": (SIZE, 0)}


@given(
    limit=st.integers(1_000, 60_000),
    bodies=st.lists(
        st.tuples(st.lists(st.integers(0, 9_000), min_size=1, max_size=8), st.booleans()), min_size=1, max_size=6
    ),
    late=st.booleans(),
)
def test_whatever_is_sent_side_by_side_is_charged_and_more_than_there_is_only_by_what_waits_for_nothing(
    limit, bodies, late
):
    stage = Stage()

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        parts, tells = bodies[int(scope["path"][1:])]
        await Sending(*parts, told=sum(parts) if tells else 0)(scope, receive, send)

    async def one(at: int, client: Client) -> None:
        with suppress(OSError):
            await app(stage.scope(f"/{at}"), client.receive, client.send)

    async def story() -> list[Client]:
        clients = [Client() for _ in bodies]
        await asyncio.gather(*[one(at, client) for at, client in enumerate(clients)])
        await rested()
        return clients

    app = stage.app(total(BYTES, limit), behind=behind)
    if late:
        slowly(app._entry.gate)
    clients = [client for client in stage.run(story()) if client.messages[0]["status"] == 200]
    sent = sum(len(client.text) for client in clients)
    assert held(stage, app) == {"bytes_out": (sent, 0)}
    assert sent <= limit + NO_WAIT * len(clients)
    for client in clients:
        told = dict(client.messages[0]["headers"]).get(b"content-length")
        if told is not None and int(told) > NO_WAIT:
            assert client.whole == 1 and len(client.text) == int(told), "what was begun is sent to its end"


# --- without a length


class File(Sending):
    """An app that lets the server send a file."""

    def __init__(self, path: Path, *, parts: int = 0, **more: Any) -> None:
        super().__init__(**more)
        self.path, self.count = path, parts

    def bodies(self) -> Iterable[dict[str, Any]]:
        if not self.count:
            yield {"type": "http.response.pathsend", "path": str(self.path)}
            return
        size = self.path.stat().st_size // self.count
        with self.path.open("rb") as opened:
            for at in range(self.count):
                more = at < self.count - 1
                yield {
                    "type": "http.response.zerocopysend", "file": opened, "offset": at * size, "count": size,
                    "more_body": more,
                }  # fmt: skip


class Server(Client):
    """A server that sends files."""

    async def send(self, message: dict[str, Any]) -> None:
        self.messages.append(dict(message))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"x" * SIZE)
    return path


def served(stage: Any, app: HeadgateMiddleware) -> tuple[list[str], bool]:
    """The messages that reached the server, and whether it was left to end the response well."""
    server = Server()

    async def story() -> bool:
        try:
            await app(stage.scope(), server.receive, server.send)
        except OSError:
            return False
        return True

    well = stage.run(story())
    return [m["type"].removeprefix("http.response.") for m in server.messages if m.get("path") != ""], well


def test_a_file_of_which_no_length_is_told_is_held_before_the_server_gets_it(stage, file):
    app = stage.app(total(BYTES, SIZE), behind=File(file))
    assert served(stage, app) == (["start", "pathsend"], True)
    app = stage.app(total(BYTES, SIZE - 1), behind=File(file))
    assert stage.ask(app).status == 429
    assert held(stage, app) == {"bytes_out": (0, 0)}


def test_a_file_that_is_sent_in_parts_ends_where_the_limit_does(stage, file):
    app = stage.app(total(BYTES, SIZE // 2), behind=File(file, parts=4))
    assert served(stage, app) == (["start", "zerocopysend", "zerocopysend"], False)
    assert held(stage, app) == {"bytes_out": (SIZE // 2, 0)}


def test_a_file_whose_length_is_told_is_refused_before_it_begins(stage, file):
    app = stage.app(total(BYTES, SIZE - 1), behind=File(file, told=SIZE))
    assert stage.ask(app).status == 429


def test_a_first_part_that_is_large_waits_and_a_small_one_does_not(stage):
    for size, sent in ((NO_WAIT, NO_WAIT), (NO_WAIT + 1, 0)):
        app = stage.app(total(BYTES, 100), behind=Sending(size, 0))
        assert at_once(stage, app, 1) == [200 if sent else 429]
        assert held(stage, app) == {"bytes_out": (sent, 0)}


def test_a_start_waits_for_what_follows_it_and_that_of_a_stream_of_events_does_not(stage):
    began: list[int] = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        kind = scope["path"].removeprefix("/").encode()
        await send({**START, "headers": [(b"content-type", b"text/" + kind)]})
        began.append(len(client.messages))
        await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
        began.append(len(client.messages))
        await send({"type": "http.response.body", "body": b""})

    app = stage.app(total(BYTES), behind=behind)
    for path in ("/plain", "/event-stream"):
        client = Client()
        stage.run(app(stage.scope(path), client.receive, client.send))
        assert client.text == b"data: x\n\n" and client.whole == 1
    assert began == [0, 2, 1, 2]


def test_a_refusal_that_comes_between_start_and_body_is_still_said(stage, limits, rows):
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await spend(scope, rows=2_000)

    app = stage.app(total(BYTES), limits.total("rows", rows), behind=behind)
    answer = stage.ask(app)
    assert answer.status == 429 and answer.json["violated-policies"] == ["rows"]


# --- through a framework


@pytest.mark.parametrize("kind", ["text", "file"])
def test_a_framework_sees_no_more_of_a_refusal_than_a_client_that_went_away(stage, file, kind, caplog):
    caplog.set_level("INFO")

    async def endpoint(request: Any) -> Any:
        return FileResponse(file) if kind == "file" else PlainTextResponse("x" * SIZE)

    gated = Middleware(HeadgateMiddleware, gate=stage.gate(total(BYTES, SIZE - 1)))
    app = Starlette(routes=[Route("/", endpoint)], middleware=[gated])
    assert stage.ask(app).status == 429
    assert "headgate.cut" in caplog.text and "Traceback" not in caplog.text
