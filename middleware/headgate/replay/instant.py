"""A request that is reserved and settled at one instant: nothing is under way in between.

Law: it does what `Reserve` and then `Settle` would do, and nothing else (tests/replay/test_instant.py holds it to
that), in one step and a third of the time: of such requests a log has a hundred for each one that is refused. What is
in any way unusual is left to the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from headgate.quota.balance import Balance, Verb
from headgate.quota.command import Demand, Place
from headgate.quota.match import Limit
from headgate.replay.entry import Entry

Used = Callable[[Entry], int] | None
"""What an entry has used of a meter; None where more than its figures must be asked."""


class Step(NamedTuple):
    """One demand, as it is charged at once: `need` units must be free, `amount` are used, or what `counted` says of
    the entry where it is held before; an `owed` one is charged whatever is free."""

    place: Place
    verb: Verb
    need: int
    amount: int
    counted: Used
    owed: bool


def steps_of(demands: Sequence[Demand], limits: Sequence[Limit], used: Mapping[str, Used]) -> tuple[Step, ...] | None:
    """The steps of a request that asks these demands; None where it is for the ledger to say what happens: different
    things are counted, or more than the entry's figures are needed.

    `used`, by a meter's name: what an entry has used."""
    steps = []
    for demand, limit in zip(demands, limits, strict=True):
        counted = used[limit.meter.name] if demand.hold else None
        if (
            demand.things
            or limit.meter.things
            or (demand.owed and demand.shadow)
            or (demand.hold and counted is None)
        ):
            return None
        need = (demand.amount or 1) if demand.hold else demand.amount
        steps.append(Step(demand.place, demand.verb, need, demand.amount, counted, demand.owed))
    return tuple(steps)


def charged(read: Mapping[Place, Balance], steps: tuple[Step, ...], entry: Entry) -> dict[Place, Balance] | None:
    """The balances after a request that all of these steps grant; None where one does not, or where something is
    held already: then it is for the ledger to say what happens."""
    now = entry.at
    written: dict[Place, Balance] = {}
    for place, verb, need, amount, counted, owed in steps:
        balance = read.get(place)
        if balance is not None and balance.holds is not None:
            return None
        if counted is None:
            taken = verb.take(balance, amount, now)
            if taken is None:
                if not owed:
                    return None
                taken = verb.put(verb.bring(balance, now), amount, None, now)
        else:
            standing = verb.bring(balance, now)
            if need > verb.free(standing) and not owed:
                return None
            taken = verb.put(standing, counted(entry), None, now)
        written[place] = taken
    return written
