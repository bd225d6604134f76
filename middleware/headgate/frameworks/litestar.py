"""Litestar: `from headgate.frameworks import litestar as gate`.

    app = Litestar([search], plugins=[gate.HeadgatePlugin()])

    @get("/search", guards=[gate.spends("search", cost=5)])
    async def search(request: Request, q: str) -> list[str]: ...

Law: every route that Litestar serves is decided, and decided once. The middleware stands in the stack of each route,
before everything else there and inside CORS, so Litestar has chosen the route by then and says which: limits see its
template (`/records/{id}`). What Litestar has no route for it answers itself, with 404 or 405, and no limit counts it;
`HeadgateMiddleware(Litestar(…))` counts that too, and is told no templates.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from headgate.asgi.metering import SCOPE_KEY
from headgate.asgi.middleware import PREFIX, App, Receive, Scope, Send
from headgate.errors import Denied
from headgate.frameworks import missing
from headgate.frameworks.documents import NAMES, REFERENCES, RESPONSES
from headgate.frameworks.routing import Found, Routed
from headgate.frameworks.spending import Checked, Cost, Named, Spending, marked, spendings
from headgate.gate import Gate
from headgate.settings import Settings

try:
    from litestar import Litestar, MediaType, Request, Response, asgi
    from litestar.config.app import AppConfig
    from litestar.connection import ASGIConnection
    from litestar.exceptions import NotFoundException
    from litestar.handlers import BaseRouteHandler
    from litestar.openapi.spec import Components, Operation, Reference
    from litestar.plugins import InitPlugin, ReceiveRoutePlugin
    from litestar.routes import ASGIRoute, BaseRoute, HTTPRoute, WebSocketRoute
except ImportError as fault:
    raise missing("Litestar", "litestar") from fault

__all__ = ["HeadgatePlugin", "spends"]

ONWARD = "headgate.onward"
"""Where in the scope the rest of a route's own stack is found: the middleware is one, the stacks are many."""


class HeadgatePlugin(InitPlugin, ReceiveRoutePlugin):
    """headgate in a Litestar app: `Litestar([…], plugins=[HeadgatePlugin()])`.

    It brings the middleware, headgate's own pages (`/headgate/v1/usage`), its start and stop in the app's lifespan,
    the check at the start that the policy counts what guards spend, and the responses 401, 429 and 503 in the
    OpenAPI document. `gate` and `settings` are those of `HeadgateMiddleware`; without them everything comes from the
    environment. A handler reports with `charge(request, …)` and `touch(request, …)`.
    """

    def __init__(self, *, gate: Gate | None = None, settings: Settings | None = None) -> None:
        self._given = gate is not None
        self._settings = settings
        self._routes: list[BaseRoute] = []
        self._middleware = Checked(Routed(_onward, _chosen), asked=self._asked, gate=gate, settings=settings)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Litestar's: take a place in the app that is being made. Raises SettingsError for a wrong setting."""
        before: Any = self._before  # Litestar's scopes and messages are typed one by one, ours are any mappings
        app_config.middleware.insert(0, before)
        app_config.lifespan.insert(0, self._lived)
        app_config.exception_handlers.setdefault(Denied, _answered_for)
        if app_config.logging_config is not None:
            app_config.logging_config.disable_stack_trace.add(Denied)
        prefix = PREFIX if self._given else (self._settings or Settings()).prefix.rstrip("/")
        if prefix:
            # The mount is one level down: at the prefix itself Litestar's would take `/headgates` too.
            app_config.route_handlers.append(asgi(prefix, copy_scope=False)(_no_page))
            app_config.route_handlers.append(asgi(prefix + "/v1", is_mount=True, copy_scope=False)(_no_page))
        if (documented := app_config.openapi_config) is not None:
            theirs = documented.components if isinstance(documented.components, list) else [documented.components]
            ours = {name: RESPONSES[status] for status, name in NAMES.items()}
            documented.components = [Components(responses=ours), *theirs]  # type: ignore[arg-type]  # JSON as it is
        return app_config

    def receive_route(self, route: BaseRoute) -> None:
        """Litestar's: look at a route; say of its operations in the OpenAPI document that they may be refused."""
        self._routes.append(route)
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                handler.operation_class = _refusable(handler.operation_class)

    def _before(self, app: App) -> App:
        """The middleware before one route's stack."""

        async def headgate(scope: Scope, receive: Receive, send: Send) -> None:
            if not getattr(scope.get("route_handler"), "is_mount", False):
                scope[ONWARD] = app
                await self._middleware(scope, receive, send)
                return
            # Litestar has cut the mount's path away, and limits are written by the whole one.
            raw = scope.get("raw_path")
            whole = {**scope, "path": unquote(raw.split(b"?")[0].decode("latin-1")) if raw else scope["path"]}

            async def onward(told: Scope, receive: Receive, send: Send) -> None:
                if SCOPE_KEY in told:
                    scope[SCOPE_KEY] = told[SCOPE_KEY]
                await app(scope, receive, send)

            whole[ONWARD] = onward
            await self._middleware(whole, receive, send)

        return headgate

    @asynccontextmanager
    async def _lived(self, _: Litestar) -> AsyncIterator[None]:
        try:
            await self._middleware.start()
            yield
        finally:
            await self._middleware.stop()

    def _asked(self) -> Iterator[Named]:
        for route in self._routes:
            for handler in _handlers(route):
                methods = ", ".join(sorted(getattr(handler, "http_methods", ()))) or "WebSocket"
                for guard in handler.resolve_guards():
                    for spending in spendings(guard):
                        yield Named(spending, f"{methods} {route.path}")


def spends(
    meter: str, cost: Cost = 1
) -> Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], Awaitable[None]]:
    """A guard that charges `cost` units of a meter before the handler runs: `guards=[spends("search", cost=5)]`.

    `cost`: units, or a function of the connection (async or not) that says how many. For a handler, a controller, a
    router or the whole app; what several layers spend adds up. Without headgate before the app it does nothing.

    Raises AmountError (a ValueError) for a cost that is no amount. A meter that the policy does not count ends the
    app's start.
    """
    spending = Spending(meter, cost)

    async def spent(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        await spending.spent(connection)

    marked(spent, spending)
    return spent


def _handlers(route: BaseRoute) -> list[BaseRouteHandler]:
    if isinstance(route, HTTPRoute):
        return list(route.route_handlers)
    return [route.route_handler] if isinstance(route, ASGIRoute | WebSocketRoute) else []


async def _onward(scope: Scope, receive: Receive, send: Send) -> None:
    """The app behind the one middleware: the stack of the route that Litestar has chosen."""
    await scope[ONWARD](scope, receive, send)


def _chosen(scope: Scope) -> Found:
    """The route that Litestar has chosen; of a mount nothing is told."""
    if getattr(scope.get("route_handler"), "is_mount", False):
        return "", {}
    return scope["path_template"] or "/", scope["path_params"]


async def _no_page(scope: Any, receive: Any, send: Any) -> None:
    """Under headgate's prefix, where headgate itself did not answer: its policy is disabled."""
    raise NotFoundException


def _answered_for(request: Request[Any, Any, Any], denied: Exception) -> Response[None]:
    """What stands in for a refusal until the middleware puts it in its place, and keeps Litestar from logging it as a
    fault."""
    return Response(None, status_code=503, media_type=MediaType.TEXT)


def _refusable(kind: type[Operation]) -> type[Operation]:
    """The same class of operation, which names our responses beside its own."""
    if hasattr(kind, "headgate"):
        return kind

    @dataclass
    class Refusable(kind):  # type: ignore[misc, valid-type]
        """An operation that may be refused."""

        def __post_init__(self) -> None:
            ours = {status: Reference(ref) for status, ref in REFERENCES.items()}
            self.responses = {**ours, **(getattr(self, "responses", None) or {})}

    Refusable.headgate = True
    return Refusable
