"""What a framework's own router makes of a request, told before it routes.

Law: the framework's router is asked, nothing is guessed. Where it cannot be asked, or fails, nothing is told, and
limits match the path alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.routing import Match

from headgate.asgi.middleware import App, Receive, Scope, Send

Found = tuple[str, Mapping[str, Any]]
"""A template, "" where it cannot be told, and the parameters of the path."""

Ask = Callable[[Scope], Found | None]
"""What a router makes of a scope: None for no route. What it raises counts as not told."""


class Routed:
    """An app, and its router to ask: `routes` is what `asgi/routes.py` looks for in an app.

    >>> from headgate.asgi.routes import routed
    >>> app = Routed(None, lambda scope: ("/records/{id}", {"id": 7}) if scope["path"] == "/records/7" else None)
    >>> routed(app, {"path": "/records/7"}), routed(app, {"path": "/"})
    (('/records/{id}', {'id': 7}), ('(none)', {}))
    """

    __slots__ = ("_app", "_ask")

    def __init__(self, app: App, ask: Ask) -> None:
        self._app = app
        self._ask = ask

    @property
    def routes(self) -> list[Told]:
        """One route for each time of asking: it is whichever the router chooses."""
        return [Told(self._ask)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, as ASGI 3 says."""
        await self._app(scope, receive, send)


class Told:
    """The route that a router chooses for one request, in the shape of Starlette's."""

    __slots__ = ("_ask", "path")

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self.path = ""

    def matches(self, scope: Scope) -> tuple[Match, dict[str, Any]]:
        """Whether there is one; then `path` is its template."""
        found = self._ask(scope)
        if found is None:
            return Match.NONE, {}
        self.path, params = found
        return Match.FULL, {"path_params": params}
