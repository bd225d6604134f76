"""What an endpoint says of itself: what it used, what it handed out, and what it is about to spend.

Law: an endpoint may say it at any time while its request is under way, before and after the response has begun; what
it says counts whole or not at all. Where no headgate stands before the app, or its policy is disabled, nothing
happens, so that an app is tested without one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from headgate.asgi.metering.metered import SCOPE_KEY, Metered


def charge(request: Any, **units: int) -> None:
    """Report what an endpoint used: `charge(request, rows=12)`.

    `request` is a request or WebSocket of Starlette, FastAPI, Litestar, Django or Quart, or an ASGI scope. May be
    called any number of times while the request is under way, from the event loop or from a thread; amounts add up.
    It refuses nobody: what goes beyond what was held is owed, and the next request waits for it.

    Raises IdentityError for a meter that the policy does not let the app report, AmountError (a ValueError) for
    what is not a whole number of at least 0.

    >>> charge({"type": "http"}, rows=3)
    """
    metered = _found(request)
    if metered is not None:
        metered.charged(units)


def touch(request: Any, things: str | Iterable[str], meter: str = "") -> None:
    """Report which things were handed out: `touch(request, "doc:81723")`, `touch(request, ids)`.

    Each counts once in the limit's window, however often and by however many requests it is handed out. Things are
    kept as keyed digests alone. `meter` may be left out where one meter of the policy counts what the app touches.
    A response of status 400 or above has handed out nothing.

    Raises IdentityError for a meter that counts no different things, TypeError for a thing that is no text.

    >>> touch({"type": "http"}, ["doc:1", "doc:2", "doc:1"])
    """
    metered = _found(request)
    if metered is not None:
        metered.touched((things,) if isinstance(things, str) else things, meter)


async def spend(request: Any, **units: int) -> None:
    """Ask for what an endpoint is about to use, before it uses it: `await spend(request, search=5)`.

    It is charged from then on, within the request, and counted like what `charge` reports. Raises Denied where a
    limit refuses; then nothing is charged, and if the endpoint lets it pass and the response has not begun, headgate
    answers with the refusal in its place. Raises what `charge` raises, too.

    >>> import asyncio
    >>> asyncio.run(spend({"type": "http"}, search=5))
    """
    metered = _found(request)
    if metered is not None:
        await metered.spent(units)


def _found(request: Any) -> Metered | None:
    scope = request if isinstance(request, Mapping) else request.scope
    found: Metered | None = scope.get(SCOPE_KEY)
    return found
