"""What a reservation asks of the ledger while its response lives, and at its end.

Law: a decision and what was used become demands, an outcome becomes a verdict; nothing here waits or decides. What a
response holds is known by the meter: two limits on one meter grow by the same amount and are settled by the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from headgate.quota.command import Demand, Granted, Outcome, Place, Refused, Settle, Settled
from headgate.quota.decision import Action, Charge, Decision, reading, retry_at
from headgate.quota.match import Limit, Tariff, beside
from headgate.quota.window import Max

Things = Mapping[str, tuple[bytes, ...]]
"""By a meter's name, the different things that were handed out."""

NO_THINGS: Things = {}


class Extended(NamedTuple):
    """The ledger's word on holding more for a response.

    | field | meaning |
    | --- | --- |
    | `granted` | it is held now |
    | `refused` | the verdict of the limits that refused: the decision, as a refusal of what was asked in addition; else None |
    | `left` | units that those limits could still grant, all of which may be had by asking again; less than 0 in debt |
    | `part` | of a reservation that goes on under another id (`Gate.turn_over`): what holds it from now on |
    | `shadowed` | ids of limits in shadow that would have refused |

    Neither granted nor refused: the ledger was not heard, or has charged what was held already.
    """  # noqa: E501

    granted: bool
    refused: Decision | None = None
    left: int = 0
    part: Decision | None = None
    shadowed: tuple[str, ...] = ()


def holds(decision: Decision, meters: Collection[str]) -> Decision:
    """The decision as far as it holds amounts of these meters; places at a time do not grow and are left out."""
    return _kept(decision, lambda d, m: d.hold and type(d.verb) is not Max and m.meter.name in meters)


def without(decision: Decision, meter: str) -> Decision:
    """The decision without what it holds of one meter: that is held by another one now."""
    return _kept(decision, lambda d, m: type(d.verb) is Max or m.meter.name != meter)


def places(decision: Decision) -> Decision:
    """The decision as far as it holds places at a time."""
    return _kept(decision, lambda d, _: d.hold and type(d.verb) is Max)


def placeless(decision: Decision) -> Decision:
    """The decision without its places at a time: they are given back."""
    return _kept(decision, lambda d, _: type(d.verb) is not Max)


def _kept(decision: Decision, keep: Callable[[Demand, Limit], bool]) -> Decision:
    balances = decision.balances or (None,) * len(decision.demands)
    chosen = [at for at, (demand, limit) in enumerate(_pairs(decision)) if keep(demand, limit)]
    return replace(
        decision,
        demands=tuple([decision.demands[at] for at in chosen]),
        limits=tuple([decision.limits[at] for at in chosen]),
        balances=tuple([balances[at] for at in chosen]),
        own=tuple([(demand, limit) for demand, limit in decision.own if keep(demand, limit)]),
    )


def _pairs(decision: Decision) -> zip[tuple[Demand, Limit]]:
    return zip(decision.demands, decision.limits, strict=True)


def all_pairs(decision: Decision) -> Iterator[tuple[Demand, Limit]]:
    """All that a decision has charged, what is shown first."""
    yield from _pairs(decision)
    yield from decision.own


def shown(outcome: Outcome, many: int) -> Outcome:
    """An outcome as far as it tells of the first `many` demands: what is charged besides is shown to nobody.

    >>> shown(Granted(7, (None, None)), 1)
    Granted(now=7, balances=(None,), shadowed=())
    """
    if isinstance(outcome, Settled):
        return outcome._replace(balances=outcome.balances[:many], added=outcome.added[:many])
    if isinstance(outcome, Granted | Refused):
        return outcome._replace(balances=outcome.balances[:many])
    return outcome


def grown(demand: Demand, more: int) -> Demand:
    """What is held in addition; nothing of a place at a time. What was named is named when it is settled."""
    amount = 0 if type(demand.verb) is Max else more
    return demand._replace(amount=amount, things=()) if demand.things else demand.of(amount)


def settlement(decision: Decision, used: Mapping[str, int], things: Things) -> tuple[list[Demand], tuple[Limit, ...]]:
    """What the decision holds, by what was used of it; with the limits in the same order. What is shown comes first.

    >>> from headgate.quota.facts import Principal
    >>> from headgate.quota.meter import Meter
    >>> from headgate.quota.window import Total
    >>> limit = Limit("rows", Meter("rows", "app"), ("key",), {})
    >>> held = Demand((b"k", "rows"), Total(99), 10, hold=True)
    >>> decision = Decision("00", Action.ALLOW, Principal("k", "o"), 0, (held,), (limit,))
    >>> [demand.amount for demand in settlement(decision, {"rows": 3}, {})[0]]
    [3]
    """
    demands: list[Demand] = []
    limits: list[Limit] = []
    for demand, limit in all_pairs(decision):
        if demand.hold:
            meter = limit.meter.name
            # A place among those at a time is one, whatever went through it.
            amount = 1 if type(demand.verb) is Max else used.get(meter, 0)
            named = things.get(meter, ())
            demands.append(
                demand.of(amount) if named == demand.things else demand._replace(amount=amount, things=named)
            )
            limits.append(limit)
    return demands, tuple(limits)


def as_now(demands: Sequence[Demand], now: Tariff | None) -> tuple[Demand, ...]:
    """The demands by the windows of the tariff that holds now, where a reload has changed them: what is settled by a
    window of before would be read by it too, and a smaller one forgets what a larger one knows. None changes nothing.
    """
    if now is None:
        return tuple(demands)
    verbs = {line.name: line.verb for line in now.lines}
    return tuple([
        d._replace(verb=verb) if (verb := verbs.get(d.place[1])) and verb.kind == d.verb.kind else d for d in demands
    ])  # fmt: skip


def placed_now(demands: Sequence[Demand], now: Tariff | None) -> tuple[Demand, ...]:
    """The demands as they would be made now: an org may have become one customer with others meanwhile."""
    if now is None:
        return tuple(demands)
    places = {line.name: line.place for line in now.lines}
    return tuple([d.at(places.get(d.place[1]) or d.place) for d in as_now(demands, now)])


def own_now(
    demands: Sequence[Demand], limits: Sequence[Limit], own: Sequence[tuple[Demand, Limit]], now: Tariff | None
) -> tuple[tuple[Demand, Limit], ...]:
    """What is charged at the org's own places besides `demands` (as `placed_now` has them): where the tariff does not
    tell such a place, as it was (`own`); none where it is in no group any more. An amount is that of its demand."""
    before = {d.place[1]: d.place for d, _ in own}
    places: dict[str, Place | None] = dict(before)
    if now is not None:
        lines = {line.name: line for line in now.lines}
        places = {name: line.own or before.get(name) if line.shared else None for name, line in lines.items()}
    pairs = zip(demands, limits, strict=True)
    return tuple([(beside(d, there), m) for d, m in pairs if d.hold and (there := places.get(d.place[1]))])


def added_by(limits: tuple[Limit, ...], command: Settle, outcome: Outcome) -> list[Charge]:
    """What a settlement has charged by itself, to tell whose marks it has passed."""
    assert isinstance(outcome, Settled), "a settlement is settled"
    by_id = {limit.id: limit for limit in limits}
    # Less is told than was said where the rest is shown to nobody; a mark is passed where people look.
    told = zip(command.demands, outcome.balances, outcome.added, strict=False)
    return [(by_id[d.place[1]], d.of(added), b) for d, b, added in told if added and d.place[1] in by_id]


def verdict(decision: Decision, demands: tuple[Demand, ...], outcome: Outcome) -> Extended:
    """What the outcome of asking for more says; `demands` were asked, in the order of the decision's limits."""
    if type(outcome) is Granted:
        return Extended(True, shadowed=tuple([refusal.limit for refusal in outcome.shadowed]))
    if type(outcome) is not Refused:
        return Extended(False)
    action = Action.NOT_YET if retry_at(outcome.refusals) is not None else Action.NEVER
    refused = replace(
        decision, action=action, now=outcome.now, demands=demands, balances=outcome.balances,
        refusals=outcome.refusals, shadowed=outcome.shadowed, lease=0,
    )  # fmt: skip
    names = {refusal.limit for refusal in outcome.refusals}
    asked = zip(demands, outcome.balances, strict=True)
    found = [reading(demand, balance, outcome.now) for demand, balance in asked if demand.place[1] in names]
    return Extended(False, refused, min([one.capacity - one.used - one.held for one in found], default=0))
