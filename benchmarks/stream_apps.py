"""The apps that stream in benchmarks/streams.py, and the policy that stands before them.

All of them give one answer: a chat completion in chunks of one token, its usage at the end.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from headgate import Gate, HeadgateMiddleware, load
from headgate.directory import Callback
from headgate.stores import open_store

UPSTREAM = "STREAMS_UPSTREAM"
"""The variable that names the model's server to the gateway."""

BODY = b'{"model": "m", "stream": true, "messages": [{"role": "user", "content": "Who opens the gate?"}]}'
"""What is asked."""

HEAD = {
    "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG", "object": "chat.completion.chunk", "created": 1_741_570_283,
    "model": "gpt-4o-2024-08-06", "service_tier": "default", "system_fingerprint": "fp_fc9f1d7035",
}  # fmt: skip


def _event(**fields: Any) -> bytes:
    return f"data: {json.dumps({**HEAD, **fields}, separators=(',', ':'))}\n\n".encode()


def _part(text: str) -> bytes:
    return _event(choices=[{"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}])


PART = _part(" word")
"""One chunk: one token, in as many bytes as OpenAI's have."""


def last(chunks: int) -> bytes:
    """The chunk with the usage, and the end."""
    return _event(choices=[], usage={"prompt_tokens": 9, "completion_tokens": chunks}) + b"data: [DONE]\n\n"


def plain(chunks: int) -> ASGIApp:
    """A pure ASGI app that streams."""
    end = last(chunks)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(chunks):
            await send({"type": "http.response.body", "body": PART, "more_body": True})
            await asyncio.sleep(0)  # as a model's own pause: the streams take turns
        await send({"type": "http.response.body", "body": end, "more_body": False})

    return app


def _served(parts: Callable[[], AsyncIterator[bytes]]) -> ASGIApp:
    async def endpoint(request: Request) -> StreamingResponse:
        return StreamingResponse(parts(), media_type="text/event-stream")

    return Starlette(routes=[Route("/v1/chat/completions", endpoint, methods=["POST"])])


def starlette(chunks: int) -> ASGIApp:
    """The same by Starlette's StreamingResponse."""

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(chunks):
            yield PART
            await asyncio.sleep(0)
        yield last(chunks)

    return _served(parts)


def writing(chunks: int) -> ASGIApp:
    """The same, but each chunk is written when it is sent."""

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(chunks):
            yield _part(" word")
            await asyncio.sleep(0)
        yield last(chunks)

    return _served(parts)


def relaying(chunks: int) -> ASGIApp:
    """A gateway: it asks a model's server, whose address is in the environment, and hands on each event."""
    client = httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0), timeout=60)
    url = os.environ.get(UPSTREAM, "")

    async def parts() -> AsyncIterator[bytes]:
        async with client.stream("POST", url, content=BODY) as response:
            async for line in response.aiter_lines():
                if line:
                    yield line.encode() + b"\n\n"

    return _served(parts)


POLICY = """\
headgate: v1
policy: streams
mode: enforce
zone: UTC
on_store_error: closed
identify: {{key: [header.authorization.bearer], anonymous: refuse}}
meters:
  usage:         {{preset: openai-usage}}
  input_tokens:  {{reserve: 100}}
  output_tokens: {{reserve: {reserve}, overrun: cut}}
  credits:       {{sum: {{input_tokens: 1, output_tokens: 5}}}}
limits:
  rpm:     {{meter: requests, per: key, rate: 1000k/min}}
  itpm:    {{meter: input_tokens, per: org, rate: 1000M/min}}
  otpm:    {{meter: output_tokens, per: org, rate: 1000M/min}}
  streams: {{meter: streams, per: key, max: 1000, lease: 10min}}
  month:   {{meter: credits, per: group, quota: 1000G/month}}
"""


def metered(app: ASGIApp, reserve: str) -> ASGIApp:
    """The app behind five limits, of which three count the tokens of its answers, in memory."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "headgate.yaml")
        file.write_text(POLICY.format(reserve=reserve))
        policy = load(file)
    peppers = (b"bench" * 7,)
    directory = Callback(lambda secret: {"key": "k", "org": "o"}, peppers)
    return HeadgateMiddleware(app, gate=Gate(policy, open_store("memory://"), peppers=peppers, directory=directory))


BARE: dict[str, Callable[[int], ASGIApp]] = {
    "plain ASGI, ready chunks": plain,
    "Starlette, ready chunks": starlette,
    "writes its chunks": writing,
    "relays a model's": relaying,
}
"""The apps, by name; the last one needs a server."""
