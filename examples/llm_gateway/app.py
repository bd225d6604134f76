"""A small LLM API behind headgate, in the shapes that OpenAI's and Anthropic's own clients read: chat completions,
Responses, messages, embeddings; plain and streamed.

The app knows nothing of limits, and reports nothing to headgate: its answers tell what they took, as every such API's
do, and headgate reads it there. Everything about quotas stands in policy.yaml.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import shapes
from asked import Asked, Unfit, asked, embedded
from generator import ENDS, Generator, direction, from_corpus
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

Form = Callable[[Served], shapes.Shape]


class AnswerStream(StreamingResponse):
    """Server-sent events whose end is noted, also when the client goes away before it."""

    def __init__(self, served: Served, shape: shapes.Shape) -> None:
        headers = {**served.headers, "cache-control": "no-store"}
        super().__init__(_events(served, shape), media_type="text/event-stream", headers=headers)
        self.served = served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream the answer."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.served.ended()


def chat(served: Served) -> shapes.Shape:
    """Each chunk tells the counts so far, so that a stream which breaks off is known to the token."""
    return shapes.Chat(served.id, served.asked.model, served.asked.with_usage, running=True)


def response(served: Served) -> shapes.Shape:
    """OpenAI's Responses."""
    return shapes.Responses(served.id, served.asked.model)


def message(served: Served) -> shapes.Shape:
    """Anthropic's messages."""
    return shapes.Messages(served.id, served.asked.model)


def answering(form: Form) -> Callable[[Request], Any]:
    """An endpoint that answers in one of the shapes."""

    async def answered(request: Request) -> Response:
        try:
            wanted: Asked = asked(await _body(request), MODELS)
        except Unfit as fault:
            return _error(fault, form)
        served = Served(request, wanted)
        shape = form(served)
        served.begun()
        if wanted.stream:
            return AnswerStream(served, shape)
        # A plain answer is generated to its end even if nobody waits for it any more, and so is charged in full.
        try:
            text = "".join([token async for token in _tokens(served)])
        finally:
            served.ended()
        return JSONResponse(shape.plain(text, served.counts, served.finish), headers=served.headers)

    return answered


async def embed(request: Request) -> Response:
    """POST /v1/embeddings"""
    try:
        model, texts, count = embedded(await _body(request), MODELS)
    except Unfit as fault:
        return _error(fault, chat)
    return JSONResponse(shapes.embeddings(model, [direction(text) for text in texts], shapes.Counts(count)))


async def models(request: Request) -> Response:
    """GET /v1/models"""
    return JSONResponse({"object": "list", "data": [_model(name) for name in MODELS]})


async def model(request: Request) -> Response:
    """GET /v1/models/{name}"""
    name = request.path_params["name"]
    if name not in MODELS:
        return _error(Unfit(f"no such model; there are {', '.join(MODELS)}", 404, "model_not_found"), chat)
    return JSONResponse(_model(name))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": shapes.CREATED, "owned_by": "examples"}


def _error(fault: Unfit, form: Form) -> Response:
    if form is message:
        kind = "not_found_error" if fault.status == 404 else "invalid_request_error"
        return JSONResponse({"type": "error", "error": {"type": kind, "message": str(fault)}}, fault.status)
    error = {"message": str(fault), "type": "invalid_request_error", "param": None, "code": fault.code}
    return JSONResponse({"error": error}, fault.status)


async def _tokens(served: Served) -> AsyncIterator[str]:
    for token in MODELS[served.asked.model].continued(served.asked.prompt, served.asked.most):
        await asyncio.sleep(PACE)
        served.generated(last=token in ENDS)
        yield token


async def _events(served: Served, shape: shapes.Shape) -> AsyncIterator[bytes]:
    said = []
    yield shape.opened(served.counts)
    async for token in _tokens(served):
        said.append(token)
        yield shape.part(token, served.counts)
    yield shape.closed("".join(said), served.counts, served.finish)


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
        Route("/v1/chat/completions", answering(chat), methods=["POST"]),
        Route("/v1/responses", answering(response), methods=["POST"]),
        Route("/v1/messages", answering(message), methods=["POST"]),
        Route("/v1/embeddings", embed, methods=["POST"]),
        Route("/v1/models", models),
        Route("/v1/models/{name}", model),
    ]
    return Starlette(routes=routes, middleware=[Middleware(HeadgateMiddleware)])


app = build()
