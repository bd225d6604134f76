"""The verdict on one request, with its reasons. Made once a request; everything that speaks of it reads this.

Law: a refusal is a value. *Denied* (a limit said no: `not_yet`, `never`) is never mixed up with *unavailable* (the
store did not answer): a client must wait for the first and retry the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from headgate.quota.balance import Balance
from headgate.quota.facts import Principal
from headgate.quota.ledger import Demand, Never, NotYet, Refusal
from headgate.quota.match import CANDIDATE, Limit


class Action(StrEnum):
    """What is done with a request."""

    ALLOW = "allow"
    NOT_YET = "not_yet"
    NEVER = "never"
    UNAVAILABLE = "unavailable"


@dataclass(slots=True)
class Decision:
    """One request's verdict. Treated as immutable.

    | field | meaning |
    | --- | --- |
    | `id` | 32 hex digits; the reply's `instance`, and what `headgate explain` looks up |
    | `action` | what was done |
    | `demands`, `limits` | what was asked, and the limits that asked it, in the same order |
    | `balances` | what the ledger holds for each demand after the decision; None for untouched |
    | `refusals` | every limit that refused |
    | `shadowed` | refusals that limits in shadow would have given |
    | `now` | the ledger's instant, microseconds |
    | `degraded` | the store did not answer, and the policy let the request through (`open`, `local`) |
    """

    id: str
    action: Action
    principal: Principal
    now: int
    demands: tuple[Demand, ...] = ()
    limits: tuple[Limit, ...] = ()
    balances: tuple[Balance | None, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    shadowed: tuple[Refusal, ...] = ()
    degraded: str = ""

    @property
    def allowed(self) -> bool:
        """Whether the request is served."""
        return self.action is Action.ALLOW

    @property
    def retry_at(self) -> int | None:
        """The instant at which every limit that refused might grant; None where one never will."""
        if not self.refusals or any(isinstance(r, Never) for r in self.refusals):
            return None
        return max(r.at for r in self.refusals if isinstance(r, NotYet))

    def refusing(self) -> tuple[tuple[Limit, Refusal], ...]:
        """The limits that refused, each with its refusal."""
        by_id = {limit.id: limit for limit in self.limits}
        return tuple((by_id[r.limit.removesuffix(CANDIDATE)], r) for r in self.refusals)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one balance means to a reader: all in the meter's units, instants in microseconds.

    `left` is never negative; `resets` is the instant at which all of it counts as unused again.
    """

    limit: str
    capacity: int
    used: int
    held: int
    left: int
    resets: int


def reading(demand: Demand, balance: Balance | None, now: int) -> Reading:
    """Reads a balance through the verb that keeps it.

    >>> from headgate.quota.window import Total
    >>> reading(Demand((b"s", "life"), Total(5), 1), None, now=0).left
    5
    """
    verb = demand.verb
    standing = verb.bring(balance, now)
    held = balance.holds.held if balance is not None and balance.holds is not None else 0
    left = max(0, verb.free(standing) - held)
    return Reading(demand.place[1], verb.capacity, verb.spent(standing), held, left, standing[2])
