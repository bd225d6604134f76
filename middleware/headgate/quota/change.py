"""What a command is decided by, and what it changes.

Law: what is read is never changed; what is to be written stands in a `Change`, whole, and nothing else is written. A
balance that is not in it stays as it is, and so does a sketch.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from headgate.quota.balance import Balance, Standing, Verb
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


def counted(things: Things | None, verb: Verb, standing: Standing) -> bytes:
    """The bytes of a sketch that counts beside a balance brought to now; else those of an empty one.

    >>> from headgate.quota.window import Quota
    >>> day = Quota(9, edges=(0, 50, 99, 150), spec=1)
    >>> [counted(Things(since, b"a thing."), day, (1, 50, 99, ())) for since in (50, 40)]
    [b'a thing.', b'']
    """
    if things is None or things.since != begun(verb, standing) or not standing[0] or verb.kind not in WINDOWED:
        return b""
    return things.data


def begun(verb: Verb, standing: Standing) -> int:
    """When the window began that a sketch belongs to (microseconds); 0 for a lifetime, for since when that is counted
    may have been forgotten where nothing was used."""
    return 0 if verb.kind == "total" else standing[1]


def after(
    balances: Balances, written: Mapping[Place, Balance], demands: tuple[Demand, ...]
) -> tuple[Balance | None, ...]:
    """The balances as an outcome tells them: in the demands' order, as they are when it is written."""
    return tuple([written.get(d.place) or balances.get(d.place) for d in demands])
