"""An app that generates tokens, as the endpoints of an LLM API do: one token of four bytes a chunk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from headgate.asgi import HeadgateMiddleware
from headgate.errors import StoreError
from headgate.quota.match import Limit
from headgate.quota.meter import MILLION, Meter, Sum
from headgate.quota.window import Total

PRESET = "preset.openai-usage"
OUTPUT = Meter("output_tokens", PRESET, reserve=10, reserve_from=("body.max_tokens",))
INPUT = Meter("input_tokens", PRESET)
CREDITS = Meter(
    "credits", "sum", sum=Sum({"input_tokens": MILLION, "output_tokens": 5 * MILLION}), parts=(INPUT, OUTPUT)
)
CUT = replace(OUTPUT, overrun="cut")
SSE = [(b"content-type", b"text/event-stream; charset=utf-8")]
JSON = [(b"content-type", b"application/json")]
START = {"type": "http.response.start", "status": 200, "headers": []}


def total(meter: Meter, amount: int = 1_000, name: str = "", **more: Any) -> Limit:
    return Limit(name or meter.name, meter, ("key",), {"": Total(amount)}, **more)


def event(document: Any) -> bytes:
    text = document if isinstance(document, str) else json.dumps(document)
    return b"data: " + text.encode() + b"\n\n"


def token(text: str = "word") -> bytes:
    return event({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}]})


def usage(asked: int, said: int) -> dict[str, Any]:
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def last(asked: int, said: int) -> bytes:
    return event({"object": "chat.completion.chunk", "choices": [], "usage": usage(asked, said)})


class Stream:
    """An app that streams `chunks` tokens and what it used, and notes what it sent and what it was told."""

    def __init__(self, chunks: int = 40, *, asked: int = 7, reports: bool = True, headers: Any = None) -> None:
        self.chunks, self.asked, self.reports = chunks, asked, reports
        self.headers = SSE if headers is None else headers
        self.sent = 0
        self.faults: list[BaseException] = []

    def parts(self) -> Iterable[bytes]:
        yield from [token()] * self.chunks
        if self.reports:
            yield last(self.asked, self.chunks)
        yield event("[DONE]")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        try:
            await send({**START, "headers": self.headers})
            for part in self.parts():
                self.sent += 1
                await send({"type": "http.response.body", "body": part, "more_body": True})
                await asyncio.sleep(0)
            await send({"type": "http.response.body", "body": b""})
        except BaseException as fault:
            self.faults.append(fault)
            raise


class Client:
    """A server's side of one request: what reached the client, until it goes away."""

    def __init__(self, body: bytes = b"", leaves: int | None = None, how: str = "") -> None:
        self.messages: list[dict[str, Any]] = []
        self.body, self.leaves, self.how = body, leaves, how
        self.asked = False
        self.gone = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        if not self.asked:
            self.asked = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if self.gone.is_set():
            if self.how == "os error":
                raise OSError("the client went away")
            return  # as uvicorn does
        expected = "http.response.body" if self.messages else "http.response.start"
        if message["type"] != expected or self.whole:
            raise RuntimeError(f"expected {expected}, got {message['type']}")  # as uvicorn does
        self.messages.append(dict(message))
        if self.leaves is not None and len(self.parts) >= self.leaves:
            self.gone.set()
            if self.how == "os error":
                raise OSError("the client went away")

    @property
    def parts(self) -> list[bytes]:
        return [m["body"] for m in self.messages if m["type"] == "http.response.body" and m["body"]]

    @property
    def text(self) -> bytes:
        return b"".join(self.parts)

    @property
    def whole(self) -> int:
        """How often the response was ended as it should be."""
        return sum(m["type"] == "http.response.body" and not m.get("more_body", False) for m in self.messages)

    @property
    def tokens(self) -> int:
        return self.text.count(b'"content"')


def held(stage: Any, app: HeadgateMiddleware) -> dict[str, tuple[int, int]]:
    return stage.balances(app._entry.gate)


async def rested() -> None:
    """Let what goes on behind a request come to its end."""
    for _ in range(20):
        await asyncio.sleep(0)


def slowly(gate: Any, loses: int = 0) -> list[list[str]]:
    """Let the gate's store answer a turn of the loop later, as one over a network does; of the changes of reservation
    (settled and reserved at once) the answer to one is lost, though it was done. What it was told, by names."""
    transact, told = gate.store.transact, []

    async def later(commands: Any, now: Any = None) -> Any:
        await asyncio.sleep(0)
        found = await transact(commands, now)
        told.append([type(command).__name__ for command in commands])
        if told[-1] == ["Settle", "Reserve"] and told.count(told[-1]) == loses:
            raise StoreError("the answer was lost", transient=True, unknown=True)
        return found

    gate.store.transact = later
    return told
