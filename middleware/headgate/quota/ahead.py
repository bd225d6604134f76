"""What is known of a request before it is served: who is charged, how much is held, which thing it names.

Law: what the request itself says is believed as far as it goes: it may announce an amount, choose a factor, name a
thing. Of several words for one amount the largest counts, for nobody knows which of them the app goes by. What it
does not say is held as the policy has it, so that silence makes nothing cheaper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from headgate.quota.balance import SAFE
from headgate.quota.facts import Call, Group, Principal
from headgate.quota.meter import MILLION, Meter

Digest = Callable[[tuple[str, ...]], bytes]
"""Makes a subject's storage digest of its parts; keyed, so that nothing readable is at rest."""

REQUEST_SCOPES = frozenset({"ip", "route"})
"""Scopes that a principal alone does not tell; so do all sources (`header.X`) but claims."""


def subject_of(
    per: Sequence[str],
    principal: Principal,
    group: Group | None,
    call: Call | None,
    scopes: Mapping[str, str],
) -> tuple[str, ...]:
    """The parts of the subject that is charged: (scope, value, scope, value, …).

    A caller nobody vouches for has no key, org or group: it is charged by its network under each of them.

    >>> subject_of(["org", "ip"], Principal("k1", "acme"), None, Call(Principal("k1", "acme"), network="192.0.2.7"), {})
    ('org', 'acme', 'ip', '192.0.2.7')
    """  # noqa: E501
    parts: list[str] = []
    for scope in per:
        if principal.anonymous and scope in {"key", "org", "group"}:
            parts += "ip", call.network if call else ""
        elif scope == "key":
            parts += "key", principal.key
        elif scope == "org":
            parts += "org", principal.org
        elif scope == "group":
            # A group of one is written by its org's name: what it used before it was linked stays its own.
            parts += ("org" if group is None else "group"), (principal.org if group is None else group.id)
        elif scope == "ip":
            parts += "ip", call.network if call else ""
        elif scope == "route":
            parts += "route", (call.route or call.paths[0]) if call else ""
        else:
            source = scopes.get(scope, scope)
            parts += scope, (call or Call(principal)).value(source)
    return tuple(parts)


def varies(meter: Meter, scopes: Mapping[str, str]) -> bool:
    """Whether what a meter holds depends on the request."""
    if meter.sum is not None:
        by = meter.sum.by
        return (by != "" and needs_request(by, scopes)) or any(varies(part, scopes) for part in meter.parts)
    announced = meter.source == "bytes_in" or meter.reserve_from or meter.reserve_times
    return bool(announced) or meter.things not in {"", "app"}


def needs_request(scope: str, scopes: Mapping[str, str]) -> bool:
    """Whether a scope's value is not known of the principal alone."""
    if scope in {"key", "org", "group"}:
        return False
    return scope in REQUEST_SCOPES or not scopes.get(scope, scope).startswith("claim.")


def reserved(meter: Meter, call: Call, factor: int = MILLION) -> int:
    """How much is held before serving: what the request itself announces, else the meter's `reserve`; so many times
    as it wants answers. Never more than the meter charges at most. Of a sum, what its parts hold, weighed, times
    `factor` (millionths).

    >>> reserved(Meter("rows", "app", reserve=10), Call(Principal("k", "o")))
    10
    >>> body = {"max_tokens": "100", "max_completion_tokens": "400", "n": "3"}
    >>> call = Call(Principal("k", "o"), lookup=lambda source, name: body.get(name, ""))
    >>> sources = ("body.max_tokens", "body.max_completion_tokens", "body.max_output_tokens")
    >>> reserved(Meter("tokens", "app", reserve_from=sources, reserve_times=("body.n",)), call)
    1200
    """
    if meter.sum is not None:
        return meter.bounded(meter.sum.summed({part.name: reserved(part, call) for part in meter.parts}, factor))
    if meter.known_before:
        return 1
    if meter.source == "bytes_in":
        announced = amount_of(call.lookup("header", "content-length"))
    else:
        announced = max([amount_of(call.value(source)) for source in meter.reserve_from], default=NOT_NAMED)
    one = meter.reserve if announced == NOT_NAMED else announced
    # None wanted is none named: an app that takes 0 for its own default answers all the same.
    return meter.bounded(one * max([1, *[amount_of(call.value(source)) for source in meter.reserve_times]]))


NOT_NAMED = -1


def amount_of(text: str) -> int:
    """The amount that a value of a request names, at most 2^53 - 1; `NOT_NAMED` where it is no whole number.

    >>> amount_of("400"), amount_of("4e2"), amount_of("-1"), amount_of("9" * 5_000) == SAFE
    (400, -1, -1, True)
    """
    # `isdecimal` alone would take other scripts' digits. Seventeen are past any amount, and Python refuses thousands.
    if not (text.isascii() and text.isdecimal()):
        return NOT_NAMED
    return min(int(text), SAFE) if len(text) < 17 else SAFE


def factor_of(meter: Meter, call: Call, group: Group | None, scopes: Mapping[str, str]) -> int:
    """The factor (millionths) of a sum: chosen by what the request says, or by who makes it. Of any other meter, 1.

    By `route`, the largest that any form of the path has, and the template: what is not sure is charged.

    >>> from headgate.quota.meter import Sum
    >>> credits = Meter("credits", "sum", sum=Sum({}, "claim.tier", (("gold", 500_000),)))
    >>> factor_of(credits, Call(Principal("k", "o", claims={"tier": "gold"})), None, {})
    500000
    """
    if meter.sum is None:
        return MILLION
    if not meter.sum.by:
        return meter.sum.default
    if meter.sum.by == "route":
        return max([meter.sum.factor(form) for form in (*call.paths, *([call.route] if call.route else []))])
    return meter.sum.factor(subject_of((meter.sum.by,), call.principal, group, call, scopes)[1])


def thing(digest: Digest, meter: str, value: str) -> bytes:
    """What is kept of one thing that a meter counts, as the request or the app names it: eight bytes of its digest.

    By the meter, not by who asks: what two orgs have taken is one thing when they turn out to be one operator.
    """
    return digest(("thing", meter, "value", value))[:8]
