"""Quart: `from headgate.frameworks import quart as gate`.

    app = Quart(__name__)
    gate.install(app)

    @app.get("/search")
    @gate.spends("search", cost=5)
    async def search(): ...

Law: headgate stands before Quart's own ASGI application, so that an app is served as before (`app.run()`, `app:app`).
As Quart's `request` is the one that is being served, `charge`, `touch` and `spend` are about that one. Limits see the
rule that Quart will match (`/records/<int:number>`), and the path; where hosts or subdomains decide too, the path
alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial, wraps
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import headgate
from headgate.asgi.middleware import Scope
from headgate.errors import Denied
from headgate.frameworks import missing
from headgate.frameworks.routing import Found, Routed
from headgate.frameworks.spending import Checked, Cost, Named, Spending, marked, spendings
from headgate.gate import Gate

if TYPE_CHECKING:
    from headgate.settings import Settings

try:
    from quart import Quart, Response, current_app, has_websocket_context, request, websocket
    from werkzeug.exceptions import MethodNotAllowed, NotFound
except ImportError as fault:
    raise missing("Quart", "quart") from fault

__all__ = ["charge", "install", "scope", "spend", "spends", "touch"]


def install(app: Quart, *, gate: Gate | None = None, settings: Settings | None = None) -> Checked:
    """Put headgate before a Quart app: `install(app)`.

    `gate` and `settings` are those of `HeadgateMiddleware`. When the server starts, all views are looked through: one
    that spends a meter which the policy does not count ends the start. Gives back the middleware.
    """
    served: Any = app.asgi_app  # Quart's scopes and messages are typed one by one, ours are any mappings
    middleware = Checked(
        Routed(served, partial(_found, app)), asked=lambda: _asked(app), gate=gate, settings=settings
    )
    app.asgi_app = middleware  # type: ignore[method-assign, assignment]  # Quart's own way to wrap an app
    app.register_error_handler(Denied, _stand_in)
    return middleware


def scope() -> Any:
    """The ASGI scope of the request or WebSocket that is being served.

    Raises RuntimeError outside of both. A response that is generated bit by bit runs outside, unless it is made with
    `stream_with_context`: take the scope before, and use `headgate.charge(scope, …)`.
    """
    return websocket.scope if has_websocket_context() else request.scope


def charge(**units: int) -> None:
    """Report what the view used: `charge(rows=12)`. See `headgate.charge`."""
    headgate.charge(scope(), **units)


def touch(things: str | Iterable[str], meter: str = "") -> None:
    """Name what the view handed out: `touch(str(row["id"]) for row in rows)`. See `headgate.touch`."""
    headgate.touch(scope(), things, meter)


async def spend(**units: int) -> None:
    """Charge now: `await spend(search=5)`. Raises `Denied` where a limit refuses. Let it pass: headgate answers for
    it. In a view that is not async use `spends`."""
    await headgate.spend(scope(), **units)


def spends(meter: str, cost: Cost = 1) -> Callable[[Callable[..., Any]], Callable[..., Awaitable[Any]]]:
    """A view that costs something before it runs: `@spends("search", cost=5)`, below the route's decorator.

    `cost`: units, or a function of Quart's request (of the WebSocket, in a WebSocket's view) that says how many. The
    view may be async or not.

    Raises AmountError (a ValueError) for a cost that is no amount. A meter that the policy does not count ends the
    start (see `install`).
    """
    spending = Spending(meter, cost)

    def around(view: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        @wraps(view)
        async def charged(*args: Any, **kwargs: Any) -> Any:
            await spending.spent(websocket if has_websocket_context() else request)
            return await current_app.ensure_async(view)(*args, **kwargs)

        marked(charged, spending)
        return charged

    return around


async def _stand_in(denied: Denied) -> Response:
    """What stands in for a refusal until headgate puts that in its place; Quart logs no fault then."""
    return Response(status=503)


def _found(app: Quart, scope: Scope) -> Found | None:
    """What Quart's rules make of a request, by the part of the path that it routes by."""
    rules, root, path = app.url_map, scope.get("root_path", ""), scope["path"]
    path = path if path.startswith("/") else urlsplit(path).path
    if rules.host_matching or app.subdomain_matching:
        return "", {}
    if root:
        if path == root or not path.startswith(root):
            return None
        path = path.removeprefix(root)
    socket = scope["type"] == "websocket"
    try:
        rule, params = rules.bind("").match(path, scope.get("method", "GET"), return_rule=True, websocket=socket)
    except (NotFound, MethodNotAllowed):
        return None
    return rule.rule, params


def _asked(app: Quart) -> Iterator[Named]:
    for rule in app.url_map.iter_rules():
        for spending in spendings(app.view_functions.get(rule.endpoint)):
            yield Named(spending, rule.rule)
