"""The ledgers of a replay: what each request of a log would have met, had these policies been in force.

Law: the ledger's own `apply` decides, in log time, and a request is settled at the very instant at which it is
reserved, for a log does not say how long it lasted. There are two ledgers. In the first every org is a customer by
itself, as without linking. The second is that of the orgs that were linked: it begins where the first stands at the
link, and from then on they are charged as one. What is nobody's own (a limit by address alone) is read from the
first. So each request of a linked org has two verdicts, and the difference is what linking does.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from headgate.policy.compiled import Policy
from headgate.quota.ahead import Digest, thing
from headgate.quota.balance import FOREVER, Balance
from headgate.quota.change import NONE, Sketches
from headgate.quota.command import Command, Demand, Granted, Outcome, Place, Refusal, Refused, Reserve, Settle
from headgate.quota.facts import Call, Group, Principal
from headgate.quota.ledger import apply
from headgate.quota.match import Asked, Limit, Tariff
from headgate.quota.owner import OWNERS
from headgate.quota.things import MOST_THINGS, Things
from headgate.replay.callers import Callers
from headgate.replay.calls import Logged
from headgate.replay.entry import Entry
from headgate.replay.figures import Figures
from headgate.replay.instant import Step, charged, steps_of
from headgate.tariffs import Tariffs

ROOM = 200_000
"""Balances of a ledger after which those that are as good as untouched are dropped, and again at twice as many as are
left; and things that are kept digested."""

REMEMBERED = 50_000
"""Callers of which it is remembered what they ask; about 300 bytes each, and their tariffs are kept besides."""

PEPPER = b"of a ledger that is never kept"
"""Where a balance lies follows from it and nothing else, and no balance of a replay outlives it."""

ANY = Call(Principal("", ""))
"""Stands for a request where a tariff reads none."""


class Verdict(NamedTuple):
    """What was decided of one request: the ids of the limits that refused, and of those in shadow that would have."""

    refused: tuple[str, ...] = ()
    shadowed: tuple[str, ...] = ()


GRANTED = Verdict()
BOTH_GRANTED = (GRANTED, GRANTED)


class Quick(NamedTuple):
    """What each request of a caller asks until an instant, where that does not depend on the request."""

    principal: Principal
    until: int
    steps: tuple[Step, ...]


class Ledger:
    """One set of balances and sketches; `beneath` is read where it has none of its own.

    About 400 bytes a balance, of which a key or an org has one for each limit that counts by it.
    """

    def __init__(self, beneath: Ledger | None = None) -> None:
        self.balances: dict[Place, Balance | None] = {}
        self.sketches: dict[Place, Things | None] = {}
        self.read: Mapping[Place, Any] = self.balances
        self.drawn: Mapping[Place, Any] = self.sketches
        self._room = FOREVER
        if beneath is None:
            self._room = ROOM
        else:
            # What is dropped above would show again what lies beneath: there nothing is dropped.
            self.read, self.drawn = _Over(self.balances, beneath.balances), _Over(self.sketches, beneath.sketches)

    def parted(self, demands: Sequence[Demand], but: Container[Place]) -> None:
        """From now on these places are this ledger's own, as they stand: what happens beneath does not show here.
        Places `but` go on to be read there."""
        for demand in demands:
            place = demand.place
            if place not in self.balances and place not in but:
                self.balances[place] = self.read.get(place)
                self.sketches[place] = self.drawn.get(place)

    def apply(self, command: Command, now: int, but: Container[Place] = ()) -> Outcome:
        """Decide a command and keep what it changes, save at the places `but`."""
        outcome, balances, _, sketches = apply(self.read, None, command, now, self.drawn)
        self.write(balances, sketches, now, but)
        return outcome

    def write(
        self, balances: Mapping[Place, Balance], sketches: Sketches, now: int, but: Container[Place] = ()
    ) -> None:
        """Keep what has changed, save at the places `but`."""
        if but:
            balances = {place: balance for place, balance in balances.items() if place not in but}
        self.balances.update(balances)
        if sketches:
            self.sketches.update(sketches)
        if len(self.balances) > self._room:
            self._swept(now)

    def _swept(self, now: int) -> None:
        for place in [
            p for p, one in self.balances.items() if one is None or (one.until <= now and one.holds is None)
        ]:
            del self.balances[place]
            self.sketches.pop(place, None)
        self._room = max(ROOM, 2 * len(self.balances))


class _Over(Mapping[Place, Any]):
    """A mapping of which some entries are others; None stands for one that is not there."""

    def __init__(self, own: Mapping[Place, Any], beneath: Mapping[Place, Any]) -> None:
        self._own, self._beneath = own, beneath

    def get(self, place: Place, default: Any = None) -> Any:
        found = self._own.get(place)
        if found is None and place not in self._own:
            found = self._beneath.get(place)
        return default if found is None else found

    def __getitem__(self, place: Place) -> Any:
        found = self.get(place)
        if found is None:
            raise KeyError(place)
        return found

    def __iter__(self) -> Iterator[Place]:
        return iter([place for place in {**self._beneath, **self._own} if self.get(place) is not None])

    def __len__(self) -> int:
        return len(list(iter(self)))


class Ledgers:
    """Both ledgers, and which orgs are one customer in the second."""

    def __init__(self, policy: Policy, figures: Figures, callers: Callers) -> None:
        self._policy = replace(policy, limits=figures.limits)
        self._figures = figures
        self._callers = callers
        self._alone = Ledger()
        self._linked = Ledger(self._alone)
        self._tariffs, self._pooled = Tariffs((PEPPER,)), Tariffs((PEPPER,))
        self._policy_of: dict[str, Policy] = {}
        self._things: dict[tuple[str, str], bytes] = {}
        self._quick: dict[str, Quick] = {}
        self._rid = 0
        pooling = [limit for limit in figures.limits if "group" in limit.per]
        self.pools = bool(pooling)
        """Whether any limit counts by group, so that a link changes anything."""

    def decide(self, principal: Principal, entry: Entry) -> tuple[Verdict, Verdict]:
        """The verdicts on a request: with the groups that were found so far, and without any."""
        linked = self._policy_of.get(principal.org)
        if linked is not None:
            # First above, as long as nothing of this request stands beneath.
            with_groups = self._decided(self._linked, self._pooled, linked, principal, entry)
            return with_groups, self._decided(self._alone, self._tariffs, self._policy, principal, entry)
        quick = self._quick.get(principal.key)
        if quick is not None and quick.principal is principal and entry.at < quick.until:
            written = charged(self._alone.read, quick.steps, entry)
            if written is not None:
                self._alone.write(written, NONE, entry.at)
                return BOTH_GRANTED
        found = self._decided(self._alone, self._tariffs, self._policy, principal, entry)
        return found, found

    def pool(self, groups: Sequence[frozenset[str]], now: int) -> None:
        """From now on (microseconds) the orgs of each of these groups are one customer, and no others. An org that
        is in several is in the first."""
        if not self.pools:
            return
        policy_of: dict[str, Policy] = {}
        for orgs in groups:
            declared = [self._policy.group_of(org, now) for org in sorted(orgs)]
            whole = orgs.union(*[group.orgs for group in declared if group is not None])
            group = Group(f"group of {min(orgs)}", frozenset(whole.difference(policy_of)))
            if len(group.orgs) > 1:
                policy_of.update(dict.fromkeys(group.orgs, self._with(group)))
        for org in self._policy_of:
            policy_of.setdefault(org, self._policy)  # what it did in a group stays its own
        self._policy_of = policy_of

    def _with(self, group: Group) -> Policy:
        """The policy under which these orgs are one customer; the same object as long as they are the same orgs."""
        for org in group.orgs:
            before = self._policy_of.get(org)
            if before is not None and before.affiliated and before.affiliated[0][0] == group:
                return before
        return replace(self._policy, affiliated=((group, FOREVER), *self._policy.affiliated))

    def _decided(self, ledger: Ledger, tariffs: Tariffs, policy: Policy, who: Principal, entry: Entry) -> Verdict:
        now = entry.at
        kept = tariffs.of(who, policy, self._callers, now)
        tariff = kept.tariff
        if tariff.group is not None:
            # Who changes a plan gets another principal here: what was worked out for a group holds until its window.
            kept.until = min(tariff.until, policy.regrouped(now))
        if not kept.quiet:
            ahead = kept.ahead(now)
            for command in ahead:
                ledger.apply(command, now)
            kept.said(ahead, now)
        call = Logged(who, entry) if tariff.tests or tariff.varying else ANY
        demands, limits, lease = _whole(tariff.asked(call))
        if not demands:
            return GRANTED
        steps = steps_of(demands, limits, self._figures.used)
        nobodys: Container[Place] = ()
        if ledger is self._linked:
            nobodys = self._nobodys(demands, limits)
            ledger.parted(demands, nobodys)
        elif call is ANY and kept.quiet and steps is not None:
            self._remember(who, kept.until, steps)
        written = None if steps is None else charged(ledger.read, steps, entry)
        if written is not None:
            ledger.write(written, NONE, now, nobodys)
            return GRANTED
        self._rid += 1
        rid = self._rid.to_bytes(8, "big")
        outcome = ledger.apply(Reserve(rid, demands, lease), now, nobodys)
        assert isinstance(outcome, Granted | Refused), "a reservation is granted or refused"
        if type(outcome) is Refused:
            return Verdict(_names(outcome.refusals), _names(outcome.shadowed))
        if lease:
            missed = {refusal.limit for refusal in outcome.shadowed}
            pairs = zip(demands, limits, strict=True)
            held = [self._settled(d, m, who, entry, tariff) for d, m in pairs if d.hold and d.place[1] not in missed]
            ledger.apply(Settle(rid, tuple(held)), now, nobodys)
        return Verdict((), _names(outcome.shadowed)) if outcome.shadowed else GRANTED

    def _remember(self, who: Principal, until: int, steps: tuple[Step, ...]) -> None:
        """What each request of this caller asks until then, whatever it is."""
        if len(self._quick) >= REMEMBERED:
            self._quick.clear()
        self._quick[who.key] = Quick(who, until, steps)

    def _settled(self, demand: Demand, limit: Limit, who: Principal, entry: Entry, tariff: Tariff) -> Demand:
        """What a demand has used of what it holds, by the log's own figures."""
        meter = limit.meter
        if meter.things:
            named = dict.fromkeys(entry.resources[:MOST_THINGS]) if entry.resources else {}
            things = tuple(dict.fromkeys([self._thing(meter.name, value, tariff.digest) for value in named]))
            return demand._replace(amount=0, things=things)
        counted = self._figures.used[meter.name]
        if counted is not None:
            return demand.of(counted(entry))
        return demand.of(self._figures.summed(meter, entry, tariff.factor(meter, Logged(who, entry))))

    def _thing(self, meter: str, value: str, digest: Digest) -> bytes:
        found = self._things.get((meter, value))
        if found is None:
            if len(self._things) >= ROOM:
                self._things.clear()
            found = self._things[meter, value] = thing(digest, meter, value)
        return found

    @staticmethod
    def _nobodys(demands: Sequence[Demand], limits: Sequence[Limit]) -> Container[Place]:
        """The places among these that belong to no org: what a request does to them is written beneath."""
        pairs = zip(demands, limits, strict=True)
        return [demand.place for demand, limit in pairs if not any(scope in OWNERS for scope in limit.per)]


def _whole(asked: Asked) -> tuple[tuple[Demand, ...], tuple[Limit, ...], int]:
    """All that a request asks, what is charged at its org's own places besides too, with the limit of each."""
    if not asked.own:
        return asked.demands, asked.limits, asked.lease
    return asked.whole, (*asked.limits, *[limit for _, limit in asked.own]), asked.lease


def _names(refusals: Sequence[Refusal]) -> tuple[str, ...]:
    return tuple([refusal.limit for refusal in refusals])
