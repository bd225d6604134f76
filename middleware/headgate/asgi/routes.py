"""Which route template an app will match, told before it routes.

Law: the app's own routes are asked, in their own order, by their own `matches`; nothing is guessed. An app that tells
no routes is matched by its paths alone, and so is a request whose route cannot be told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from starlette.routing import Match

Scope = MutableMapping[str, Any]
Found = tuple[str, Mapping[str, Any]]
"""A template and the parameters of the path."""

UNROUTED = "(none)"
"""The template of what no route matches: one for all, or each path that does not exist would be a route of its own
under `per: route`."""

DEEPEST = 32
"""Layers that are looked through: middleware around an app, mounts within mounts."""


def router_of(app: Any) -> Any:
    """The app that has routes, behind whatever middleware stands before it; None where there is none."""
    for _ in range(DEEPEST):
        if app is None or hasattr(app, "routes"):
            return app
        app = getattr(app, "app", None)
    return None


def routed(router: Any, scope: Scope) -> Found:
    """The template that the router will match, mounts' prefixes included, and the path's parameters.

    ("", {}) where it cannot be told: a route of an unknown kind, or one that fails.
    """
    try:
        found = _matched(router.routes, dict(scope), DEEPEST)
    except Exception:
        # Whatever a route of the app's own making raises here it raises again when the app routes by it.
        return "", {}
    return found if found is not None else (UNROUTED, {})


def _matched(routes: Iterable[Any], scope: Scope, depth: int) -> Found | None:
    partial: Found | None = None
    for route in routes:
        match, child = route.matches(scope)
        if match is Match.NONE:
            continue
        found = _within(route, {**scope, **child}, depth)
        if match is Match.FULL:
            return found
        partial = partial or found
    return partial


def _within(route: Any, scope: Scope, depth: int) -> Found:
    """Follows a match down: into a mount, a host, or a router that FastAPI included."""
    params = scope.get("path_params") or {}
    candidates = getattr(route, "effective_candidates", None)
    inner = candidates() if candidates is not None else getattr(route, "routes", None)
    own = str(getattr(getattr(route, "starlette_route", None), "path", "") or getattr(route, "path", ""))
    if inner and depth:
        below = _matched(inner, scope, depth - 1)
        if below is None:
            return UNROUTED, params
        return (own if candidates is None else "") + below[0], below[1]
    return (own + "/{path:path}" if inner is not None else own), params
