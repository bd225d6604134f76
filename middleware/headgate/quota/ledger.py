"""The ledger's commands: reserve, extend, settle, cancel, and the look that changes nothing.

Law: `apply` is the specification of every store. It takes the balances that a command names and answers the
outcome and the balances to write; it does no I/O, reads no clock and draws no lot. A store's one duty is to
run it atomically over all that a command names. Guaranteed, whatever the verbs:

- all or nothing: a reservation is granted under every limit, or no balance changes;
- a refusal consumes nothing anywhere;
- every command may arrive twice, late, or after one that it should have preceded, and counts once;
- INVARIANT: used + held <= capacity + debt, where debt comes only from settling more than was held.

A *hold* counts against its limit until it is settled; it does not drain and no window edge frees it. What is
settled counts as used at the instant of settling. A reservation whose worker died is charged at what was held
when its lease ends; whoever touches the balance next does it, so that no sweeper is needed to be correct.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from headgate.quota.balance import LATE, SAFE, Balance, Hold, Holds, Standing, Verb

Place = tuple[bytes, str]
"""Where a balance lies: (the subject's digest, the limit's id)."""


class Demand(NamedTuple):
    """What a request asks of one balance.

    `amount` in the meter's units, 0 <= amount <= 2^53 - 1. With `hold` it is held until settled, and at least
    one unit must be free even if the amount is 0 (what will be used is not known yet); without, it is used at
    once. A `shadow` demand is decided and never refuses: what does not fit is not charged to it.
    """

    place: Place
    verb: Verb
    amount: int
    hold: bool = False
    shadow: bool = False


class Reserve(NamedTuple):
    """Ask for all `demands` at once. `rid` is made by headgate; `lease` in microseconds bounds the holds and
    how long the verdict is remembered. The places of one command are distinct."""

    rid: bytes
    demands: tuple[Demand, ...]
    lease: int


class Extend(NamedTuple):
    """Hold `amount` more of each demand for a reservation that is still open, and renew its lease.

    `step` counts up from 1 with each extension; a repeated step is answered again and not added again."""

    rid: bytes
    demands: tuple[Demand, ...]
    lease: int
    step: int


class Settle(NamedTuple):
    """Replace what was held by what was used: each demand's `amount` is the actual one."""

    rid: bytes
    demands: tuple[Demand, ...]


class Cancel(NamedTuple):
    """Undo a reservation that was not served; a `Reserve` that arrives after it is refused.

    `demands` are those of the reservation; `lease` is how long the cancellation is remembered."""

    rid: bytes
    demands: tuple[Demand, ...]
    lease: int


class Look(NamedTuple):
    """Read the balances that `demands` name. Changes nothing."""

    demands: tuple[Demand, ...]


Command = Reserve | Extend | Settle | Cancel | Look


class Receipt(NamedTuple):
    """What a store remembers of a `rid` until `until`: that it was granted or cancelled, and when.

    A refusal leaves none: it consumed nothing, so that deciding it again is harmless, and a flood of refused
    requests must not fill a store."""

    granted: bool
    at: int
    until: int


class NotYet(NamedTuple):
    """A limit that refuses for now: `at` is the first instant (microseconds) at which it might not."""

    limit: str
    at: int


class Never(NamedTuple):
    """A limit that refuses whatever the time: more was asked than it can ever grant (`most`, in units)."""

    limit: str
    most: int


Refusal = NotYet | Never


class Granted(NamedTuple):
    """All demands are charged or held. `balances` stand in the demands' order (None: untouched so far);
    `shadowed` are the refusals that limits in shadow would have given."""

    now: int
    balances: tuple[Balance | None, ...]
    shadowed: tuple[Refusal, ...] = ()


class Refused(NamedTuple):
    """Nothing is charged. `refusals` names every limit that refused; `balances` are as they were."""

    now: int
    refusals: tuple[Refusal, ...]
    balances: tuple[Balance | None, ...]
    shadowed: tuple[Refusal, ...] = ()


class Gone(NamedTuple):
    """The reservation is not open (any more): cancelled, settled or lapsed."""

    now: int


class Settled(NamedTuple):
    """Done, or done before: `balances` stand in the demands' order."""

    now: int
    balances: tuple[Balance | None, ...]


class Seen(NamedTuple):
    """What a `Look` found, in the demands' order; None where nothing was ever used."""

    now: int
    balances: tuple[Balance | None, ...]


Outcome = Granted | Refused | Gone | Settled | Seen


class Change(NamedTuple):
    """The outcome of a command and what to write: the balances, and the receipt under the command's `rid`."""

    outcome: Outcome
    balances: Mapping[Place, Balance]
    receipt: Receipt | None = None


Balances = Mapping[Place, Balance]


def apply(balances: Balances, receipt: Receipt | None, command: Command, now: int) -> Change:
    """Decide one command at `now` (microseconds).

    `balances` answers `.get(place)` for each place that the command names; `receipt` is what is remembered of
    the command's `rid`, or None. Neither is changed: what is to be written stands in the `Change`.

    >>> from headgate.quota.window import Total
    >>> d = Demand((b"org", "life"), Total(3), amount=2)
    >>> first = apply({}, None, Reserve(b"r1", (d,), lease=1_000), now=7)
    >>> type(first.outcome).__name__, first.balances[(b"org", "life")].used
    ('Granted', 2)
    >>> apply(first.balances, None, Reserve(b"r2", (d,), lease=1_000), now=8).outcome.refusals
    (Never(limit='life', most=1),)
    """
    if receipt is not None and receipt.until <= now:
        receipt = None
    match command:
        case Reserve():
            return _reserve(balances, receipt, command, now)
        case Extend():
            return _extend(balances, command, now)
        case Settle():
            return _settle(balances, command, now)
        case Cancel():
            return _cancel(balances, receipt, command, now)
        case Look(demands):
            return Change(Seen(now, tuple([balances.get(d.place) for d in demands])), {})


def _reserve(balances: Balances, receipt: Receipt | None, command: Reserve, now: int) -> Change:
    rid, demands, lease = command
    if receipt is not None:
        if not receipt.granted:
            return Change(Gone(now), {})
        return Change(Granted(now, tuple([balances.get(d.place) for d in demands])), {})
    written: dict[Place, Balance] = {}
    refusals: list[Refusal] = []
    shadowed: list[Refusal] = []
    after: list[Balance | None] = []
    for place, verb, amount, hold, shadow in demands:
        balance = balances.get(place)
        standing = verb.bring(balance, now)
        holds = balance.holds if balance is not None else None
        held = 0
        if holds is not None:
            if holds.due <= now:
                standing, holds = _collect(verb, standing, holds, now)
            held = holds.held if holds is not None else 0
        need = amount or 1 if hold else amount
        if need > verb.free(standing) - held:
            (shadowed if shadow else refusals).append(_refusal(place, verb, standing, held, need, now))
            after.append(balance)
            continue
        if hold:
            holds = _held(holds, rid, Hold(amount, now + lease))
            amount = 0
        balance = verb.put(standing, amount, holds, now)
        written[place] = balance
        after.append(balance)
    if refusals:
        untouched = tuple([balances.get(d.place) for d in demands])
        return Change(Refused(now, tuple(refusals), untouched, tuple(shadowed)), {})
    return Change(Granted(now, tuple(after), tuple(shadowed)), written, Receipt(True, now, now + lease))


def _extend(balances: Balances, command: Extend, now: int) -> Change:
    rid, demands, lease, step = command
    written: dict[Place, Balance] = {}
    refusals: list[Refusal] = []
    for place, verb, amount, _, shadow in demands:
        standing, holds = _standing(balances.get(place), verb, now)
        mine = holds.by_rid.get(rid) if holds is not None else None
        if holds is None or mine is None or mine.lapsed:
            if shadow:
                continue
            return Change(Gone(now), {})
        if mine.step >= step:
            continue
        if amount > verb.free(standing) - holds.held and amount and not shadow:
            refusals.append(_refusal(place, verb, standing, holds.held, amount, now))
            continue
        grown = Hold(min(mine.amount + amount, SAFE), now + lease, step)
        written[place] = verb.put(standing, 0, _held(_without(holds, rid), rid, grown), now)
    if refusals:
        return Change(Refused(now, tuple(refusals), tuple([balances.get(d.place) for d in demands])), {})
    return Change(Granted(now, _after(balances, written, demands)), written)


def _settle(balances: Balances, command: Settle, now: int) -> Change:
    rid, demands = command
    written: dict[Place, Balance] = {}
    for place, verb, actual, _, _ in demands:
        standing, holds = _standing(balances.get(place), verb, now)
        mine = holds.by_rid.get(rid) if holds is not None else None
        if holds is None or mine is None:
            continue  # settled before, or never held here: once is all there is
        if mine.lapsed:
            if actual < mine.amount:
                standing = verb.less(standing, mine.amount - actual, mine.until - LATE, now)
            actual = max(0, actual - mine.amount)
        written[place] = verb.put(standing, actual, _without(holds, rid), now)
    return Change(Settled(now, _after(balances, written, demands)), written)


def _cancel(balances: Balances, receipt: Receipt | None, command: Cancel, now: int) -> Change:
    rid, demands, lease = command
    written: dict[Place, Balance] = {}
    undone = Receipt(False, now, now + lease)
    if receipt is not None and not receipt.granted:
        return Change(Settled(now, _after(balances, written, demands)), written)
    for place, verb, amount, hold, shadow in demands:
        standing, holds = _standing(balances.get(place), verb, now)
        mine = holds.by_rid.get(rid) if holds is not None else None
        if holds is not None and mine is not None:
            if mine.lapsed:
                standing = verb.less(standing, mine.amount, mine.until - LATE, now)
            written[place] = verb.put(standing, 0, _without(holds, rid), now)
        elif not hold and not shadow and receipt is not None:
            # A shadow demand may not have been charged: to give it back could free what others used.
            standing = verb.less(standing, amount, receipt.at, now)
            written[place] = verb.put(standing, 0, holds, now)
    return Change(Settled(now, _after(balances, written, demands)), written, undone)


def _after(
    balances: Balances, written: Mapping[Place, Balance], demands: tuple[Demand, ...]
) -> tuple[Balance | None, ...]:
    return tuple([written.get(d.place) or balances.get(d.place) for d in demands])


def _refusal(place: Place, verb: Verb, standing: Standing, held: int, need: int, now: int) -> Refusal:
    if need > verb.capacity:
        return Never(place[1], verb.capacity)
    at = verb.ready(standing, need + held, now)
    if at >= SAFE:
        # Holds may be given back; without them it is for good.
        return Never(place[1], max(0, verb.free(standing))) if need > verb.free(standing) else NotYet(place[1], now)
    return NotYet(place[1], at)


def _standing(balance: Balance | None, verb: Verb, now: int) -> tuple[Standing, Holds | None]:
    """The balance at `now`, with the holds that fell due charged."""
    standing = verb.bring(balance, now)
    holds = balance.holds if balance is not None else None
    if holds is not None and holds.due <= now:
        return _collect(verb, standing, holds, now)
    return standing, holds


def _collect(verb: Verb, standing: Standing, holds: Holds, now: int) -> tuple[Standing, Holds | None]:
    """Charges live holds whose lease has ended, and forgets those that lapsed long ago."""
    kept: dict[bytes, Hold] = {}
    lapsed = 0
    for rid, hold in holds.by_rid.items():
        if hold.until > now:
            kept[rid] = hold
        elif not hold.lapsed and verb.kind != "max":
            lapsed += hold.amount
            kept[rid] = Hold(hold.amount, now + LATE, hold.step, lapsed=True)
    charged = verb.put(standing, lapsed, None, now)
    return (charged.used, charged.since, charged.until, charged.parts), _sum(kept)


def _held(holds: Holds | None, rid: bytes, hold: Hold) -> Holds:
    if holds is None:
        return Holds(hold.amount, hold.until, {rid: hold})
    return Holds(holds.held + hold.amount, min(holds.due, hold.until), {**holds.by_rid, rid: hold})


def _without(holds: Holds, rid: bytes) -> Holds | None:
    kept = {other: hold for other, hold in holds.by_rid.items() if other != rid}
    if not kept:
        return None
    mine = holds.by_rid[rid]
    # `due` may stay earlier than it needs to be: then a later command looks once for nothing.
    return Holds(holds.held - (0 if mine.lapsed else mine.amount), holds.due, kept)


def _sum(by_rid: dict[bytes, Hold]) -> Holds | None:
    if not by_rid:
        return None
    held = sum(hold.amount for hold in by_rid.values() if not hold.lapsed)
    return Holds(held, min(hold.until for hold in by_rid.values()), by_rid)
