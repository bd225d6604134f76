"""What is said to the slots of a cluster besides the ledger's own commands, and what they answer.

Law: as with commands, each may be said again and then means the same. Each lies in one slot; what has to happen in
several is a matter of who says them in which order (see `phases` and `moving`).
"""

from __future__ import annotations

from typing import NamedTuple

from headgate.quota.balance import FOREVER, Balance
from headgate.quota.command import Demand, Place
from headgate.quota.things import Things


class Try(NamedTuple):
    """A `Reserve` whose at-once amounts are only held, for `short` (microseconds), until they are settled or undone.

    Decided as the reservation would be; demands that hold anyway do so for `lease`. The outcome is that of a
    `Reserve`, with the balances as they are then."""

    rid: bytes
    demands: tuple[Demand, ...]
    lease: int
    short: int


class Undo(NamedTuple):
    """Takes back without a trace what `rid` holds: as if it had never been reserved.

    Where it holds nothing, nothing changes; what was used at once stays used. That it was granted is forgotten, that
    it was cancelled is not. The outcome is that of a `Cancel`."""

    rid: bytes
    demands: tuple[Demand, ...]


class Weigh(NamedTuple):
    """What a `Reserve` would be answered here that is refused elsewhere: nothing is charged, nothing is remembered.

    The outcome is always a `Refused`, with the refusals of this slot, which may be none; it writes what a refusal
    does."""

    demands: tuple[Demand, ...]


class Parcel(NamedTuple):
    """What a merge moves out of one balance, on its way to the place `into`.

    `balance` is what was used, and holds only what moves, each by its `rid`; `things` the bytes of the sketch that
    counts beside it. From `until` (microseconds) on nothing of it counts any more: its sender keeps it for that long,
    and so must be remembered who has taken it."""

    id: bytes
    into: Place
    balance: Balance
    until: int = FOREVER
    things: bytes = b""


class Give(NamedTuple):
    """Take out of `source` what a `Merge` into `into` would move, leave notes, and keep it until it is `Given`.

    `id` is made by who says it, 16 random bytes; said again, the same parcel is answered. A parcel that waits already
    is answered as it is, whatever its id and whereto; then nothing more is taken out."""

    id: bytes
    into: Demand
    source: Demand

    @property
    def demands(self) -> tuple[Demand, ...]:
        """The place that it changes."""
        return (self.source,)


class Take(NamedTuple):
    """Add a parcel to `into`, as a `Merge` would, once however often it is said."""

    into: Demand
    parcel: Parcel

    @property
    def demands(self) -> tuple[Demand, ...]:
        """The place that it changes."""
        return (self.into,)


class Given(NamedTuple):
    """The parcel with this `id` has been taken: `source` need not keep it any longer."""

    id: bytes
    source: Demand

    @property
    def demands(self) -> tuple[Demand, ...]:
        """The place that it is about."""
        return (self.source,)


class Lift(NamedTuple):
    """A `Join` whose sources lie elsewhere: raises `into` to `balance`, which is what they are together by its verb,
    with each of their holds as `quota.join` has it, and `things`, the bytes of the union of their sketches."""

    into: Demand
    balance: Balance
    things: bytes = b""

    @property
    def demands(self) -> tuple[Demand, ...]:
        """The place that it changes."""
        return (self.into,)


class Tie(NamedTuple):
    """What a `Join` leaves at a source: the holds `rids` are held at the place `to` also, and what was used is
    brought to the window of the source's verb. Holds that are there no more are left out."""

    source: Demand
    to: Place
    rids: tuple[bytes, ...]

    @property
    def demands(self) -> tuple[Demand, ...]:
        """The place that it changes."""
        return (self.source,)


class Show(NamedTuple):
    """A `Look` at one balance that sees its sketch, too. Changes nothing."""

    source: Demand

    @property
    def demands(self) -> tuple[Demand, ...]:
        """The place that it looks at."""
        return (self.source,)


class Shown(NamedTuple):
    """What a `Show` found; None where there was nothing."""

    now: int
    balance: Balance | None
    things: Things | None


class Parted(NamedTuple):
    """What a `Give` answers: the source's balance after it, and the parcel; None where there was nothing to move."""

    now: int
    balance: Balance | None
    parcel: Parcel | None


Parcelled = Try | Undo | Weigh | Give | Take | Given | Lift | Tie | Show
"""All of them that are said."""
