"""What a command is decided by, and what it changes.

Law: what is read is never changed; what is to be written stands in a `Change`, whole, and nothing else is written. A
balance that is not in it stays as it is, and so does a sketch.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from headgate.quota.balance import Balance, Standing, Verb, new
from headgate.quota.command import WINDOWED, Demand, Outcome, Place, Receipt
from headgate.quota.things import Things

Balances = Mapping[Place, Balance]
Sketches = Mapping[Place, Things]

NONE: Sketches = MappingProxyType({})
"""No sketches."""


class Change(NamedTuple):
    """The outcome of a command and what to write: the balances, the receipt under the command's `rid`, and sketches.

    A sketch without bytes is to be forgotten."""

    outcome: Outcome
    balances: Balances
    receipt: Receipt | None = None
    sketches: Sketches = NONE


def counted(things: Things | None, balance: Balance | None, verb: Verb, standing: Standing, now: int) -> bytes:
    """The bytes of a sketch that counts beside a balance; else those of an empty one.

    `balance` is as it is stored, `standing` what a verb makes of it at `now`. Usage that another verb or window takes
    over takes its sketch with it; what has run out, or was set back by a clock, does not.

    >>> from headgate.quota.window import Quota
    >>> day, week = Quota(9, edges=(0, 50, 99, 150), spec=1), Quota(9, edges=(0, 7, 107, 207), spec=2)
    >>> stored, seen = Balance("quota", 1, 50, 99, spec=1), Things(50, b"a thing.")
    >>> [counted(seen, stored, verb, verb.bring(stored, at), at) for verb, at in ((day, 60), (week, 60), (week, 99))]
    [b'a thing.', b'a thing.', b'']
    """
    if things is None or balance is None or not standing[0] or not WINDOWED.issuperset((verb.kind, balance.kind)):
        return b""
    if balance.spec == verb.spec and balance.kind == verb.kind:
        return things.data if things.since == begun(verb, standing) else b""
    carries = balance.used and now < balance.until
    return things.data if carries and things.since == lain(balance) else b""


def begun(verb: Verb, standing: Standing) -> int:
    """When the window began that a sketch belongs to (microseconds); 0 for a lifetime, for since when that is counted
    may have been forgotten where nothing was used."""
    return 0 if verb.kind == "total" else standing[1]


def lain(balance: Balance) -> int:
    """The same, of a balance as it is stored."""
    return 0 if balance.kind == "total" else balance.since


def carry(
    drawn: dict[Place, Things], sketches: Sketches, place: Place, balance: Balance | None, after: Balance, now: int
) -> None:
    """A balance is going to be written under another window: the sketch that counts beside it is written with it."""
    if balance is None or (balance.spec == after.spec and balance.kind == after.kind):
        return
    things = sketches.get(place)
    if things is None or not after.used or not WINDOWED.issuperset((after.kind, balance.kind)):
        return
    if balance.used and now < balance.until and things.since == lain(balance):
        drawn[place] = new(Things, (lain(after), things.data))


def after(
    balances: Balances, written: Mapping[Place, Balance], demands: tuple[Demand, ...]
) -> tuple[Balance | None, ...]:
    """The balances as an outcome tells them: in the demands' order, as they are when it is written."""
    return tuple([written.get(d.place) or balances.get(d.place) for d in demands])
