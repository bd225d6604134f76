"""What a request leaves behind for linking, however it ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from asgi.upstream import total
from headgate.asgi import HeadgateMiddleware, touch
from headgate.asgi.metering.cutting import CutOff
from headgate.errors import StoreError
from headgate.policy.compiled import Linking
from headgate.quota.meter import BUILT_IN_METERS, Meter

BYTES = replace(BUILT_IN_METERS["bytes_out"], overrun="cut")
DOCS = Meter("docs", "distinct.app")


class Eye:
    """It notes what it is shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, list[str], Any]] = []

    def saw(self, policy: Any, call: Any, scope: Any, at: int, status: int, things: Any = ()) -> None:
        self.seen.append((call.principal.key, status, list(things), call.body))


@pytest.fixture
def eye() -> Eye:
    return Eye()


def watched(stage: Any, eye: Eye, app: Any, *limits: Any, **policy: Any) -> HeadgateMiddleware:
    gate = stage.gate(*limits, **policy)
    gate.eye = eye
    return HeadgateMiddleware(app, gate=gate)


async def answers(scope: Any, receive: Any, send: Any) -> None:
    """The status that the path names."""
    await receive()
    await send({"type": "http.response.start", "status": int(scope["path"][1:]), "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def keys_and_statuses(eye: Eye) -> list[tuple[str, int]]:
    return [(key, status) for key, status, _, _ in eye.seen]


@pytest.mark.parametrize("held", [False, True])
def test_each_request_is_seen_once_with_its_status(stage, limits, eye, held):
    app = watched(stage, eye, answers, limits.slots(9) if held else limits.rpm(9))
    for path in ("/200", "/404", "/500"):
        stage.ask(app, path)
    assert keys_and_statuses(eye) == [("k_alice", 200), ("k_alice", 404), ("k_alice", 500)]


def test_who_is_refused_is_seen_as_refused(stage, limits, eye):
    app = watched(stage, eye, answers, limits.rpm(1))
    assert stage.statuses(app, 2, "/200") == [200, 429]
    assert keys_and_statuses(eye) == [("k_alice", 200), ("k_alice", 429)]


def test_who_finds_no_store_is_not_seen_as_refused(stage, limits, eye):
    app = watched(stage, eye, answers, limits.rpm(1))

    async def away(*_: Any) -> Any:
        raise StoreError("away", transient=True)

    app._entry.gate.store.transact = away
    assert stage.ask(app, "/200").status == 503
    assert keys_and_statuses(eye) == [("k_alice", 503)]


@pytest.mark.parametrize("held", [False, True])
def test_an_app_that_fails_is_seen_to_have_failed(stage, limits, eye, held):
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("no")

    app = watched(stage, eye, fails, limits.slots(9) if held else limits.rpm(9))
    with pytest.raises(RuntimeError):
        stage.ask(app)
    assert keys_and_statuses(eye) == [("k_alice", 500)]


def test_a_response_that_a_limit_ends_is_seen_as_it_began(stage, eye):
    async def streams(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(10):
            await send({"type": "http.response.body", "body": b"x" * 4_096, "more_body": True})
            await asyncio.sleep(0)

    app = watched(stage, eye, streams, total(BYTES, 8_192))
    with pytest.raises(CutOff):
        stage.ask(app)
    assert keys_and_statuses(eye) == [("k_alice", 200)]


def test_what_was_handed_out_is_seen(stage, eye):
    async def hands_out(scope: Any, receive: Any, send: Any) -> None:
        touch(scope, "doc:7")
        touch(scope, iter(["doc:8", "doc:9"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    app = watched(stage, eye, hands_out, total(DOCS))
    stage.ask(app)
    assert eye.seen == [("k_alice", 200, ["doc:7", "doc:8", "doc:9"], None)]


def test_a_socket_is_seen_when_it_has_ended(stage, limits, eye):
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

    app = watched(stage, eye, echo, limits.slots(9))

    async def nothing(*_: Any) -> Any:
        return None

    asyncio.run(app(stage.scope(type="websocket"), nothing, nothing))
    assert keys_and_statuses(eye) == [("k_alice", 101)]


@pytest.mark.parametrize(("signals", "body"), [(("prompts",), {"prompt": "Hello."}), ((), None)])
def test_a_body_is_looked_at_where_the_policy_names_prompts(stage, limits, eye, signals, body):
    linking = Linking(signals=signals, linked=970_000)
    app = watched(stage, eye, answers, limits.rpm(9), linking=linking)
    stage.ask(app, "/200", method="POST", body=[b'{"prompt": ', b'"Hello."}'])
    assert eye.seen == [("k_alice", 200, [], body)]


def test_without_an_eye_nothing_is_noted(stage, limits):
    app = stage.app(limits.slots(9))
    assert stage.ask(app).status == 200
