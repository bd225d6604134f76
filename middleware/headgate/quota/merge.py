"""Merge: what several places have, moved into one.

Law: what is moved counts, once, and at one place only. A thing that two sketches have counted is one and not two:
where usage adds up, it is taken off again once. Nothing is free afterwards that neither had named.
"""

from __future__ import annotations

from headgate.quota import things as sketch
from headgate.quota.balance import Balance, Standing
from headgate.quota.change import Balances, Change, Sketches, after, begun, counted
from headgate.quota.command import WINDOWED, Merge, Place, Settled
from headgate.quota.holds import brought, note, summed, united
from headgate.quota.things import Things


def merged(balances: Balances, command: Merge, now: int, sketches: Sketches) -> Change:
    """What a `Merge` changes."""
    (into, verb, *_), sources = command
    before = balances.get(into)
    total, union = brought(before, verb, now)
    by_rid = dict(union.by_rid) if union is not None else {}
    seen = counted(sketches.get(into), before, verb, total, now)
    written: dict[Place, Balance] = {}
    drawn: dict[Place, Things] = {}
    for place, own, *_ in sources:
        balance = written.get(place) or balances.get(place)
        if balance is None or place == into:
            continue
        standing, holds = brought(balance, own, now)
        left = own.put(standing, 0, None, now)
        found = holds.by_rid if holds is not None else {}
        # Where it is held also is not known there any more: the copy ends with its lease.
        moving = {rid: hold._replace(to=None, also=False) for rid, hold in found.items() if not hold.gone}
        if not left.used and not moving:
            continue
        theirs = verb.bring(left, now)
        total = verb.join(total, theirs)
        also = counted(sketches.get(place), balance, own, standing, now)
        if also and theirs[0] and verb.kind in WINDOWED:
            total, seen = once(total, seen, also)
        for rid, hold in moving.items():
            by_rid[rid] = united(by_rid.get(rid), hold)
        notes = {rid: note(hold, into) for rid, hold in found.items()}
        written[place] = Balance(own.kind, 0, now, now, own.spec, (), summed(notes, now))
        draw(drawn, sketches, place, Things(now, b""))
    if written:
        written[into] = verb.put(total, 0, summed(by_rid, now), now)
        draw(drawn, sketches, into, Things(begun(verb, total), seen))
    return Change(Settled(now, after(balances, written, command.demands)), written, None, drawn)


def once(total: Standing, seen: bytes, also: bytes) -> tuple[Standing, bytes]:
    """Usage that was added up of two sketches, less what both had counted; and their union.

    `twice` is below 0 where the union is estimated higher than its parts: left as it is, for the errors of many
    unions then cancel out, and what is used in the end is the last union's count. Cut off at 0 they would add up.
    """
    both = sketch.united(seen, also)
    twice = sketch.count(seen) + sketch.count(also) - sketch.count(both)
    used, since, until, parts = total
    return (max(0, used - twice), since, until, parts), both


def draw(drawn: dict[Place, Things], sketches: Sketches, place: Place, things: Things) -> None:
    """The sketch is to be written where there is one, or was."""
    if sketches.get(place, Things(things.since, b"")) != things:
        drawn[place] = things
