"""What may be said to a ledger, and what it answers: commands and outcomes, as plain values.

Law: a command names every balance that it needs and carries everything that decides it, so that it may be said again,
to any store, and mean the same. It does nothing by itself: `ledger.apply` says what it does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from headgate.errors import AmountError
from headgate.quota.balance import Balance, Verb, new
from headgate.quota.meter import checked
from headgate.quota.things import checked_things

Place = tuple[bytes, str]
"""Where a balance lies: (the subject's digest, the limit's id)."""

WINDOWED = frozenset({"quota", "total"})
"""Kinds of verbs under which different things can be counted: what they have used ends all at once or never. What is
forgotten little by little would have to be taken out of a sketch, and that cannot be done."""


class _Demand(NamedTuple):
    place: Place
    verb: Verb
    amount: int
    hold: bool = False
    shadow: bool = False
    slice: int = 0
    things: tuple[bytes, ...] = ()
    owed: bool = False


class Demand(_Demand):
    """What a request asks of one balance.

    `amount` in the meter's units, 0 <= amount <= 2^53 - 1. With `hold` it is held until settled, and at least
    one unit must be free even if the amount is 0 (what will be used is not known yet); without, it is used at
    once. A `shadow` demand is decided and never refuses: what does not fit is not charged to it. `slice` is how many
    units a worker may hold charged beforehand so as to ask the store less often, 0 for none; no command reads it.

    An `owed` demand is for what is used whatever is left: it is charged or held in full, what does not fit becomes
    debt, and it never refuses. `Reserve` and `Extend` read it. In shadow as well it is charged as far as a demand in
    shadow is, and says nothing of what did not fit.

    `things`: what is counted once however often it is named, by keyed digests (see `things`); such a demand is held,
    under a verb of `WINDOWED` and without a slice. Reserved, it holds as many units as there are new things among
    them, whatever its amount is, and needs none if there are none; settled, it has used as many as were new to the
    window, and its amount for those that could not be named. No other command reads them.

    Raises AmountError for any other amount and for other things, so that none reaches a store.
    """

    __slots__ = ()

    def __new__(
        cls,
        place: Place,
        verb: Verb,
        amount: int,
        hold: bool = False,
        shadow: bool = False,
        slice: int = 0,
        things: tuple[bytes, ...] = (),
        owed: bool = False,
    ) -> Demand:
        """Checks the amount and the things."""
        if things:
            checked_things(things)
            if not hold or slice or verb.kind not in WINDOWED:
                raise AmountError("things are held until they are settled, by `quota` or `total`, in no slice")
        return new(cls, (place, verb, checked(amount), hold, shadow, slice, things, owed))

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Demand:  # type: ignore[override]  # `_replace` is checked by it, too
        return cls(*iterable)

    def of(self, amount: int) -> Demand:
        """The same demand for another amount. Raises AmountError as the constructor does."""
        return new(Demand, (self[0], self[1], checked(amount), self[3], self[4], self[5], self[6], self[7]))

    def at(self, place: Place) -> Demand:
        """The same demand on another balance."""
        return new(Demand, (place, self[1], self[2], self[3], self[4], self[5], self[6], self[7]))


class Reserve(NamedTuple):
    """Ask for all `demands` at once. `rid` is made by headgate; `lease` in microseconds bounds the holds and
    how long the verdict is remembered (at least `REPEAT`). The places of one command are distinct."""

    rid: bytes
    demands: tuple[Demand, ...]
    lease: int


class Extend(NamedTuple):
    """Hold `amount` more of each demand for a reservation that is still open, and renew its lease.

    `step` counts up from 1 with each extension; a repeated step is answered again and not added again, nor is one
    that arrives after a later one."""

    rid: bytes
    demands: tuple[Demand, ...]
    lease: int
    step: int


class Settle(NamedTuple):
    """Replace what was held by what was used: each demand's `amount` is the actual one."""

    rid: bytes
    demands: tuple[Demand, ...]


class Cancel(NamedTuple):
    """Undo a reservation that was not served; a `Reserve` that arrives after it is refused.

    `demands` are those of the reservation; `lease` is how long the cancellation is remembered (at least
    `REPEAT`). What was used at once by a demand in shadow, or has been merged or joined since, stays charged."""

    rid: bytes
    demands: tuple[Demand, ...]
    lease: int


class Look(NamedTuple):
    """Read the balances that `demands` name. Changes nothing."""

    demands: tuple[Demand, ...]


class Merge(NamedTuple):
    """Move what each of `sources` has used and holds into `into`; after it they are as untouched.

    Usage adds up as the verb has it, brought to now by the verb that each demand names; windows that have run out
    carry nothing. Holds move with their leases and leave a note where they were. Sketches unite, and a thing that is
    in two of them counts once. Amounts are not read. What is moved cannot be moved twice: a repeat moves only what
    the sources have used since."""

    into: Demand
    sources: tuple[Demand, ...]

    @property
    def demands(self) -> tuple[Demand, ...]:
        """All the places that it names, `into` first."""
        return (self.into, *self.sources)


class Join(NamedTuple):
    """Raise `into` to what `sources` have used together: orgs that turn out to be one customer. They keep what they
    have.

    Usage adds up as the verb of `into` has it, which reads the sources, too; sketches unite, and a thing that two of
    them have counts once. `into` then has at least that; if it has more, it stays as it is. So to say it again
    changes nothing but what the sources have used since elsewhere. What lies under another window is brought to
    that of `into`: of a quota always, else while `into` is as good as untouched. Under a quota nothing counts that
    was used in a window which began before that of `into`.

    What a source holds, and `into` does not, is held there as well from then on. Whoever settles, extends or cancels
    it at the source has done it there, and is told to do the same at `into` (`followed`). Amounts are not read.
    `hold` of `into` tells a store that sketches may lie there, for where different things are counted all is held."""

    into: Demand
    sources: tuple[Demand, ...]

    @property
    def demands(self) -> tuple[Demand, ...]:
        """All the places that it names, `into` first."""
        return (self.into, *self.sources)


Command = Reserve | Extend | Settle | Cancel | Merge | Join | Look


class Receipt(NamedTuple):
    """What a store remembers of a `rid` until `until`: that it was granted or cancelled, and when.

    A refusal leaves none: it consumed nothing, so that deciding it again is harmless, and a flood of refused
    requests must not fill a store."""

    granted: bool
    at: int
    until: int


class NotYet(NamedTuple):
    """A limit that refuses for now: `at` is the first instant (microseconds) at which it might not."""

    limit: str
    at: int


class Never(NamedTuple):
    """A limit that refuses whatever the time: more was asked than it can ever grant (`most`, in units)."""

    limit: str
    most: int


Refusal = NotYet | Never


class Granted(NamedTuple):
    """All demands are charged or held. `balances` stand in the demands' order (None: untouched so far);
    `shadowed` are the refusals that limits in shadow would have given."""

    now: int
    balances: tuple[Balance | None, ...]
    shadowed: tuple[Refusal, ...] = ()


class Refused(NamedTuple):
    """Nothing is charged. `refusals` names every limit that refused; `balances` are as they were."""

    now: int
    refusals: tuple[Refusal, ...]
    balances: tuple[Balance | None, ...]
    shadowed: tuple[Refusal, ...] = ()


class Gone(NamedTuple):
    """The reservation is not open (any more) at these places: cancelled, settled or lapsed. `moved`: all demands
    at the places where it may be open, if a merge has moved any of its holds; or where it is open as well since a
    join, and then it was extended here."""

    now: int
    moved: tuple[Demand, ...] = ()


class Settled(NamedTuple):
    """Done, or done before: `balances` stand in the demands' order. `moved`: demands whose holds a merge has moved or
    a join has copied, each at its other place; there it is still to be done. `added`: of a settlement, what it has
    charged by itself, in the demands' order: nothing if it was done before, and after a lapse only what goes
    beyond."""

    now: int
    balances: tuple[Balance | None, ...]
    moved: tuple[Demand, ...] = ()
    added: tuple[int, ...] = ()


class Seen(NamedTuple):
    """What a `Look` found, in the demands' order; None where nothing was ever used."""

    now: int
    balances: tuple[Balance | None, ...]


Outcome = Granted | Refused | Gone | Settled | Seen
