"""Which limits apply to a request, and what they ask of the ledger.

Law: every limit that matches applies, and all of them pass or nothing is consumed; there is no order, no nesting
and no precedence. What can be known of a principal beforehand is worked out once, as its *tariff*: the lines of
the policy's table that hold for it, each with its window resolved to instants. A request then only picks the
lines whose conditions it meets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from headgate.quota.ahead import Digest, factor_of, needs_request, reserved, subject_of, thing, varies
from headgate.quota.balance import FOREVER, Verb
from headgate.quota.calendar import Calendar
from headgate.quota.command import Demand, Join, Place
from headgate.quota.facts import Call, Group, Principal
from headgate.quota.meter import Meter
from headgate.quota.owner import Override, Owner, Value, largest, owner_of, valued
from headgate.quota.things import MOST_THINGS
from headgate.quota.window import Max

Condition = Callable[[Call], bool]

CANDIDATE = "~candidate"
"""Ends the id under which a limit's candidate value keeps its own balance. Not a character of a limit's id."""

LEASE = 600_000_000
"""How long (microseconds) an amount is held for a request that is not heard of, where no `lease` says otherwise."""

CHOICES = 256
"""Choices of lines that are kept worked out for a principal, about 500 bytes each: with n conditions on what a caller
writes into headers there are 2^n, and a caller may try them all."""

WHOLE = 10_000
"""Shares (`rollout`, `slice`) are counted in hundredths of a percent."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One row of the policy's table.

    | field | meaning |
    | --- | --- |
    | `values` | by plan; the plan "" is the value for every plan that is not named |
    | `per` | names of scopes: `key org group ip route`, or sources such as `header.x-region` |
    | `applies` | the compiled `when` and `unless`; None for always |
    | `shadow` | decided and recorded, never refused |
    | `rollout` | share of orgs (of `WHOLE`) for which it is enforced; the rest is in shadow |
    | `candidate` | second values, decided in shadow beside the live ones; None for none |
    | `alerts` | percent of the capacity at which an event is sent, ascending |
    | `clause` | id of the sentence of the terms that it enforces, or "" |
    | `on_store_error` | `open`, `closed` or `local` |
    | `share` | `slice`: the part (of `WHOLE`) that a worker may hold pre-charged |
    | `conditions` | each test of `when` and `unless`: as it is written, and whether a call meets it |
    """

    id: str
    meter: Meter
    per: tuple[str, ...]
    values: Mapping[str, Value]
    applies: Condition | None = None
    shadow: bool = False
    rollout: int = WHOLE
    candidate: Mapping[str, Value] | None = None
    alerts: tuple[int, ...] = ()
    clause: str = ""
    on_store_error: str = "closed"
    share: int = 0
    deny_status: int = 429
    deny_message: str = ""
    conditions: tuple[tuple[str, Condition], ...] = ()


class Line(NamedTuple):
    """One limit as it stands for one principal: the window resolved, and the place if no request is needed.

    `name` is the id under which the balance lies: the limit's, or its candidate's. `fixed`: the demand, if it is the
    same for every request. `shared`: it is counted by a group of several orgs, and at the org's own place besides:
    `own`, if no request is needed to tell it."""

    limit: Limit
    name: str
    verb: Verb
    shadow: bool
    place: Place | None
    fixed: Demand | None
    shared: bool = False
    own: Place | None = None


class Asked(NamedTuple):
    """What one request asks: the demands, the limits that ask them in the same order, and how long (microseconds)
    what is held is kept for a worker that is not heard of; 0 where nothing is held, so that nothing is to settle.

    `own`: what is charged at the org's own places besides, where a group of several orgs is charged, and of which
    limit that is. Nobody is refused by it, and nobody is shown it. `whole`: all demands, the shown ones first."""

    demands: tuple[Demand, ...]
    limits: tuple[Limit, ...]
    lease: int
    own: tuple[tuple[Demand, Limit], ...] = ()
    whole: tuple[Demand, ...] = ()


@dataclass(frozen=True, slots=True)
class Tariff:
    """All lines that hold for one principal until `until` (microseconds): then a window ends or an exception.

    What a request asks is worked out once for each choice of lines that comes up, where it does not depend on the
    request in any other way; `memo` keeps those, at most `CHOICES`.
    """

    lines: tuple[Line, ...]
    until: int
    digest: Digest
    org: Group
    group: Group | None = None
    scopes: Mapping[str, str] = field(default_factory=dict)
    memo: dict[int, Asked] = field(default_factory=dict)
    counted: Group | None = field(init=False)
    always: int = field(init=False)
    tests: tuple[tuple[int, Condition], ...] = field(init=False)
    varying: int = field(init=False)

    def __post_init__(self) -> None:
        # A choice of lines is a number with a bit for each: those without a condition are chosen beforehand.
        bits = [(1 << at, line) for at, line in enumerate(self.lines)]
        put = object.__setattr__
        put(self, "counted", None if self.group is None else self.group.counted)
        put(self, "always", sum([bit for bit, line in bits if line.limit.applies is None]))
        put(self, "tests", tuple([(bit, line.limit.applies) for bit, line in bits if line.limit.applies is not None]))
        put(self, "varying", sum([bit for bit, line in bits if line.fixed is None]))

    def asked(self, call: Call) -> Asked:
        """What the call asks of each line that it meets."""
        choice = self.always
        for bit, applies in self.tests:
            if applies(call):
                choice |= bit
        if choice & self.varying:
            return self._asked(choice, call)
        kept = self.memo.get(choice)
        if kept is None:
            if len(self.memo) >= CHOICES:
                self.memo.clear()
            kept = self.memo[choice] = self._asked(choice, call)
        return kept

    def factor(self, meter: Meter, call: Call) -> int:
        """The factor (millionths) of a meter that is a sum, for a call; 1,000,000 of any other meter."""
        return factor_of(meter, call, self.group, self.scopes)

    def _asked(self, choice: int, call: Call) -> Asked:
        demands: list[Demand] = []
        limits: list[Limit] = []
        own: list[tuple[Demand, Limit]] = []
        subjects: dict[tuple[str, ...], bytes] = {}
        for at, line in enumerate(self.lines):
            if choice >> at & 1:
                demand = line.fixed or self._demand(line, call, subjects)
                if demand is not None:
                    demands.append(demand)
                    limits.append(line.limit)
                    if line.shared:
                        own.append((beside(demand, self._own(line, call, subjects)), line.limit))
        whole = (*demands, *[demand for demand, _ in own])
        return Asked(tuple(demands), tuple(limits), lease_of(demands), tuple(own), whole)

    def _own(self, line: Line, call: Call, subjects: dict[tuple[str, ...], bytes]) -> Place:
        """Where the org would be charged if it were in no group."""
        if line.own is not None:
            return line.own
        per = line.limit.per
        subject = subjects.get(("own", *per))
        if subject is None:
            parts = subject_of(per, call.principal, None, call, self.scopes)
            subject = subjects[("own", *per)] = self.digest(parts)
        return subject, line.name

    def _demand(self, line: Line, call: Call, subjects: dict[tuple[str, ...], bytes]) -> Demand | None:
        """What the call asks of a line; None of one that counts different things, where the call names none.

        `subjects`: the call's own, by what is counted by, as far as they are worked out: a digest costs five
        microseconds, and several limits count by the same.
        """
        limit = line.limit
        things: tuple[bytes, ...] = ()
        if limit.meter.things not in {"", "app"}:
            named = call.values(limit.meter.things)[:MOST_THINGS]
            if not named:
                return None
            things = tuple(dict.fromkeys([thing(self.digest, limit.meter.name, value) for value in named]))
        place = line.place
        if place is None:
            subject = subjects.get(limit.per)
            if subject is None:
                parts = subject_of(limit.per, call.principal, self.counted, call, self.scopes)
                subject = subjects[limit.per] = self.digest(parts)
            place = (subject, line.name)
        if things:
            return Demand(place, line.verb, 0, hold=True, shadow=line.shadow, things=things)
        meter = limit.meter
        amount = reserved(meter, call) if meter.sum is None else reserved(meter, call, self.factor(meter, call))
        return _demand(limit, place, line.verb, line.shadow, amount)


def beside(demand: Demand, own: Place) -> Demand:
    """What is charged at the org's own place besides: the same, whatever is free there, and out of no slice."""
    return Demand(own, demand.verb, demand.amount, demand.hold, demand.shadow, 0, demand.things, owed=True)


def lease_of(demands: Iterable[Demand]) -> int:
    """The shortest lease (microseconds) of what is held; 0 where nothing is.

    >>> lease_of([Demand((b"s", "streams"), Max(2, lease=9), 1, hold=True), Demand((b"s", "life"), Max(2, 5), 1)])
    9
    """
    return min([d.verb.lease if isinstance(d.verb, Max) else LEASE for d in demands if d.hold], default=0)


def _demand(limit: Limit, place: Place, verb: Verb, shadow: bool, amount: int) -> Demand:
    if isinstance(verb, Max):
        return Demand(place, verb, 1, hold=True, shadow=shadow)
    units = slice_of(verb, limit.share)
    return Demand(place, verb, amount, hold=not limit.meter.known_before, shadow=shadow, slice=units)


def slice_of(verb: Verb, share: int) -> int:
    """Units that a worker may hold pre-charged of a limit: `share` hundredths of a percent of what it grants.

    At least one unit where a share is wanted at all; but none of a limit that grants a single unit, for whoever held
    that would keep it from all others, and none of a `max`, whose places are given back.

    >>> from headgate.quota.window import Total
    >>> [slice_of(Total(amount), share=100) for amount in (6_000, 60, 1)], slice_of(Total(60), share=0)
    ([60, 1, 0], 0)
    """
    if not share or isinstance(verb, Max) or verb.capacity < 2:
        return 0
    return max(1, verb.capacity * share // WHOLE)


FRESH = 3_600_000_000
"""How long (microseconds) the length of a first-use window is taken as worked out."""


def tariff(
    limits: Iterable[Limit],
    overrides: Sequence[Override],
    principal: Principal,
    group: Group | None,
    now: int,
    *,
    digest: Digest,
    scopes: Mapping[str, str],
    lot: int,
    org: Group | None = None,
) -> Tariff:
    """Work out what the policy means for one principal at `now` (microseconds).

    `org`: the principal's org as a group of one, with the plans of all its keys; by default it has this one's.
    `lot` (0 ≤ lot < `WHOLE`) is the org's place in a staged rollout: stable for the org, drawn by its digest.
    """
    if org is None:
        org = Group(principal.org, frozenset({principal.org}), frozenset({principal.plan}), principal.anchor)
    lines: list[Line] = []
    until = FOREVER
    for limit in limits:
        owner = owner_of(limit.per, principal, org, group)
        value, ends, _ = valued(limit.id, limit.values, overrides, owner, now)
        until = min(until, ends)
        shadow = limit.shadow or lot >= limit.rollout
        for name, at, shadowed in ((limit.id, value, shadow), *_candidate(limit, owner)):
            verb, ends = _resolved(at, now, owner.anchor)
            until = min(until, ends)
            if verb is not None:
                lines.append(_line(limit, name, verb, shadowed, principal, group, digest, scopes))
    return Tariff(tuple(lines), until, digest, org, group, scopes)


def _candidate(limit: Limit, owner: Owner) -> tuple[tuple[str, Value, bool], ...]:
    if limit.candidate is None:
        return ()
    return ((limit.id + CANDIDATE, largest(limit.candidate, owner.plans), True),)


def _resolved(value: Value, now: int, anchor: int | None) -> tuple[Verb | None, int]:
    if isinstance(value, Calendar):
        quota = value.quota(now, anchor)
        # A window that opens at the first use has the length of a month from *then*: made anew every hour.
        return quota, quota.edges[2] if quota.edges else now + min(quota.length, FRESH)
    return value, FOREVER


def _line(
    limit: Limit,
    name: str,
    verb: Verb,
    shadow: bool,
    principal: Principal,
    group: Group | None,
    digest: Digest,
    scopes: Mapping[str, str],
) -> Line:
    shared = group is not None and "group" in limit.per and not principal.anonymous
    if principal.anonymous or any(needs_request(scope, scopes) for scope in limit.per):
        return Line(limit, name, verb, shadow, None, None, shared)
    counted = None if group is None else group.counted
    place = (digest(subject_of(limit.per, principal, counted, None, scopes)), name)
    own = (digest(subject_of(limit.per, principal, None, None, scopes)), name) if shared else None
    if not isinstance(verb, Max) and varies(limit.meter, scopes):
        return Line(limit, name, verb, shadow, place, None, shared, own)
    # What it asks is the same for every call of this principal, so that any call of it tells.
    call = Call(principal)
    amount = reserved(limit.meter, call, factor_of(limit.meter, call, group, scopes))
    return Line(limit, name, verb, shadow, place, _demand(limit, place, verb, shadow, amount), shared, own)


def joins(tariff: Tariff, digest: Digest) -> tuple[Join, ...]:
    """What has to be said before the first request of a group, limit by limit, so that linking gives nobody a fresh
    window: the group has used what its orgs have used, each at its own place.

    Limits that count the group by something else besides (`[group, model]`) have places that cannot be listed
    beforehand: there what is used from then on is shared.
    """
    if tariff.group is None:
        return ()
    said: list[Join] = []
    for line in tariff.lines:
        if line.place is not None and line.limit.per == ("group",):
            into = Demand(line.place, line.verb, 0, hold=bool(line.limit.meter.things))
            orgs = [into.at((digest(("org", org)), line.name)) for org in sorted(tariff.group.orgs)]
            said.append(Join(into, tuple(orgs)))
    return tuple(said)
