"""What an endpoint costs before it runs, and the check at the start that the policy counts it.

Law: a name that the policy does not count is found when the service starts, not when somebody calls. A cost is
charged before the endpoint runs, or the endpoint does not run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.asgi import HeadgateMiddleware, spend
from headgate.asgi.middleware import App, _Entry
from headgate.errors import IdentityError
from headgate.gate import Gate
from headgate.nearest import suggestion
from headgate.quota.meter import checked

if TYPE_CHECKING:
    from headgate.settings import Settings

Cost = int | Callable[[Any], int | Awaitable[int]]
"""Units, or a function of the framework's request that says how many."""

MARK = "__headgate__"
"""The attribute of a function under which it is found what it spends. `functools.wraps` hands it on."""


class Spending:
    """So many units of a meter, charged before an endpoint runs.

    `meter`: one that the policy lets the app report (`search: {from: app}`). `cost`: units, or a function of the
    request, async or not. Raises IdentityError for what is no name, AmountError for a cost that is no amount.
    """

    __slots__ = ("cost", "meter")

    def __init__(self, meter: str, cost: Cost = 1) -> None:
        if not isinstance(meter, str) or not meter:
            raise IdentityError(f"a meter has a name of its own; got {meter!r:.40}")
        if not callable(cost):
            checked(cost)
        self.meter = meter
        self.cost = cost

    async def spent(self, request: Any) -> None:
        """Charge it, now. Raises `Denied` where a limit refuses; the middleware answers for it."""
        cost = self.cost(request) if callable(self.cost) else self.cost
        await spend(request, **{self.meter: await cost if isawaitable(cost) else cost})


class Named(NamedTuple):
    """A spending, and where in the app it stands, in words for a person."""

    spending: Spending
    where: str


def marked(function: Any, spending: Spending) -> None:
    """Leave word in a function of what it spends, beside what it spends already."""
    setattr(function, MARK, (spending, *spendings(function)))


def spendings(function: Any) -> tuple[Spending, ...]:
    """What a function was marked with; nothing of what nobody has marked.

    >>> def search(): ...
    >>> marked(search, Spending("search", 5))
    >>> [(one.meter, one.cost) for one in spendings(search)], spendings(len)
    ([('search', 5)], ())
    """
    found = getattr(function, MARK, ())
    return found if isinstance(found, tuple) else ()


class Checked(HeadgateMiddleware):
    """The middleware, with a look at the start at all that the app spends.

    `asked` says what that is; it is called when the service has started, when all routes are known. A meter that the
    policy does not count ends the start with an IdentityError that names it. Where no lifespan comes, the first
    request finds it, and is answered with 503. With `mode: disabled` nothing is looked at.
    """

    def __init__(
        self,
        app: App,
        *,
        asked: Callable[[], Iterable[Named]],
        gate: Gate | None = None,
        settings: Settings | None = None,
    ) -> None:
        super().__init__(app, gate=gate, settings=settings)
        self._asked = asked
        self._looked_at: Gate | None = None

    async def start(self) -> None:
        """Start, for a framework that has a lifespan of its own. Raises what makes the start fail."""
        await self._started()

    async def stop(self) -> None:
        """Settle what is under way, and stop what was started on this event loop."""
        await self._stopped()

    async def _started(self) -> _Entry:
        entry = await super()._started()
        if self._looked_at is not entry.gate:
            if not entry.reads.disabled:
                check(self._asked(), entry.reads.reported)
            self._looked_at = entry.gate
        return entry


def check(asked: Iterable[Named], counted: Iterable[str]) -> None:
    """Raise an IdentityError that names everything which is spent and not counted.

    >>> check([Named(Spending("serach"), "GET /search")], ["rows", "search"])
    Traceback (most recent call last):
    headgate.errors.IdentityError: GET /search spends `serach`, and no limit counts a meter `serach` that the app reports; did you mean `search`? (there are: rows, search)
    """  # noqa: E501
    known = sorted(counted)
    wrong: dict[str, list[str]] = {}
    for spending, where in asked:
        if spending.meter not in known:
            wrong.setdefault(spending.meter, []).append(where)
    if wrong:
        there = ", ".join(known) or "none"
        raise IdentityError(
            "\n".join(_said(name, places, known) for name, places in wrong.items()) + f" (there are: {there})"
        )


def _said(name: str, places: list[str], known: list[str]) -> str:
    where = ", ".join(dict.fromkeys(places))
    hint = suggestion(name, known)
    return f"{where} spends `{name}`, and no limit counts a meter `{name}` that the app reports{hint}"
