"""FastAPI: `from headgate.frameworks import fastapi as gate`.

    app = FastAPI()
    gate.install(app)

    @app.get("/search", dependencies=[Depends(gate.dependency("search", cost=5))])
    async def search(q: str): ...

Law: what a dependency spends is charged before the endpoint runs, in an `async` and in a plain one. A refusal is the
middleware's to answer; FastAPI's exception handlers see nothing of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from starlette.requests import HTTPConnection

from headgate.frameworks.documents import RESPONSES, described
from headgate.frameworks.spending import Checked, Cost, Named, Spending, marked, spendings
from headgate.gate import Gate

if TYPE_CHECKING:
    from fastapi import FastAPI

    from headgate.settings import Settings

__all__ = ["dependency", "documented", "install", "refusals"]

refusals: dict[int | str, dict[str, Any]] = {status: deepcopy(told) for status, told in RESPONSES.items()}
"""The responses 401, 429 and 503 for `responses=` of a route or a router: `@app.get("/x", responses=gate.refusals)`.
`documented` adds them to all routes at once."""

DEEPEST = 32
"""Mounts within mounts that are looked through."""


def install(app: FastAPI, *, gate: Gate | None = None, settings: Settings | None = None) -> None:
    """Put headgate before a FastAPI app: the middleware, the check of what its routes spend, the OpenAPI document.

    `gate` and `settings` are those of `HeadgateMiddleware`. Call it before you add CORS middleware: the last one
    added is the outermost, and a browser must be able to read a refusal. Where a `Depends(dependency(…))` of any
    route names a meter that the policy does not count, the start fails and says which.
    """
    app.add_middleware(Checked, asked=lambda: _asked(app.routes), gate=gate, settings=settings)
    documented(app)


def dependency(meter: str, cost: Cost = 1) -> Callable[[HTTPConnection], Awaitable[None]]:
    """A dependency that charges `cost` units of a meter before the endpoint runs.

    `cost`: units, or a function of the request (async or not) that says how many: `lambda request: …`. For HTTP and
    WebSocket routes, for one route or a whole router. FastAPI runs one and the same dependency once a request, so two
    charges are two calls of `dependency`. It runs them before it has looked at the parameters: a request that it then
    answers with 422 has been charged. Without headgate before the app nothing is.

    Raises AmountError (a ValueError) for a cost that is no amount. A meter that the policy does not count ends the
    start if headgate was put before the app by `install`; otherwise the request ends with IdentityError.

    >>> from fastapi import Depends, FastAPI
    >>> app = FastAPI()
    >>> @app.get("/search", dependencies=[Depends(dependency("search", cost=5))])
    ... async def search(q: str) -> list[str]:
    ...     return []
    """
    spending = Spending(meter, cost)

    async def spends(connection: HTTPConnection) -> None:
        await spending.spent(connection)

    marked(spends, spending)
    return spends


def documented(app: FastAPI) -> FastAPI:
    """The same app, whose OpenAPI document says of every route that it may be refused: 401, 429 and 503.

    A status that a route describes itself is left to it. Twice is the same as once.

    >>> from fastapi import FastAPI
    >>> app = FastAPI()
    >>> @app.get("/search")
    ... async def search() -> list[str]:
    ...     return []
    >>> sorted(documented(app).openapi()["paths"]["/search"]["get"]["responses"])
    ['200', '401', '429', '503']
    """
    before = app.openapi

    def openapi() -> dict[str, Any]:
        return described(before())

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend the document
    return app


def _asked(routes: Iterable[Any], prefix: str = "", depth: int = DEEPEST) -> Iterator[Named]:
    """What the dependencies of all routes spend, those of included routers and mounted apps too."""
    for route in routes:
        path = prefix + str(getattr(route, "path", ""))
        tree = getattr(route, "dependant", None)
        if tree is not None:
            methods = ", ".join(sorted(getattr(route, "methods", None) or {"WebSocket"}))
            for spending in _spent(tree):
                yield Named(spending, f"{methods} {path}")
        candidates = getattr(route, "effective_candidates", None)
        inner = candidates() if candidates is not None else getattr(route, "routes", None)
        if inner and depth:
            yield from _asked(inner, path if candidates is None else prefix, depth - 1)


def _spent(tree: Any) -> Iterator[Spending]:
    yield from spendings(tree.call)
    for dependency in tree.dependencies:
        yield from _spent(dependency)
