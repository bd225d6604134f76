"""Who is charged decides which value of a limit holds, and not who asks.

Law: a balance is read through one window at a time. What counts by key goes by the key's plan; what counts by org by
the plans of that org's keys; what counts by group by those of its orgs: of several values the largest, once, never
their sum. Else two callers who share a balance would run two windows over it by turns, and each turn would forget
what the other's window remembers. Where nobody is the owner (by address, route or header alone), all callers have
one value: the policy's compiler sees to that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from headgate.quota.balance import FOREVER, Verb
from headgate.quota.calendar import Calendar
from headgate.quota.facts import Group, Principal

Value = Verb | Calendar | None
"""A limit's value for one plan: a verb, a calendar quota still to be resolved, or None for `unlimited`."""

OWNERS = ("key", "org", "group")
"""The scopes that name an owner, the narrowest first: it decides."""


@dataclass(frozen=True, slots=True)
class Override:
    """A dated exception: for one org or key, other values for some limits (None: unlimited), until an instant."""

    subject: str
    name: str
    limits: frozenset[str]
    value: Mapping[str, Value]
    until: int
    reason: str


class Owner(NamedTuple):
    """Who answers for what one limit counts: the plans whose values it may have, the names (`("org", "acme")`) under
    which an exception may be made for it, and the billing anchor (microseconds) of its windows."""

    plans: frozenset[str]
    names: frozenset[tuple[str, str]]
    anchor: int | None


class Valued(NamedTuple):
    """The value that holds, until when (microseconds) that is certain, and the exceptions that made it."""

    value: Value
    until: int
    overrides: tuple[Override, ...] = ()


def owner_of(per: Collection[str], principal: Principal, org: Group, group: Group | None) -> Owner:
    """Who answers for a limit that counts by `per`; `org` is the principal's org as a group of one.

    >>> acme = Group("acme", frozenset({"acme"}), frozenset({"pro"}), anchor=7)
    >>> owner_of(["org"], Principal("k1", "acme", "free"), acme, None).plans
    frozenset({'pro'})
    """
    own = frozenset({("key", principal.key), ("org", principal.org)})
    scope = next((scope for scope in OWNERS if scope in per), "")
    if scope in {"", "key"}:
        return Owner(frozenset({principal.plan}), own, principal.anchor if scope else None)
    them = group if scope == "group" and group is not None else org
    return Owner(them.plans, frozenset({("org", name) for name in them.orgs}), them.anchor)


def valued(limit: str, values: Mapping[str, Value], overrides: Sequence[Override], owner: Owner, now: int) -> Valued:
    """The value of a limit for its owner at `now`: what its plans say, or what exceptions say instead.

    Of several exceptions the largest holds; in a group of which some have none, so does what their plans say.
    Raises KeyError for a plan without a value: no value is not the same as `unlimited`.
    """
    usual = largest(values, owner.plans)
    ours = tuple([o for o in overrides if limit in o.limits and now < o.until and (o.subject, o.name) in owner.names])
    if not ours:
        return Valued(usual, FOREVER)
    found = [largest(override.value, owner.plans) for override in ours]
    orgs = {name for subject, name in owner.names if subject == "org"}
    if len(orgs) > 1 and not orgs <= {override.name for override in ours}:
        found.append(usual)
    return Valued(max(found, key=_size), min(override.until for override in ours), ours)


def largest(values: Mapping[str, Value], plans: Iterable[str]) -> Value:
    """The largest of the plans' values; of two that are as large, always the same one.

    Raises KeyError for a plan without a value.
    """
    return max([values[plan if plan in values else ""] for plan in sorted(plans)], key=_size)


def _size(value: Value) -> int:
    return value.capacity if value is not None else FOREVER
