"""A small LLM API behind headgate: chat completions, plain and streamed, in the shape that OpenAI's clients read.

The app knows nothing of limits. It only reports what it generates (`charge`), token by token while it streams.
Everything else about quotas stands in policy.yaml.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from asked import Unfit, asked
from generator import ENDS, Generator, from_corpus
from served import Served
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from headgate import HeadgateMiddleware

BODY_MOST = 64 * 1024
"""Bytes of the longest request body that is read."""

PACE = float(os.environ.get("TOKEN_SECONDS", "0.004"))
"""Seconds between two tokens: a model takes its time, and a stream that takes none could not be cut short."""

MODELS: Mapping[str, Generator] = {"brook-1": from_corpus(order=1), "brook-2": from_corpus(order=2)}


class CompletionStream(StreamingResponse):
    """Server-sent events whose end is noted, also when the client goes away before it."""

    def __init__(self, served: Served) -> None:
        headers = {**served.headers, "cache-control": "no-store"}
        super().__init__(_events(served), media_type="text/event-stream", headers=headers)
        self.served = served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream the answer."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.served.ended()


async def complete(request: Request) -> Response:
    """POST /v1/chat/completions"""
    try:
        served = Served(request, asked(await _body(request), MODELS))
    except Unfit as fault:
        return _error(str(fault), fault.code, fault.status)
    served.begun()
    if served.asked.stream:
        return CompletionStream(served)
    # A plain answer is generated to its end even if nobody waits for it any more, and so is charged in full.
    try:
        text = "".join([token async for token in _tokens(served)])
    finally:
        served.ended()
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": served.finish}
    answer = {**_head(served, "chat.completion"), "choices": [choice], "usage": served.usage}
    return JSONResponse(answer, headers=served.headers)


async def models(request: Request) -> Response:
    """GET /v1/models"""
    return JSONResponse({"object": "list", "data": [_model(name) for name in MODELS]})


async def model(request: Request) -> Response:
    """GET /v1/models/{name}"""
    name = request.path_params["name"]
    if name not in MODELS:
        return _error(f"no such model; there are {', '.join(MODELS)}", "model_not_found", 404)
    return JSONResponse(_model(name))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "examples"}


def _error(message: str, code: str, status: int) -> Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return JSONResponse({"error": error}, status)


def _head(served: Served, kind: str) -> dict[str, Any]:
    """What every object of one answer begins with."""
    return {"id": f"chatcmpl-{served.id}", "object": kind, "created": int(time.time()), "model": served.asked.model}


async def _tokens(served: Served) -> AsyncIterator[str]:
    for token in MODELS[served.asked.model].continued(served.asked.prompt, served.asked.most):
        await asyncio.sleep(PACE)
        served.generated(last=token in ENDS)
        yield token


async def _events(served: Served) -> AsyncIterator[str]:
    head = _head(served, "chat.completion.chunk")

    def event(delta: dict[str, str], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return f"data: {json.dumps({**head, 'choices': [choice]})}\n\n"

    yield event({"role": "assistant", "content": ""})
    async for token in _tokens(served):
        yield event({"content": token})
    yield event({}, served.finish)
    if served.asked.with_usage:
        yield f"data: {json.dumps({**head, 'choices': [], 'usage': served.usage})}\n\n"
    yield "data: [DONE]\n\n"


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > BODY_MOST:
                raise Unfit(f"the body is longer than {BODY_MOST} bytes", 413, "body_too_long")
    except ClientDisconnect:
        raise Unfit("the body did not arrive") from None
    return bytes(body)


def build() -> Starlette:
    """The app behind headgate, which finds its policy, store and pepper in the environment."""
    routes = [
        Route("/v1/chat/completions", complete, methods=["POST"]),
        Route("/v1/models", models),
        Route("/v1/models/{name}", model),
    ]
    return Starlette(routes=routes, middleware=[Middleware(HeadgateMiddleware)])


app = build()
