"""Django: `from headgate.frameworks import django as gate`.

    application = gate.wrapped(get_asgi_application())      # asgi.py

    @gate.spends("search", cost=5)                          # views.py
    def search(request): ...

Law: headgate stands before Django, not among its MIDDLEWARE: what it refuses never reaches Django. A view is served
alike whether it is `async` or runs in a thread. Limits see the template that the URLconf matches, as Django writes it
(`/records/<int:number>`), and the path. A URLconf that a middleware chooses for a request, or a language of
`i18n_patterns` other than the default one, is not foreseen: the request counts as one without a route.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import headgate
from headgate.asgi.middleware import App, Scope
from headgate.errors import Denied
from headgate.frameworks import missing
from headgate.frameworks.routing import Found, Routed
from headgate.frameworks.spending import Checked, Cost, Named, Spending, marked, spendings
from headgate.gate import Gate

if TYPE_CHECKING:
    from headgate.settings import Settings

try:
    from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction
    from django.core.handlers.asgi import get_script_prefix  # type: ignore[import-untyped]
    from django.http import HttpRequest, HttpResponse  # type: ignore[import-untyped]
    from django.urls import Resolver404, get_resolver  # type: ignore[import-untyped]
except ImportError as fault:
    raise missing("Django", "django") from fault

__all__ = ["Refusals", "aspend", "charge", "spend", "spends", "touch", "wrapped"]

View = TypeVar("View", bound=Callable[..., Any])

METHODS = ("get", "post", "put", "patch", "delete", "head", "options", "trace")


def wrapped(application: App, *, gate: Gate | None = None, settings: Settings | None = None) -> Checked:
    """Django's ASGI application behind headgate: `application = wrapped(get_asgi_application())`.

    `gate` and `settings` are those of `HeadgateMiddleware`. When the server starts, the URLconf is looked through: a
    view that spends a meter which the policy does not count ends the start. Where the server has no lifespan, the
    first request finds it and is answered with 503.
    """
    return Checked(Routed(application, _found), asked=_asked, gate=gate, settings=settings)


def charge(request: HttpRequest, **units: int) -> None:
    """Report what a view used: `charge(request, rows=12)`. See `headgate.charge`; a request that came without ASGI,
    as those of Django's own test client, counts nowhere.

    >>> charge(HttpRequest(), rows=12)
    """
    headgate.charge(_scope(request), **units)


def touch(request: HttpRequest, things: str | Iterable[str], meter: str = "") -> None:
    """Name what a view handed out: `touch(request, [str(row.pk) for row in rows])`. See `headgate.touch`."""
    headgate.touch(_scope(request), things, meter)


async def aspend(request: HttpRequest, **units: int) -> None:
    """Charge now, in an async view: `await aspend(request, search=5)`.

    Raises `Denied` where a limit refuses. Let it pass: headgate answers for it, and `Refusals` keeps it out of
    Django's log of faults.
    """
    await headgate.spend(_scope(request), **units)


def spend(request: HttpRequest, **units: int) -> None:
    """The same in a view that is not async, and so runs in a thread: `spend(request, search=5)`."""
    async_to_sync(aspend)(request, **units)


def spends(meter: str, cost: Cost = 1) -> Callable[[View], View]:
    """A view that costs something before it runs: `@spends("search", cost=5)`, async or not.

    `cost`: units, or a function of the request that says how many. Of a class-based view a method is decorated:
    `@method_decorator(spends("search"), name="get")`. Put it outside of caches, or a cached page costs nothing.

    Raises AmountError (a ValueError) for a cost that is no amount. A meter that the policy does not count ends the
    start (see `wrapped`).
    """
    spending = Spending(meter, cost)

    def around(view: View) -> View:
        charged = _async(view, spending) if iscoroutinefunction(view) else _threaded(view, spending)
        marked(charged, spending)
        return charged  # type: ignore[return-value]

    return around


class Refusals:
    """A Django middleware for views that call `spend` or `aspend` themselves: a refusal is no fault of the view, and
    is not logged as one. `MIDDLEWARE = ["headgate.frameworks.django.Refusals", …]`.

    What the caller reads is the same without it.
    """

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Django's: pass the request on."""
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Django's: stand in for a refusal until headgate puts it in its place; leave everything else alone."""
        return _stand_in() if isinstance(exception, Denied) else None


def _async(view: Callable[..., Any], spending: Spending) -> Callable[..., Any]:
    @wraps(view)
    async def charged(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            await _spent(spending, request)
        except Denied:
            return _stand_in()
        return await view(request, *args, **kwargs)

    return charged


def _threaded(view: Callable[..., Any], spending: Spending) -> Callable[..., Any]:
    @wraps(view)
    def charged(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            async_to_sync(_spent)(spending, request)
        except Denied:
            return _stand_in()
        return view(request, *args, **kwargs)

    return charged


async def _spent(spending: Spending, request: HttpRequest) -> None:
    if _scope(request):
        await spending.spent(request)


def _scope(request: HttpRequest) -> Any:
    """The ASGI scope of a request, also of one that Django REST framework has wrapped; nothing where it has none."""
    return getattr(request, "scope", None) or {}


def _stand_in() -> HttpResponse:
    response = HttpResponse(status=503)
    response._has_been_logged = True  # else Django says of every refusal that the service is unavailable
    return response


def _found(scope: Scope) -> Found | None:
    """What the URLconf makes of a request, by the part of the path that Django routes by."""
    try:
        found = get_resolver().resolve(scope["path"].removeprefix(get_script_prefix(scope)))
    except Resolver404:
        return None
    return "/" + found.route, found.kwargs


def _asked() -> Iterator[Named]:
    """What the views of the URLconf spend; it is imported for that, as it is for the first request."""
    yield from _within(get_resolver().url_patterns, "/")


def _within(patterns: Iterable[Any], prefix: str) -> Iterator[Named]:
    for pattern in patterns:
        path = prefix + str(pattern.pattern).lstrip("^").removesuffix("$")
        if hasattr(pattern, "url_patterns"):
            yield from _within(pattern.url_patterns, path)
            continue
        view = pattern.callback
        methods = [getattr(getattr(view, "view_class", None), name, None) for name in METHODS]
        for function in (view, *methods):
            for spending in spendings(function):
                yield Named(spending, path)
