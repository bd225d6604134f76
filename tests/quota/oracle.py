"""A second ledger, kept the naive way: every event is written down, and what counts is computed from the laws.

It shares no arithmetic with `headgate.quota`: windows by membership, the rate as a leaky bucket in fractions, holds
as a list. It is slow, and it is what the real one is compared with. Its clock does not run backwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction

LATE = 600_000_000
REPEAT = 10_000_000

Where = tuple[bytes, str]


@dataclass(frozen=True)
class Law:
    """One verb in words: `kind`, how many units, and its window (microseconds)."""

    kind: str
    units: int
    window: int = 0
    burst: int = 0
    edges: tuple[int, ...] = ()

    @property
    def most(self) -> int:
        return self.units + self.burst


@dataclass
class Event:
    """Units that were used at an instant; negative ones were given back, and had been charged at `of`."""

    at: int
    units: int
    of: int = 0


@dataclass
class Lease:
    """What is held by one reservation; once it has lapsed, the event by which it was charged."""

    amount: int
    until: int
    step: int = 0
    charged: Event | None = None
    moved: Where | None = None


@dataclass
class Account:
    """All that ever happened at one place."""

    events: list[Event] = field(default_factory=list)
    leases: dict[bytes, Lease] = field(default_factory=dict)
    level: tuple[int, Fraction] = (0, Fraction(0))
    seen: list[tuple[int, bytes]] = field(default_factory=list)


@dataclass
class Ask:
    """A demand in words."""

    where: Where
    amount: int
    hold: bool
    shadow: bool
    things: frozenset[bytes] = frozenset()
    owed: bool = False

    @property
    def regardless(self) -> bool:
        return self.owed and not self.shadow


def rolled_off(law: Law, at: int) -> int:
    """When a unit used at an instant counts no more: a window after the end of its twenty-fourth of a window."""
    part = -(-law.window // 24)
    return (at // part + 1) * part + law.window


def used(law: Law, account: Account, now: int) -> Fraction:
    """What counts at an instant, by the definition of each verb."""
    events = sorted((event for event in account.events if event.at <= now), key=lambda event: event.at)
    if law.kind == "rate":
        return _backlog(law, account, events, now)
    if law.kind == "quota" and law.edges:
        opened = max(edge for edge in law.edges if edge <= now)
        return Fraction(sum(event.units for event in events if event.at >= opened))
    if law.kind == "quota":
        return Fraction(_since_first_use(law, events, now))
    if law.kind == "rolling":
        return Fraction(sum(event.units for event in events if rolled_off(law, event.at) > now))
    return Fraction(sum(event.units for event in events) if law.kind == "total" else 0)


def _backlog(law: Law, account: Account, events: list[Event], now: int) -> Fraction:
    pace = Fraction(law.units, law.window)
    at, level = account.level
    for event in events:
        level = max(Fraction(0), level - pace * (event.at - at))
        if event.units >= 0:
            level += event.units
        else:
            undrained = max(Fraction(0), -event.units - pace * (event.at - event.of))
            level = max(Fraction(0), level - undrained)
        at = event.at
    return max(Fraction(0), level - pace * (now - at))


def _since_first_use(law: Law, events: list[Event], now: int) -> int:
    opened, units = 0, 0
    for event in events:
        if units and event.at >= opened + law.window:
            units = 0
        if event.units > 0:
            opened = opened if units else event.at
            units += event.units
        elif event.of >= opened:
            units = max(0, units + event.units)
    return units if now < opened + law.window else 0


class Oracle:
    """The ledger's commands over accounts that forget nothing."""

    def __init__(self, laws: dict[str, Law]) -> None:
        self.laws = laws
        self.accounts: dict[Where, Account] = {}
        self.verdicts: dict[bytes, tuple[bool, int, int]] = {}

    def at(self, where: Where, now: int) -> Account:
        """The account, with the leases that have ended charged as of when they ended."""
        account, law = self.accounts.setdefault(where, Account()), self.laws[where[1]]
        for rid, lease in list(account.leases.items()):
            if lease.until <= now and lease.charged is None and lease.moved is None:
                if law.kind == "max":
                    del account.leases[rid]
                else:
                    lease.charged = Event(lease.until, lease.amount)
                    account.events.append(lease.charged)
            if lease.until + LATE <= now:
                account.leases.pop(rid, None)
        return account

    def standing(self, where: Where, now: int) -> tuple[Fraction, int]:
        """What is used, and what is held."""
        account = self.at(where, now)
        live = [lease for lease in account.leases.values() if lease.charged is None and lease.moved is None]
        return used(self.laws[where[1]], account, now), sum(lease.amount for lease in live)

    def known(self, where: Where, now: int) -> set[bytes]:
        """The things that were named since the window opened, if anything has been charged since then."""
        account, law = self.at(where, now), self.laws[where[1]]
        opened = max([edge for edge in law.edges if edge <= now], default=0)
        return {thing for at, thing in account.seen if at >= opened} if used(law, account, now) else set()

    def fits(self, ask: Ask, now: int) -> bool:
        counted, held = self.standing(ask.where, now)
        need = max(ask.amount, 1) if ask.hold else ask.amount
        if ask.things:
            need = len(ask.things - self.known(ask.where, now))
        return counted + held + need <= self.laws[ask.where[1]].most or bool(ask.things and not need)

    def verdict(self, rid: bytes, now: int) -> bool | None:
        granted, _, until = self.verdicts.get(rid, (False, 0, 0))
        return granted if now < until else None

    def reserve(self, rid: bytes, asks: list[Ask], lease: int, now: int) -> str:
        known = self.verdict(rid, now)
        if known is not None:
            return "granted" if known else "gone"
        fitting = [ask for ask in asks if ask.regardless or self.fits(ask, now)]
        if any(ask not in fitting and not ask.shadow for ask in asks):
            return "refused"
        for ask in fitting:
            account = self.at(ask.where, now)
            if ask.hold:
                fresh = len(ask.things - self.known(ask.where, now)) if ask.things else ask.amount
                account.leases.setdefault(rid, Lease(fresh, now + lease))
            else:
                account.events.append(Event(now, ask.amount))
        self.verdicts[rid] = (True, now, now + max(lease, REPEAT))
        return "granted"

    def extend(self, rid: bytes, asks: list[Ask], lease: int, step: int, now: int) -> str:
        asks = [self._followed(rid, ask, now) for ask in asks]
        held = [(ask, self.at(ask.where, now).leases.get(rid)) for ask in asks]
        if any((mine is None or mine.charged) and not ask.shadow for ask, mine in held):
            return "gone"
        open_ = [(ask, mine) for ask, mine in held if mine is not None and not mine.charged and mine.step < step]
        tight = [a for a, _ in open_ if a.amount and not (a.regardless or self._grows(a, now))]
        if any(not ask.shadow for ask in tight):
            return "refused"
        for ask, mine in open_:
            mine.amount += 0 if ask in tight else ask.amount
            mine.until, mine.step = now + lease, step
        return "granted"

    def _followed(self, rid: bytes, ask: Ask, now: int) -> Ask:
        mine = self.at(ask.where, now).leases.get(rid)
        if mine is None or mine.moved is None:
            return ask
        return replace(ask, where=mine.moved)

    def _grows(self, ask: Ask, now: int) -> bool:
        counted, held = self.standing(ask.where, now)
        return counted + held + ask.amount <= self.laws[ask.where[1]].most

    def settle(self, rid: bytes, asks: list[Ask], now: int) -> None:
        for ask in [self._followed(rid, ask, now) for ask in asks]:
            account = self.at(ask.where, now)
            mine = account.leases.pop(rid, None)
            if mine is None:
                continue
            if ask.things:
                ask = self._named(ask, account, now)
            if mine.charged is None:
                account.events.append(Event(now, ask.amount))
            elif ask.amount >= mine.amount:
                account.events.append(Event(now, ask.amount - mine.amount))
            else:
                self._given_back(ask.where, mine.charged, mine.amount - ask.amount, now)

    def _named(self, ask: Ask, account: Account, now: int) -> Ask:
        known = self.known(ask.where, now)
        account.seen = [(now, thing) for thing in known | ask.things]
        return replace(ask, amount=ask.amount + len(ask.things - known))

    def cancel(self, rid: bytes, asks: list[Ask], lease: int, now: int) -> None:
        _, at, _ = self.verdicts.get(rid, (False, 0, 0))
        known = self.verdict(rid, now)
        for ask in [self._followed(rid, ask, now) for ask in asks]:
            account = self.at(ask.where, now)
            mine = account.leases.pop(rid, None)
            if mine is not None and mine.charged is not None:
                self._given_back(ask.where, mine.charged, mine.amount, now)
            elif mine is None and known and not ask.hold and not ask.shadow:
                alike = [event for event in account.events if event.at == at and event.units >= ask.amount]
                self._given_back(ask.where, alike[0], ask.amount, now)
        self.verdicts[rid] = (False, now, now + max(lease, REPEAT))

    def _given_back(self, where: Where, charge: Event, units: int, now: int) -> None:
        law = self.laws[where[1]]
        if law.kind == "rate" or (law.kind == "quota" and not law.edges):
            self.accounts[where].events.append(Event(now, -units, charge.at))
        else:
            charge.units -= units

    def merge(self, into: Where, sources: list[Where], now: int) -> None:
        target = self.at(into, now)
        law = self.laws[into[1]]
        for source in sources:
            account = self.at(source, now)
            ours, theirs = self.known(into, now), self.known(source, now)
            if law.kind == "rate":
                level = used(law, account, now) + used(law, target, now)
                target.level, target.events = (now, level), []
                account.level, account.events = (now, Fraction(0)), []
            moves = bool(used(law, account, now)) or any(lease.moved is None for lease in account.leases.values())
            target.events += account.events
            account.events = []
            if moves:
                target.events.append(Event(now, -len(ours & theirs), now))
                target.seen, account.seen = [(now, thing) for thing in ours | theirs], []
            for rid, lease in account.leases.items():
                if lease.moved is None:
                    target.leases[rid] = lease
                    account.leases[rid] = Lease(0, lease.until, lease.step, moved=into)
