"""How a caller's limits stand, for dialects that tell one limit of a kind: which it is, and what is left of it.

Law: of the limits of a kind the scarcest is told, the one of which the largest part is used or held; of those that
refuse, the one that refuses longest. Limits in shadow are not told, nor places at a time that are granted: the one
that the request takes itself is free again when its client reads that. What is told as left is never more than the
ledger would grant, and what is held is told as if it were used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from headgate.policy.meters import PRESET_METERS
from headgate.quota.balance import FOREVER, Verb, new
from headgate.quota.command import Demand, Never
from headgate.quota.decision import Decision
from headgate.quota.gcra import Rate
from headgate.quota.holds import brought
from headgate.quota.match import Limit
from headgate.quota.meter import MILLION, Meter
from headgate.quota.window import Max

Kind = Callable[[Meter], bool]
"""Whether a meter is of a kind."""

SECOND = 1_000_000

KEPT_LINES = 4_096
"""Choices of demands of which it is kept which limits are of which kind; about 500 bytes each."""


class Standing(NamedTuple):
    """One limit as it stands for a caller.

    `limit` is its id, `most` what it grants in its window (of a rate, in its period), `left` how much of that it
    still grants. `resets`: the instant (microseconds) at which all of it is left again; `FOREVER` for never.
    """

    limit: str
    most: int
    left: int
    resets: int


class Candidate(NamedTuple):
    """One demand that may be told: its place among all, and of its limit what does not change.

    `most` is what is told as granted. `whole`: what a balance has as used when nothing is left, `scale`: how much of
    that is one unit, `drain`: how much of it a microsecond gives back, 0 where it does not come back by and by.
    """

    at: int
    limit: str
    most: int
    whole: int
    scale: int
    drain: int


class Line(NamedTuple):
    """A choice of demands, and which of them are of each kind."""

    demands: tuple[Demand, ...]
    kinds: tuple[tuple[Candidate, ...], ...]


class Standings:
    """The scarcest limit of each kind.

    `alone`: nothing else tells a client of limits and of when to come back. Then a refusal for want of a place at a
    time is told, too, and a limit that refuses resets when it may grant again; all of a rate may be left much later.
    """

    __slots__ = ("_alone", "_kinds", "_lines")

    def __init__(self, *kinds: Kind, alone: bool = False) -> None:
        self._kinds = kinds
        self._alone = alone
        self._lines: dict[int, Line] = {}

    def told(self, decision: Decision, wait: int = 0) -> list[Standing | None]:
        """One standing for each kind, in their order; None where no limit of it was asked. `wait`: seconds of a
        refusal, before which nothing is told to be left again."""
        demands = decision.demands
        if not decision.balances or decision.degraded:
            return [None] * len(self._kinds)
        line = self._lines.get(id(demands))
        if line is None or line[0] is not demands:
            line = self._sorted(decision)
        if decision.refusals:
            return [self._refused(decision, found, wait) for found in line[1]]
        return [_scarcest(decision, found) if found else None for found in line[1]]

    def _sorted(self, decision: Decision) -> Line:
        if len(self._lines) >= KEPT_LINES:
            self._lines.clear()
        pairs = list(zip(decision.demands, decision.limits, strict=True))
        kinds = tuple([tuple(_candidates(pairs, kind)) for kind in self._kinds])
        # The demands are kept with it: an id is free for another tuple only once they are dropped.
        line = self._lines[id(decision.demands)] = Line(decision.demands, kinds)
        return line

    def _refused(self, decision: Decision, found: tuple[Candidate, ...], wait: int) -> Standing | None:
        """Of a refusal: balances are as the ledger had them, and not brought to its instant."""
        ends = {r.limit: FOREVER if isinstance(r, Never) else r.at for r in decision.refusals}
        asked = [candidate.at for candidate in found]
        if self._alone:
            asked += [at for at, d in enumerate(decision.demands) if isinstance(d.verb, Max) and d.place[1] in ends]
        ranked = []
        for at in asked:
            demand = decision.demands[at]
            told = _standing(decision, at)
            ranked.append((ends.get(demand.place[1], -1), -told.left / max(1, told.most), -at, told))
        if not ranked:
            return None
        refuses, _, _, told = max(ranked)
        if refuses < 0 or not wait:
            return told
        again = decision.now + wait * SECOND
        return told._replace(resets=again if self._alone else max(told.resets, again))


def _candidates(pairs: list[tuple[Demand, Limit]], kind: Kind) -> list[Candidate]:
    found = []
    for at, (demand, limit) in enumerate(pairs):
        place, verb = demand[0], demand.verb
        if not demand.shadow and not isinstance(verb, Max) and kind(limit.meter):
            scale, drain = (verb.scale, verb.drain) if isinstance(verb, Rate) else (1, 0)
            found.append(Candidate(at, place[1], quota(verb), max(1, verb.capacity * scale), scale, drain))
    return found


def _scarcest(decision: Decision, found: tuple[Candidate, ...]) -> Standing:
    """Of a grant: after it, balances stand at the decision's instant, and need not be brought to it."""
    balances, largest, scarce = decision.balances, -1.0, found[0]
    for candidate in found:
        balance = balances[candidate[0]]
        if balance is not None:
            holds = balance[6]
            part = (balance[1] if holds is None else balance[1] + holds[0] * candidate[4]) / candidate[3]
            if part > largest:
                largest, scarce = part, candidate
    at, limit, most, whole, scale, drain = scarce
    balance, now = balances[at], decision.now
    if balance is None:
        return new(Standing, (limit, most, most, now))
    used, resets, holds = balance[1], balance[3], balance[6]
    held = 0 if holds is None else holds[0]
    if held and drain:
        resets = now - (-(used + held * scale) // drain)
    elif held and balance[0] == "rolling":
        return _standing(decision, at)
    left = (whole - used) // scale - held
    return new(Standing, (limit, most, 0 if left < 0 else most if left > most else left, resets))


def _standing(decision: Decision, at: int) -> Standing:
    """Of any balance, through the verb that keeps it."""
    demand, now = decision.demands[at], decision.now
    verb = demand.verb
    standing, holds = brought(decision.balances[at], verb, now)
    most, left, resets = quota(verb), verb.free(standing), standing[2]
    if holds is not None and holds.held:
        left -= holds.held
        resets = verb.put(standing, holds.held, None, now).until
    return Standing(demand.place[1], most, max(0, min(left, most)), resets)


def quota(verb: Verb) -> int:
    """What a limit grants in its window: of a rate its amount, and not its burst, which does not come every time."""
    return verb.amount if isinstance(verb, Rate) else verb.capacity


# --- The kinds that APIs tell apart


def anything(meter: Meter) -> bool:
    """Every meter."""
    return True


def requests(meter: Meter) -> bool:
    """Requests begun."""
    return meter.source == "request"


TOKENS = frozenset({"tokens", *PRESET_METERS})


def tokens(meter: Meter) -> bool:
    """Tokens of any kind, and sums that add them up as they are: a weighed sum counts something else.

    >>> from headgate.quota.meter import BUILT_IN_METERS
    >>> tokens(Meter("output_tokens", "preset.openai-usage")), tokens(BUILT_IN_METERS["requests"])
    (True, False)
    """
    if meter.sum is None:
        return meter.name in TOKENS
    plain = not meter.sum.by and all(weight == MILLION for weight in meter.sum.weights.values())
    return plain and all(name in TOKENS for name in meter.sum.weights)


def input_tokens(meter: Meter) -> bool:
    """Tokens of what is asked."""
    return meter.name == "input_tokens"


def output_tokens(meter: Meter) -> bool:
    """Tokens of what is answered."""
    return meter.name == "output_tokens"
