"""Join: a group is raised to what its orgs have used together, and its orgs keep what they have.

Law: `into` becomes the larger of what it is and of what the sources add up to, part by part and thing by thing; that
is the join of a semilattice, and needs no mark of where it was said: twice, late, by several workers, or beside
charges, it comes to the same. A group is never raised above what its orgs have used in its window, and a new window
begins at nothing. A hold that the group does not know is copied, and knows of its copy from then on.

First the sources become one balance (`gathered`), which may be written down and carried elsewhere; then that one is
all that `into` needs (`raised`).

What is said of one reservation at two places does not happen at one instant. So where a source knows already what a
reservation has used, and `into` still holds it, that use is not counted: it is going to be told there. And where
`into` holds what no source knows of, as much is taken for it. Not told apart is what is charged for things when a
lease ends: an estimate, at each place by what was new there. A join may then count a few of them twice until the
window ends, and never too few.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from headgate.quota import things as sketch
from headgate.quota.balance import LATE, SAFE, Balance, Hold, Holds, Standing, Verb
from headgate.quota.change import Balances, Change, Sketches, after, begun, carry, counted
from headgate.quota.command import WINDOWED, Join, Place, Settled
from headgate.quota.holds import brought, summed
from headgate.quota.merge import draw, once
from headgate.quota.things import Things


class Source(NamedTuple):
    """One source as it is at the instant of a join: as it is stored, what counts of it, and what it holds."""

    balance: Balance
    standing: Standing
    holds: Holds | None


class Gathered(NamedTuple):
    """What all sources are together: usage by the verb of `into`, the union of their sketches, and by its `rid` each
    hold as `into` is to know it (see `_known`)."""

    standing: Standing
    things: bytes
    holds: dict[bytes, Hold]
    sources: dict[Place, Source]


def joined(balances: Balances, command: Join, now: int, sketches: Sketches) -> Change:
    """What a `Join` changes."""
    (into, verb, *_), _ = command
    before = balances.get(into)
    found = gathered(balances, command, now, sketches)
    written: dict[Place, Balance] = {}
    drawn: dict[Place, Things] = {}
    copied = raised(into, verb, before, found, now, sketches, written, drawn)
    for place, (balance, standing, holds) in found.sources.items():
        by_rid = holds.by_rid if holds is not None else {}
        mine = [rid for rid in copied if rid in by_rid and not by_rid[rid].gone]
        told = {rid: by_rid[rid]._replace(to=into, also=True) for rid in mine}
        if told and holds is not None:
            holds = summed({**by_rid, **told}, max(now, holds.seen))
        if told or (standing[0] and other_window(balance, verb)):
            written[place] = verb.put(standing, 0, holds, now)
            carry(drawn, sketches, place, balance, written[place], now)
    return Change(Settled(now, after(balances, written, command.demands)), written, None, drawn)


def gathered(balances: Balances, command: Join, now: int, sketches: Sketches) -> Gathered:
    """What the sources of a join are together, as far as it counts beside what `into` is. Changes nothing."""
    (into, verb, *_), sources = command
    before = balances.get(into)
    mine, _ = brought(before, verb, now)
    total, seen = verb.bring(None, now), b""
    known: dict[bytes, Hold] = {}
    found: dict[Place, Source] = {}
    for place, *_ in sources:
        balance = balances.get(place)
        if balance is None or place == into or place in found:
            continue
        standing, holds = brought(balance, verb, now)
        if not _counts(balance, verb, standing, mine):
            continue
        found[place] = Source(balance, standing, holds)
        if standing[0]:
            total = verb.join(total, standing)
            also = counted(sketches.get(place), balance, verb, standing, now)
            if also:
                total, seen = once(total, seen, also)
        for rid, hold in holds.by_rid.items() if holds is not None else ():
            one = _known(hold, into)
            if one is not None:
                known.setdefault(rid, one)
    return Gathered(total, seen, known, found)


def raised(
    into: Place, verb: Verb, before: Balance | None, found: Gathered, now: int, sketches: Sketches,
    written: dict[Place, Balance], drawn: dict[Place, Things],
) -> list[bytes]:  # fmt: skip
    """Raises `into`, if it is not as high already; which of the holds were copied."""
    mine, holds = brought(before, verb, now)
    by_rid = dict(holds.by_rid) if holds is not None else {}
    copied = [rid for rid, hold in found.holds.items() if hold.to is None and rid not in by_rid]
    by_rid |= {rid: found.holds[rid] for rid in copied}
    total = _untold(found.standing, verb, by_rid, found.holds, now)
    seen = counted(sketches.get(into), before, verb, mine, now)
    both = sketch.united(seen, found.things) if found.things and verb.kind in WINDOWED else seen
    higher = _higher(verb, mine, total, sketch.count(both) - sketch.count(seen))
    if copied or both != seen or higher != mine:
        written[into] = verb.put(higher, 0, summed(by_rid, now) if copied else holds, now)
        if both:
            draw(drawn, sketches, into, Things(begun(verb, higher), both))
    return copied


def other_window(balance: Balance, verb: Verb) -> bool:
    """Whether a balance lies under another window than the verb's."""
    return balance.spec != verb.spec or balance.kind != verb.kind


def _counts(balance: Balance, verb: Verb, standing: Standing, mine: Standing) -> bool:
    """Whether a source counts beside what `into` is (`mine`). Of a quota's window that began before that of `into`
    nothing does; what lies under another window has not been brought to it yet, and is from now on."""
    other, fresh = other_window(balance, verb), not mine[0]
    if not standing[0] or fresh:
        return True
    if verb.kind == "quota" and balance.kind == "quota":
        return other or standing[1] >= mine[1]
    return not other


def _known(hold: Hold, into: Place) -> Hold | None:
    """A source's hold as `into` is to know it: without a place if it is to be held there, unless it is already; with
    one if it was told to be held there `also`, or was settled since (`Hold.gone`). None for a note of elsewhere."""
    if hold.to is None or hold.to == into:
        return hold
    return hold._replace(to=None, also=False) if hold.also else None


def _untold(
    total: Standing, verb: Verb, by_rid: Mapping[bytes, Hold], known: Mapping[bytes, Hold], now: int
) -> Standing:
    """The sum of the sources without what `into` is still going to be told by those who used it."""
    for rid, hold in by_rid.items():
        there = known.get(rid)
        if there is None and not (hold.lapsed or hold.to):
            total = verb.less(total, hold.amount, now, now)
        elif there is not None and there.gone and not hold.gone:
            untold = there.amount - (hold.amount if hold.lapsed else 0)
            if untold > 0:
                total = verb.less(total, untold, there.until - LATE, now)
    return total


def _higher(verb: Verb, mine: Standing, total: Standing, more: int) -> Standing:
    """The larger of two standings, which counts `more` things than `mine`."""
    if verb.kind == "rolling":
        parts = dict(mine[3])
        for part, units in total[3]:
            parts[part] = max(parts.get(part, 0), units)
        if parts != dict(mine[3]):
            used = sum(parts.values())
            if used > SAFE:  # INVARIANT: `used` is the sum of the parts
                used, parts = SAFE, {max(parts): SAFE}
            return used, mine[1], max(mine[2], total[2]), tuple(sorted(parts.items()))
        return mine
    used = max(total[0], min(mine[0] + max(0, more), SAFE))
    if used <= mine[0]:
        return mine
    _, since, until, parts_ = mine if mine[0] else total
    if verb.kind == "rate":
        since = max(mine[1], total[1])
    return used, since, until, parts_
