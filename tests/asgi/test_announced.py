"""What a request announces over the whole way, by the ready-made policy of an LLM API."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from asgi.upstream import JSON, START, rested, usage
from headgate.asgi import HeadgateMiddleware
from headgate.gate import Gate
from headgate.policy import load
from headgate.quota.facts import Principal
from headgate.stores import open_store

READY = Path(__file__).parents[2] / "policies" / "llm-api.yaml"
AT_ONCE, SAID, MINUTE = 30, 50_000, 800_000


class Generous:
    """An app that answers with `SAID` tokens, whatever was asked for, once all who ask at once have been decided."""

    served = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await rested()
        self.served += 1
        body = json.dumps({"choices": [], "usage": usage(5, SAID)}).encode()
        await send({**START, "headers": JSON})
        await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize(
    "announced",
    [
        {"max_tokens": SAID},
        {"max_completion_tokens": SAID},
        {"max_output_tokens": SAID},
        {"max_tokens": 1, "max_completion_tokens": SAID},
        {"max_tokens": SAID, "max_completion_tokens": None, "max_output_tokens": "some"},
        {"max_tokens": 400, "n": 125},
        {"max_completion_tokens": 400, "n": 1, "best_of": 125},
        {"n": 50},
    ],
    ids=json.dumps,
)
def test_by_whatever_word_it_is_announced_no_more_is_served_at_once_than_a_minute_has(
    stage: Any, announced: dict[str, Any]
) -> None:
    scale = stage.gate().directory
    scale.principals = {b"alice": Principal("k_alice", "acme", "scale")}
    gate = Gate(load(READY), open_store("memory://", clock=stage.clock), (b"p",), directory=scale, clock=stage.clock)
    app = HeadgateMiddleware(behind := Generous(), gate=gate)
    body = json.dumps({"model": "m", "messages": [], **announced}).encode()

    async def at_once() -> list[int]:
        asked = [stage.asked(app, "/v1/chat/completions", method="POST", body=[body]) for _ in range(AT_ONCE)]
        return [one.status for one in await asyncio.gather(*asked)]

    assert sorted(stage.run(at_once())) == [200] * 16 + [429] * (AT_ONCE - 16)
    assert behind.served * SAID == MINUTE
    assert stage.balances(gate)["month"] == (16 * (5 + 5 * SAID), 0)
