"""A model's API that does as it is told: the four shapes of answers, with the counts and in the chunks that a test
writes down. It has the same forms as examples/llm_gateway, whose module it takes them from.

Law: ground truth is what stands here: the requests that came in, the counts that were reported, the chunks that were
handed to the server before the client was gone. It knows nothing of limits.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

GATEWAY = Path(__file__).parents[2] / "examples" / "llm_gateway"


def _of_the_example(name: str) -> ModuleType:
    """A module of the example, by a name of its own: the example's folder is not put on the path."""
    known = f"llm_gateway_{name}"
    if known not in sys.modules:
        spec = spec_from_file_location(known, GATEWAY / f"{name}.py")
        assert spec is not None and spec.loader is not None
        sys.modules[known] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[known])
    return sys.modules[known]


shapes = _of_the_example("shapes")
Counts = shapes.Counts

WORD = "tick"
"""One chunk's text: four bytes are one token by the estimate, so that what is estimated is exact here."""


@dataclass(frozen=True)
class Script:
    """What is answered. `chunks` of `text` each; `counts` is what is reported of them (None: one token a chunk, five
    of input). `stall`: after so many chunks it waits until the client is gone; `pause`: seconds between two chunks;
    `running`: a chat's chunks report as they go; `silent`: nothing is reported; `status`: an error instead."""

    chunks: int = 40
    text: str = WORD
    counts: Any = None
    stall: int | None = None
    pause: float = 0.0
    running: bool = False
    silent: bool = False
    status: int = 200

    @property
    def reported(self) -> Any:
        """What the answer took, by its own account."""
        return self.counts or Counts(input=5, output=self.chunks)


@dataclass
class Asked:
    """One request that reached it: where, with what, and how many chunks had left when it was over."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    sent: int = 0
    over: bool = False


@dataclass
class Upstream:
    """The app. `script` is what it does next; `asked` is what it was asked, in order."""

    script: Script = field(default_factory=Script)
    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        posts = {
            "/v1/chat/completions": self._answer,
            "/v1/responses": self._answer,
            "/v1/messages": self._answer,
            "/v1/embeddings": self._embeddings,
        }
        routes = [Route(path, endpoint, methods=["POST"]) for path, endpoint in posts.items()]
        self.app = Starlette(routes=[*routes, Route("/v1/models", _models)])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI 3 says."""
        await self.app(scope, receive, send)

    def plays(self, **script: Any) -> Script:
        """What it does from now on; what is not said is as by default."""
        self.script = Script(**script)
        return self.script

    @property
    def last(self) -> Asked:
        """The last request that came."""
        return self.asked[-1]

    async def _answer(self, request: Request) -> Response:
        script, asked = self.script, await self._heard(request)
        if script.status != 200:
            return JSONResponse({"error": {"message": "no", "type": "server_error", "code": None}}, script.status)
        shape = _shape(asked, script)
        if asked.body.get("stream") is True:
            return _Stream(shape, script, asked)
        answer = shape.plain(script.text * script.chunks, script.reported)
        if script.silent:
            del answer["usage"]
        asked.sent, asked.over = script.chunks, True
        return JSONResponse(answer)

    async def _embeddings(self, request: Request) -> Response:
        asked = await self._heard(request)
        texts = asked.body["input"]
        vectors = [[0.5, 0.25] for _ in (texts if isinstance(texts, list) else [texts])]
        asked.over = True
        return JSONResponse(shapes.embeddings(asked.body["model"], vectors, self.script.reported))

    async def _heard(self, request: Request) -> Asked:
        asked = Asked(request.scope["path"], await request.json(), dict(request.headers))
        self.asked.append(asked)
        return asked


class _Stream(StreamingResponse):
    """An answer in events; that it is over is noted whatever ended it."""

    def __init__(self, shape: Any, script: Script, asked: Asked) -> None:
        super().__init__(_events(shape, script, asked), media_type="text/event-stream")
        self.asked = asked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.asked.over = True


def _shape(asked: Asked, script: Script) -> Any:
    model = asked.body.get("model", "m")
    if asked.path == "/v1/messages":
        return shapes.Messages("1", model)
    if asked.path == "/v1/responses":
        return shapes.Responses("1", model)
    options = asked.body.get("stream_options") or {}
    return shapes.Chat("1", model, bool(options.get("include_usage")) and not script.silent, script.running)


async def _events(shape: Any, script: Script, asked: Asked) -> AsyncIterator[bytes]:
    """The chunks. One is counted as sent when it is handed on: between that and the server nothing waits."""
    whole = script.reported
    yield shape.opened(whole._replace(output=0))
    for number in range(script.chunks + 1):
        if number == script.stall:
            await asyncio.Event().wait()  # the client is going; that cancels us
        if number == script.chunks:
            break
        asked.sent += 1
        yield shape.part(script.text, whole._replace(output=asked.sent))
        await asyncio.sleep(script.pause)
    if not script.silent or isinstance(shape, shapes.Chat):
        yield shape.closed(script.text * script.chunks, whole)


async def _models(request: Request) -> Response:
    return JSONResponse({"object": "list", "data": []})


__all__ = ["Asked", "Counts", "Script", "Upstream", "replace", "shapes"]
