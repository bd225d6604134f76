"""The same small API in each framework: (stage, gate, cost, meter) -> an ASGI app. Without a gate there is no
headgate before it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from django.conf import settings

if not settings.configured:
    settings.configure(SECRET_KEY="for tests alone", ALLOWED_HOSTS=["*"], ROOT_URLCONF="frameworks.no_urls")


class Urls(SimpleNamespace):
    """A URLconf that is no module."""

    __hash__ = object.__hash__


def fastapi(stage: Any, gate: Any, cost: Any = 5, meter: str = "search") -> Any:
    from fastapi import Depends, FastAPI
    from starlette.requests import Request

    from headgate import charge, spend, touch
    from headgate.frameworks import fastapi as gates

    app = FastAPI()
    if gate is not None:
        gates.install(app, gate=gate)

    @app.get("/search", dependencies=[Depends(gates.dependency(meter, cost=cost))])
    async def search() -> str:
        stage.served.append("search")
        return "found"

    async def record(request: Request) -> str:
        charge(request, rows=1)
        touch(request, [request.path_params["number"]])
        return "a record"

    async def deep(request: Request) -> str:
        stage.served.append("begun")
        await spend(request, search=5)
        stage.served.append("done")
        return "deep"

    for function in (record, deep):
        # The annotations are names in this function, where FastAPI cannot look them up.
        function.__annotations__ = {"request": Request, "return": str}
    app.get("/records/{number}")(record)
    app.get("/deep")(deep)
    return app


def litestar(stage: Any, gate: Any, cost: Any = 5, meter: str = "search") -> Any:
    from litestar import Litestar, Request, get
    from litestar.config.cors import CORSConfig

    from headgate import charge, spend, touch
    from headgate.frameworks import litestar as gates

    async def search() -> str:
        stage.served.append("search")
        return "found"

    async def record(request: Any) -> str:
        charge(request, rows=1)
        touch(request, [request.path_params["number"]])
        return "a record"

    async def deep(request: Any) -> str:
        stage.served.append("begun")
        await spend(request, search=5)
        stage.served.append("done")
        return "deep"

    search.__annotations__ = {"return": str}
    for function in (record, deep):
        function.__annotations__ = {"request": Request, "return": str}
    plugins = [gates.HeadgatePlugin(gate=gate)] if gate is not None else []
    handlers = [
        get("/search", guards=[gates.spends(meter, cost=cost)])(search),
        get("/records/{number:str}")(record),
        get("/deep")(deep),
    ]
    return Litestar(handlers, plugins=plugins, cors_config=CORSConfig(allow_origins=["https://page.example"]))


def django(stage: Any, gate: Any, cost: Any = 5, meter: str = "search") -> Any:
    """Views that are not async."""
    from django.http import HttpResponse

    from headgate.frameworks import django as gates

    @gates.spends(meter, cost=cost)
    def search(request: Any) -> HttpResponse:
        stage.served.append("search")
        return HttpResponse("found")

    def record(request: Any, number: str) -> HttpResponse:
        gates.charge(request, rows=1)
        gates.touch(request, [number])
        return HttpResponse("a record")

    def deep(request: Any) -> HttpResponse:
        stage.served.append("begun")
        gates.spend(request, search=5)
        stage.served.append("done")
        return HttpResponse("deep")

    return _django(gate, search, record, deep)


def django_async(stage: Any, gate: Any, cost: Any = 5, meter: str = "search") -> Any:
    """Views that are."""
    from django.http import HttpResponse

    from headgate.frameworks import django as gates

    @gates.spends(meter, cost=cost)
    async def search(request: Any) -> HttpResponse:
        stage.served.append("search")
        return HttpResponse("found")

    async def record(request: Any, number: str) -> HttpResponse:
        gates.charge(request, rows=1)
        gates.touch(request, [number])
        return HttpResponse("a record")

    async def deep(request: Any) -> HttpResponse:
        stage.served.append("begun")
        await gates.aspend(request, search=5)
        stage.served.append("done")
        return HttpResponse("deep")

    return _django(gate, search, record, deep)


def _django(gate: Any, search: Any, record: Any, deep: Any) -> Any:
    from django.core.asgi import get_asgi_application
    from django.urls import path, set_urlconf

    from headgate.frameworks import django as gates

    settings.ROOT_URLCONF = Urls(
        urlpatterns=[path("search", search), path("records/<number>", record), path("deep", deep)]
    )
    settings.MIDDLEWARE = ["headgate.frameworks.django.Refusals"]
    set_urlconf(None)
    application = get_asgi_application()
    return application if gate is None else gates.wrapped(application, gate=gate)


def quart(stage: Any, gate: Any, cost: Any = 5, meter: str = "search") -> Any:
    from quart import Quart

    from headgate.frameworks import quart as gates

    app = Quart("stage")
    if gate is not None:
        gates.install(app, gate=gate)

    @app.get("/search")
    @gates.spends(meter, cost=cost)
    async def search() -> str:
        stage.served.append("search")
        return "found"

    @app.get("/records/<number>")
    async def record(number: str) -> str:
        gates.charge(rows=1)
        gates.touch([number])
        return "a record"

    @app.get("/deep")
    async def deep() -> str:
        stage.served.append("begun")
        await gates.spend(search=5)
        stage.served.append("done")
        return "deep"

    return app
