"""What the ledger's commands do: reserve, extend, settle, cancel; merge and join; the look that changes nothing.

Law: `apply` is the specification of every store. It takes the balances that a command names and answers the
outcome and the balances to write; it does no I/O, reads no clock and draws no lot. A store's one duty is to
run it atomically over all that a command names. Guaranteed, whatever the verbs:

- all or nothing: a reservation is granted under every limit, or no balance changes;
- a refusal consumes nothing anywhere; it writes at most what time alone, or another policy, has made of a balance;
- every command may arrive twice, late, or after one that it should have preceded, and counts once;
- INVARIANT: used + held <= capacity + debt, where debt comes only from settling more than was held, and from
  demands that are `owed`.

A *hold* counts against its limit until it is settled; it does not drain and no window edge frees it. What is
settled counts as used at the instant of settling. A reservation whose worker died is charged at what was held,
as of the instant at which its lease ended; whoever touches the balance next does it, and when that is makes no
difference, so that no sweeper is needed to be correct.

A merge moves what several places have used and hold into one; a join raises one to what several have, and lets them
keep it. Whoever settles a hold where it was made, after it was moved or copied, is told where it is now (`moved`) and
says it again there: `followed` makes that command. So no command needs a balance that it does not name, and the two
places may lie on different machines.

Different things are counted in a *sketch* beside the balance: named again within the window, they cost nothing. It
counts while its `since` is the balance's and something is used: with the window that it was made in, and not a moment
longer. Where another window takes over what was used, it takes over the sketch. A clock that is set back behind the
window's start ends it early: then what is named again is charged again, which gives nobody a fresh window.
"""

from __future__ import annotations

from headgate.quota import things as sketch
from headgate.quota.balance import CLOCK_SKEW, LATE, SAFE, Balance, Hold, Standing, Verb, new
from headgate.quota.change import NONE, Balances, Change, Sketches, after, begun, carry, counted
from headgate.quota.command import (
    Cancel,
    Command,
    Demand,
    Extend,
    Gone,
    Granted,
    Join,
    Look,
    Merge,
    Never,
    NotYet,
    Outcome,
    Place,
    Receipt,
    Refusal,
    Refused,
    Reserve,
    Seen,
    Settle,
    Settled,
)
from headgate.quota.holds import brought, ended, held_also, without
from headgate.quota.join import joined
from headgate.quota.merge import merged
from headgate.quota.things import Things
from headgate.quota.window import POLL

REPEAT = 10_000_000
"""How long (microseconds) a verdict is remembered at least: longer than any repeat of a command takes."""


def apply(
    balances: Balances, receipt: Receipt | None, command: Command, now: int, sketches: Sketches = NONE
) -> Change:
    """Decide one command at `now` (microseconds).

    `balances` answers `.get(place)` for each place that the command names; `receipt` is what is remembered of
    the command's `rid`, or None; `sketches` answers `.get(place)` for each demand that has things, for each place
    whose balance lies under another window than the demand's, and for each place of a merge or a join. None of them
    is changed: what is to be written stands in the `Change`.

    Raises ValueError for a reservation that names a place twice.

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
            return _reserve(balances, receipt, command, now, sketches)
        case Settle():
            return _settle(balances, command, now, sketches)
        case Extend():
            return _extend(balances, command, now, sketches)
        case Cancel():
            return _cancel(balances, receipt, command, now, sketches)
        case Merge():
            return merged(balances, command, now, sketches)
        case Join():
            return joined(balances, command, now, sketches)
        case Look(demands):
            return Change(Seen(now, after(balances, {}, demands)), {})


def followed(command: Command, outcome: Outcome) -> Command | None:
    """The command again, at the places where a merge or a join has put what it names; None if there is none to give.

    >>> from headgate.quota.window import Total
    >>> there, here = (Demand((org, "month"), Total(9), amount=5) for org in (b"org", b"group"))
    >>> followed(Settle(b"r1", (there,)), Settled(7, (None,), moved=(here,))) == Settle(b"r1", (here,))
    True
    """
    moved = outcome.moved if type(outcome) is Settled or type(outcome) is Gone else ()
    if moved and isinstance(command, Extend | Settle | Cancel):
        return command._replace(demands=moved)
    return None


def _reserve(balances: Balances, receipt: Receipt | None, command: Reserve, now: int, sketches: Sketches) -> Change:
    rid, demands, lease = command
    if receipt is not None:
        return Change(Granted(now, after(balances, {}, demands)) if receipt.granted else Gone(now), {})
    written: dict[Place, Balance] = {}
    refusals: list[Refusal] = []
    shadowed: list[Refusal] = []
    drawn: dict[Place, Things] = {}
    untold = 0
    for place, verb, amount, hold, shadow, _, things, owed in demands:
        balance = balances.get(place)
        if not hold and (balance is None or balance.holds is None):
            # Nothing is held and nothing is to be: the way of nearly every request, in one step.
            taken = verb.take(balance, amount, now)
            if taken is not None:
                written[place] = taken
                continue
        standing, holds = brought(balance, verb, now)
        held = holds.held if holds is not None else 0
        need = amount or 1 if hold else amount
        if things:
            need = amount = sketch.unseen(counted(sketches.get(place), balance, verb, standing, now), things)
        # What was all named before costs nothing, and is granted whatever the debt is.
        if need > verb.free(standing) - held and (need or not things):
            if not owed:
                (shadowed if shadow else refusals).append(_refusal(place, verb, standing, held, need, now))
                continue
            if shadow:
                untold += 1
                continue
            amount = min(amount, SAFE - held)  # or the sum would not be exact
        if hold:
            # Already here only if a repeat comes later than any should: then it holds nothing twice.
            if holds is None or rid not in holds.by_rid:
                holds = held_also(holds, rid, new(Hold, (amount, now + lease, 0, False, None, False)), now)
            amount = 0
        written[place] = verb.put(standing, amount, holds, now)
        carry(drawn, sketches, place, balance, written[place], now)
    if refusals:
        return _refused(balances, demands, refusals, shadowed, now, sketches)
    if len(written) + len(shadowed) + untold != len(demands):
        raise ValueError("a reservation names a place twice")
    receipt = new(Receipt, (True, now, now + (lease if lease > REPEAT else REPEAT)))
    if shadowed or untold:
        kept, carried = _kept(balances, demands, now, sketches)
        drawn = {**{place: things for place, things in carried.items() if place not in written}, **drawn}
        written = {**kept, **written}
        return Change(Granted(now, after(balances, written, demands), tuple(shadowed)), written, receipt, drawn)
    # All were written, in the demands' order.
    return new(Change, (new(Granted, (now, tuple(written.values()), ())), written, receipt, drawn or NONE))


def _refused(
    balances: Balances,
    demands: tuple[Demand, ...],
    refusals: list[Refusal],
    shadowed: list[Refusal],
    now: int,
    sketches: Sketches,
) -> Change:
    kept, drawn = _kept(balances, demands, now, sketches)
    refused = Refused(now, tuple(refusals), after(balances, kept, demands), tuple(shadowed))
    return Change(refused, kept, None, drawn)


def _kept(
    balances: Balances, demands: tuple[Demand, ...], now: int, sketches: Sketches
) -> tuple[dict[Place, Balance], dict[Place, Things]]:
    """What is written though nothing is granted: balances that would else be brought anew from what no longer holds.

    If a clock was set back, the balance would wait for it to catch up; if the policy has changed, the usage would
    end with the old window; and leases that have ended would be gone through each time.
    """
    kept: dict[Place, Balance] = {}
    drawn: dict[Place, Things] = {}
    for place, verb, *_ in demands:
        balance = balances.get(place)
        if balance is None or (balance.until <= now and balance.holds is None):
            continue  # as good as untouched: a store may have forgotten it, and must decide alike
        ahead = now + CLOCK_SKEW
        holds = balance.holds
        leases = holds is not None and (holds.due <= now or holds.seen > ahead)
        if leases or balance.since > ahead or balance.spec != verb.spec or balance.kind != verb.kind:
            standing, holds = brought(balance, verb, now)
            kept[place] = verb.put(standing, 0, holds, now)
            carry(drawn, sketches, place, balance, kept[place], now)
    return kept, drawn


def _extend(balances: Balances, command: Extend, now: int, sketches: Sketches) -> Change:
    rid, demands, lease, step = command
    drawn: dict[Place, Things] = {}
    written: dict[Place, Balance] = {}
    refusals: list[Refusal] = []
    shadowed: list[Refusal] = []
    elsewhere = False
    for place, verb, amount, _, shadow, _, _, owed in demands:
        standing, holds = brought(balances.get(place), verb, now)
        mine = holds.by_rid.get(rid) if holds is not None else None
        if holds is None or mine is None or mine.lapsed:
            if shadow and (mine is None or mine.to is None):
                continue
            return Change(Gone(now, _moved(balances, demands, rid)), {})
        elsewhere |= mine.also
        if mine.step >= step:
            continue
        others, need = holds.held - mine.amount, mine.amount + amount
        if amount and need > verb.free(standing) - others:
            if not owed:
                (shadowed if shadow else refusals).append(_refusal(place, verb, standing, others, need, now))
            need = min(need, SAFE - others) if owed and not shadow else mine.amount
        mine = Hold(need, now + lease, step, False, mine.to, mine.also)
        grown = held_also(without(holds, rid, now), rid, mine, now)
        written[place] = verb.put(standing, 0, grown, now)
        carry(drawn, sketches, place, balances.get(place), written[place], now)
    if refusals:
        return _refused(balances, demands, refusals, shadowed, now, sketches)
    if elsewhere:
        # Here it is done; the rest of the answer is the other place's.
        return Change(Gone(now, _moved(balances, demands, rid)), written, None, drawn)
    return Change(Granted(now, after(balances, written, demands), tuple(shadowed)), written, None, drawn)


def _moved(balances: Balances, demands: tuple[Demand, ...], rid: bytes) -> tuple[Demand, ...]:
    """The demands where their holds are now, or nothing if none was moved."""
    there = []
    for demand in demands:
        balance = balances.get(demand.place)
        mine = balance.holds.by_rid.get(rid) if balance is not None and balance.holds is not None else None
        there.append(demand if mine is None or mine.to is None else demand.at(mine.to))
    return tuple(there) if tuple(there) != demands else ()


def _settle(balances: Balances, command: Settle, now: int, sketches: Sketches) -> Change:
    rid, demands = command
    written: dict[Place, Balance] = {}
    drawn: dict[Place, Things] = {}
    moved: list[Demand] = []
    added = [0] * len(demands)
    for at, demand in enumerate(demands):
        place, verb, actual, _, _, _, things, _ = demand
        balance = balances.get(place)
        standing, holds = brought(balance, verb, now)
        mine = holds.by_rid.get(rid) if holds is not None else None
        if holds is None or mine is None:
            continue  # settled before, or never held here: once is all there is
        if mine.to is not None:
            moved.append(demand.at(mine.to))
        if mine.gone:
            continue
        fresh = False
        if things:
            before = counted(sketches.get(place), balance, verb, standing, now)
            grown = sketch.with_things(before, things)
            actual = min(actual + max(0, sketch.count(grown) - sketch.count(before)), SAFE)
            fresh = grown is not before
            if fresh:
                drawn[place] = new(Things, (begun(verb, standing), grown))
        told = actual
        if mine.lapsed:
            if actual < mine.amount:
                standing = verb.less(standing, mine.amount - actual, mine.until - LATE, now)
            actual = max(0, actual - mine.amount)
        added[at] = actual
        left = without(holds, rid, now)
        if mine.also:
            left = held_also(left, rid, ended(mine, told, now), now)
        written[place] = verb.put(standing, actual, left, now)
        if not fresh:
            carry(drawn, sketches, place, balance, written[place], now)
    done = new(Settled, (now, after(balances, written, demands), tuple(moved), tuple(added)))
    return new(Change, (done, written, None, drawn))


def _cancel(balances: Balances, receipt: Receipt | None, command: Cancel, now: int, sketches: Sketches) -> Change:
    rid, demands, lease = command
    drawn: dict[Place, Things] = {}
    written: dict[Place, Balance] = {}
    moved: list[Demand] = []
    for demand in demands:
        place, verb, amount, hold, shadow, *_ = demand
        standing, holds = brought(balances.get(place), verb, now)
        mine = holds.by_rid.get(rid) if holds is not None else None
        if holds is not None and mine is not None:
            if mine.to is not None:
                moved.append(demand.at(mine.to))
            if mine.gone:
                continue
            if mine.lapsed:
                standing = verb.less(standing, mine.amount, mine.until - LATE, now)
            left = without(holds, rid, now)
            if mine.also:
                left = held_also(left, rid, ended(mine, 0, now), now)
            written[place] = verb.put(standing, 0, left, now)
        elif not hold and not shadow and receipt is not None and receipt.granted:
            # A shadow demand may not have been charged: to give it back could free what others used.
            standing = verb.less(standing, amount, receipt.at, now)
            written[place] = verb.put(standing, 0, holds, now)
        if place in written:
            carry(drawn, sketches, place, balances.get(place), written[place], now)
    undone = Receipt(False, now, now + max(lease, REPEAT))
    return Change(Settled(now, after(balances, written, demands), tuple(moved)), written, undone, drawn)


def _refusal(place: Place, verb: Verb, standing: Standing, held: int, need: int, now: int) -> Refusal:
    """Why `need` does not fit, and when it will if nothing else happens.

    Where only holds stand in the way nobody knows when: they may be given back any moment, and waiting for what
    is used to drain is not worth more than asking again soon.
    """
    # What is used up of a lifetime stays used up: no time gives it back.
    most = max(0, verb.free(standing)) if verb.kind == "total" else verb.capacity
    if need > most:
        return Never(place[1], most)
    soon = now + POLL
    fits = verb.ready(standing, need + held, now) if need + held <= verb.capacity else soon
    if need <= verb.free(standing):
        return NotYet(place[1], min(fits, soon))
    return NotYet(place[1], max(fits, verb.ready(standing, need, now)))
