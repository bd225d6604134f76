"""What reaches a real client when a limit ends a response in the middle: uvicorn, with both of its parsers."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import uvicorn
import websockets
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware

from asgi.upstream import SSE, START, total
from headgate.asgi import HeadgateMiddleware
from headgate.quota.meter import BUILT_IN_METERS

BYTES = replace(BUILT_IN_METERS["bytes_out"], overrun="cut")
MESSAGES = replace(BUILT_IN_METERS["messages"], overrun="cut")


class Outer(BaseHTTPMiddleware):
    async def dispatch(self, request: Any, call_next: Any) -> Any:
        return await call_next(request)


async def stream(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    headers = {"/events": SSE, "/told": [(b"content-length", b"160")]}.get(scope["path"], [])
    await send({**START, "headers": headers})
    for _ in range(10):
        await send({"type": "http.response.body", "body": b"data: 12345678\n\n", "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def served(app: Any, http: str) -> Any:
    config = uvicorn.Config(app, port=0, http=http, log_level="critical", lifespan="off")  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(server.serve([listening]))
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def heard(port: int, path: str) -> tuple[bytes, bytes, bool]:
    """The head, the body as it came over the wire, and whether the server hung up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    ask = f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer alice\r\naccept-encoding: gzip\r\n\r\n"
    writer.write(ask.encode())
    got, closed = b"", False
    try:
        while not closed and not got.endswith(b"0\r\n\r\n"):
            part = await asyncio.wait_for(reader.read(65_536), 30)
            got, closed = got + part, not part
    finally:
        writer.close()
    head, _, body = got.partition(b"\r\n\r\n")
    return head, body, closed


@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize("outer", [[], [Outer], [GZipMiddleware], [GZipMiddleware, Outer], [Outer, GZipMiddleware]])
def test_a_body_that_was_cut_is_seen_to_be_broken_off(stage, http, outer):
    async def story() -> None:
        app: Any = HeadgateMiddleware(stream, gate=stage.gate(total(BYTES, 64)))
        for layer in outer:
            app = layer(app)
        async with served(app, http) as port:
            head, body, closed = await heard(port, "/plain")
            assert b" 200 " in head and b"chunked" in head
            assert closed and not body.endswith(b"0\r\n\r\n"), "no last chunk: the client knows that it is not all"

    asyncio.run(story())


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_a_body_whose_length_was_told_is_shorter_than_that(stage, http):
    async def story() -> None:
        async with served(HeadgateMiddleware(stream, gate=stage.gate(total(BYTES, 64))), http) as port:
            _, body, closed = await heard(port, "/told")
            assert closed and body == b"data: 12345678\n\n" * 4

    asyncio.run(story())


@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize("outer", [[], [Outer]])
def test_a_stream_of_events_that_was_cut_ends_as_one(stage, http, outer):
    async def story() -> None:
        app: Any = HeadgateMiddleware(stream, gate=stage.gate(total(BYTES, 64)))
        for layer in outer:
            app = layer(app)
        async with served(app, http) as port:
            _, body, closed = await heard(port, "/events")
            assert body.count(b"12345678") == 4 and b"event: error" in body
            assert body.endswith(b"0\r\n\r\n") and not closed, "and the connection is good for the next request"

    asyncio.run(story())


def test_a_websocket_is_closed_with_the_code_of_a_policy(stage):
    async def story() -> None:
        async with served(HeadgateMiddleware(stream, gate=stage.gate(total(MESSAGES, 3))), "auto") as port:
            headers = {"authorization": "Bearer alice"}
            async with websockets.connect(f"ws://127.0.0.1:{port}/", additional_headers=headers) as line:
                for _ in range(3):
                    await line.send("hi")
                    assert await line.recv() == "hi"
                await line.send("hi")
                with pytest.raises(websockets.ConnectionClosedError) as closed:
                    await line.recv()
                assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008

    asyncio.run(story())
