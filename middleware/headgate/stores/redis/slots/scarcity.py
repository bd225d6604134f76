"""Which of several slots is the likeliest to refuse: it is asked first, so that a refusal costs no undoing.

Law: a guess, and never more: asking in another order decides the same, only dearer. What is remembered is how full
each place was when it was last seen, for as long as that says anything, of at most `ROOM` places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headgate.clock import SECOND
from headgate.quota.balance import Balance
from headgate.quota.command import Demand, Outcome, Place, Refused
from headgate.stores.redis.slots.parts import Part, refused_of

ROOM = 10_000
"""Places that are remembered, about 200 bytes each."""

STEPS = 8
"""Fullness is told apart in eighths: requests that are under way at once should ask in one order, for two that hold
the last unit of one slot each would both be refused by the other."""

REFUSING = STEPS + 1

SOME = 8
"""Of so many granted reservations in a row one is looked at: what a guess is worth."""


class Scarcity:
    """How full places were when they were last seen."""

    def __init__(self) -> None:
        self._seen: dict[Place, tuple[int, int]] = {}
        self._latest = 0
        self._skipped = 0

    def ordered(self, parts: Sequence[Part]) -> list[Part]:
        """The parts, the likeliest to refuse first.

        Where nothing is known the one with the fewest demands comes first: what many share (a group, a network)
        lies by itself, and fills up sooner than any of those who share it. The last resort is the tag, so that all
        workers ask in one order.
        """
        return sorted(parts, key=lambda part: (-self._fullness(part), len(part.demands), part.tag))

    def _fullness(self, part: Part) -> int:
        fullest = -1  # nothing here can refuse: all is in shadow
        for demand in part.demands:
            if not (demand.shadow or demand.owed):
                steps, until = self._seen.get(demand.place, (0, 0))
                fullest = max(fullest, steps if until > self._latest else 0)
        return fullest

    def saw(self, outcomes: Mapping[Part, Outcome], *, granted: bool) -> None:
        """Remember what the slots have told of their places; of many reservations that were granted some will do."""
        self._skipped = self._skipped + 1 if granted else 0
        if self._skipped % SOME:
            return
        for part, outcome in outcomes.items():
            self._latest = max(self._latest, outcome.now)
            refusing = refused_of(part, outcome.refusals, shadow=False) if type(outcome) is Refused else {}
            balances: Sequence[Balance | None] = getattr(outcome, "balances", ())
            for at, demand, balance in zip(part.at, part.demands, balances, strict=True):
                if balance is not None and not (demand.shadow or demand.owed):
                    self._noted(demand, balance, outcome.now, at in refusing)

    def _noted(self, demand: Demand, balance: Balance, now: int, refuses: bool) -> None:
        place, verb = demand.place, demand.verb
        held = balance.holds.held if balance.holds is not None else 0
        taken = verb.capacity - verb.free(verb.bring(balance, now)) + held
        steps = REFUSING if refuses else min(taken * STEPS // max(1, verb.capacity), STEPS)
        self._seen.pop(place, None)
        if steps > 0:
            if len(self._seen) >= ROOM:
                del self._seen[next(iter(self._seen))]
            # What is held alone has no window that ends: it may change at any time.
            self._seen[place] = (steps, max(balance.until, now + SECOND))
