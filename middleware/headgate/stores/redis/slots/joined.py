"""How the answers of several slots become the one that a single ledger would have given.

Law: pure; values in, values out. The joined answer is as of the latest of the instants at which the slots decided,
and tells balances, refusals and amounts in the demands' order. What a slot only *holds* for the time being is told as
it will be once it is confirmed, or as it was before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from headgate.quota.balance import Balance, Holds
from headgate.quota.command import (
    Demand,
    Extend,
    Gone,
    Granted,
    Outcome,
    Refused,
    Seen,
    Settled,
)
from headgate.quota.holds import altered
from headgate.quota.ledger import apply
from headgate.stores.redis.slots.parts import Part, in_order, refused_of, woven

Balances = tuple[Balance | None, ...]


def granted(rid: bytes, outcomes: Mapping[Part, Granted], tried: Sequence[Part] = ()) -> Granted:
    """Granted by all; in the `tried` slots what is used at once was held so far."""
    shadowed = {part: refused_of(part, outcome.shadowed, shadow=True) for part, outcome in outcomes.items()}
    balances = [
        _confirmed(rid, part, outcome, shadowed[part]) if part in tried else outcome.balances
        for part, outcome in outcomes.items()
    ]
    return Granted(latest(outcomes.values()), woven(list(outcomes), balances), in_order(*shadowed.values()))


def refused(outcomes: Mapping[Part, Refused]) -> Refused:
    """Refused by at least one; those that had nothing against it are told as refusals for no reason."""
    refusals = [refused_of(part, outcome.refusals, shadow=False) for part, outcome in outcomes.items()]
    shadowed = [refused_of(part, outcome.shadowed, shadow=True) for part, outcome in outcomes.items()]
    balances = woven(list(outcomes), [outcome.balances for outcome in outcomes.values()])
    return Refused(latest(outcomes.values()), in_order(*refusals), balances, in_order(*shadowed))


def would(command: Extend, part: Part, seen: Seen) -> Outcome:
    """What a slot that was only looked at would have answered; a refusal for no reason where it had granted."""
    balances = {d.place: b for d, b in zip(part.demands, seen.balances, strict=True) if b is not None}
    outcome = apply(balances, None, command._replace(demands=part.demands), seen.now).outcome
    if type(outcome) is Granted:
        return Refused(seen.now, (), seen.balances, outcome.shadowed)
    return outcome


def goes_on(command: Extend, looks: Mapping[Part, Seen]) -> bool:
    """Whether an extension of what is held elsewhere extends it here as well: it is, unless it is only a note."""
    balances = {
        demand.place: balance
        for part, look in looks.items()
        for demand, balance in zip(part.demands, look.balances, strict=True)
        if balance is not None
    }
    return bool(apply(balances, None, command, latest(looks.values())).balances)


def silent(part: Part, now: int) -> Refused:
    """The place of an answer that did not come, where it decides nothing any more."""
    return Refused(now, (), (None,) * len(part.demands))


def taken_back(rid: bytes, part: Part, outcome: Granted) -> Refused:
    """A granted slot as it is when the reservation was taken back there: as it was before."""
    shadowed = refused_of(part, outcome.shadowed, shadow=True)
    balances = [
        balance if at in shadowed else _without(rid, demand, balance)
        for at, demand, balance in zip(part.at, part.demands, outcome.balances, strict=True)
    ]
    return Refused(outcome.now, (), tuple(balances), outcome.shadowed)


def extended(rid: bytes, outcomes: Mapping[Part, Outcome]) -> Outcome:
    """Extended everywhere, or why not: not open counts before no room."""
    open_ones = {part: outcome for part, outcome in outcomes.items() if type(outcome) is Granted}
    if len(open_ones) == len(outcomes):
        return granted(rid, open_ones)
    if any(type(outcome) is Gone for outcome in outcomes.values()):
        return gone(outcomes)
    told = {part: outcome for part, outcome in outcomes.items() if type(outcome) is Refused}
    told |= {part: Refused(one.now, (), one.balances, one.shadowed) for part, one in open_ones.items()}
    if any(outcome.refusals for outcome in told.values()):
        return refused({part: told[part] for part in outcomes})
    return granted(rid, {part: Granted(one.now, one.balances, one.shadowed) for part, one in told.items()})


def settled(outcomes: Mapping[Part, Settled]) -> Settled:
    """Done everywhere; `added` where each slot tells it."""
    parts = list(outcomes)
    moved = [_moved(part, outcome.moved) for part, outcome in outcomes.items()]
    adds = [outcome.added for outcome in outcomes.values()]
    added = woven(parts, adds) if all(adds) else ()
    balances = woven(parts, [outcome.balances for outcome in outcomes.values()])
    return Settled(latest(outcomes.values()), balances, in_order(*moved), added)


def seen(outcomes: Mapping[Part, Seen]) -> Seen:
    """All that was seen."""
    return Seen(latest(outcomes.values()), woven(list(outcomes), [outcome.balances for outcome in outcomes.values()]))


def gone(outcomes: Mapping[Part, Outcome]) -> Gone:
    """Not open everywhere: where a merge has moved some, all demands where they may be open."""
    there = [
        outcome.moved or part.demands if type(outcome) is Gone else part.demands for part, outcome in outcomes.items()
    ]
    any_moved = any(type(outcome) is Gone and outcome.moved for outcome in outcomes.values())
    return Gone(latest(outcomes.values()), woven(list(outcomes), there) if any_moved else ())


def latest(outcomes: Iterable[Outcome]) -> int:
    """The instant of an answer that several made."""
    return max([outcome.now for outcome in outcomes])


def _moved(part: Part, moved: Sequence[Demand]) -> dict[int, Demand]:
    """Under which number each demand stood that a merge has moved: it is the same but for its place."""
    left, found = list(moved), {}
    for at, demand in zip(part.at, part.demands, strict=True):
        if left and demand.at(left[0].place) == left[0]:
            found[at] = left.pop(0)
    return found


def _confirmed(rid: bytes, part: Part, outcome: Granted, shadowed: Mapping[int, object]) -> Balances:
    balances = []
    for at, demand, balance in zip(part.at, part.demands, outcome.balances, strict=True):
        if balance is not None and demand.amount and not demand.hold and at not in shadowed:
            less = _without(rid, demand, balance)
            if less is not None and less is not balance:  # else it is said again, and confirmed already
                verb = demand.verb
                balance = verb.put(verb.bring(less, outcome.now), demand.amount, less.holds, outcome.now)
        balances.append(balance)
    return tuple(balances)


def _without(rid: bytes, demand: Demand, balance: Balance | None) -> Balance | None:
    """The balance without what a demand holds in it; the same one if that is not held."""
    if balance is None or balance.holds is None:
        return balance
    held, due, by_rid, seen = balance.holds
    mine, amount = by_rid.get(rid), demand.amount
    if demand.things:  # how many of them were new the slot knows, and tells the hold
        amount = mine.amount if mine is not None and not mine.lapsed else 0
    if held < amount:
        return balance
    by_rid, held = altered(by_rid, rid, None) if mine is not None else by_rid, held - amount
    return balance._replace(holds=Holds(held, due, by_rid, seen) if held or by_rid else None)
