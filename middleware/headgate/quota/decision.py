"""The verdict on one request, with its reasons. Made once a request; everything that speaks of it reads this.

Law: a refusal is a value. *Denied* (a limit said no: `not_yet`, `never`) is never mixed up with *unavailable* (the
store did not answer): a client must wait for the first and retry the second.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from headgate.quota.balance import Balance
from headgate.quota.command import Demand, Never, NotYet, Refusal
from headgate.quota.facts import Call, Principal
from headgate.quota.holds import brought
from headgate.quota.match import CANDIDATE, Limit, Tariff


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
    | `lease` | how long (microseconds) what it holds is kept without being heard of; 0: it holds nothing |
    | `tariff` | what it was decided by |
    | `renewals` | how often its leases were renewed |
    | `own` | what is charged at the org's own places besides, see `Asked`; shown to nobody |
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
    lease: int = 0
    tariff: Tariff | None = None
    degraded: str = ""
    renewals: int = 0
    own: tuple[tuple[Demand, Limit], ...] = ()

    @property
    def allowed(self) -> bool:
        """Whether the request is served."""
        return self.action is Action.ALLOW

    @property
    def retry_at(self) -> int | None:
        """The instant at which every limit that refused might grant; None where one never will, or none did."""
        return retry_at(self.refusals)

    def refusing(self) -> tuple[tuple[Limit, Refusal], ...]:
        """The limits that refused, each with its refusal."""
        by_id = {limit.id: limit for limit in self.limits}
        return tuple((by_id[r.limit.removesuffix(CANDIDATE)], r) for r in self.refusals)


def retry_at(refusals: tuple[Refusal, ...]) -> int | None:
    """The instant at which every limit that refused might grant; None where one never will, or none did.

    >>> retry_at((NotYet("rpm", 90), NotYet("day", 70))), retry_at((NotYet("rpm", 90), Never("life", 0)))
    (90, None)
    """
    at = None
    for refusal in refusals:
        if isinstance(refusal, Never):
            return None
        at = refusal.at if at is None or refusal.at > at else at
    return at


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
    standing, holds = brought(balance, verb, now)
    held = holds.held if holds is not None else 0
    left = max(0, verb.free(standing) - held)
    return Reading(demand.place[1], verb.capacity, verb.spent(standing), held, left, standing[2])


Charge = tuple[Limit, Demand, Balance | None]
"""One amount that was added: the limit, the demand whose `amount` it is, and the balance after it."""


def crossed(charges: Iterable[Charge], now: int) -> list[tuple[Limit, int, Reading]]:
    """The marks of `alert: [80%, 100%]` that these charges have passed: (limit, percent, what the ledger says now).

    Each mark is passed by one charge, whichever worker made it, and so is told once.
    """
    passed: list[tuple[Limit, int, Reading]] = []
    for limit, demand, balance in charges:
        if not limit.alerts or demand.place[1] != limit.id:
            continue
        after = reading(demand, balance, now)
        above, below = after.used * 100, (after.used - demand.amount) * 100
        passed += [(limit, mark, after) for mark in limit.alerts if below < mark * after.capacity <= above]
    return passed


def told(decision: Decision, call: Call) -> dict[str, Any]:
    """The decision as a log's event tells it: ids, limits and numbers, no address and no secret.

    Instants are microseconds. `explain` reads this back and computes nothing of it anew.
    """
    principal = decision.principal
    by_name = {refusal.limit: refusal for refusal in (*decision.refusals, *decision.shadowed)}
    rows = []
    balances = decision.balances or (None,) * len(decision.demands)
    for demand, limit, balance in zip(decision.demands, decision.limits, balances, strict=True):
        now, refusal = reading(demand, balance, decision.now), by_name.get(demand.place[1])
        row: dict[str, Any] = {
            "limit": demand.place[1], "meter": limit.meter.name, "per": "+".join(limit.per), "verb": demand.verb.kind,
            "asked": demand.amount or len(demand.things), "of": now.capacity,
        }  # fmt: skip
        if decision.balances:  # else nobody was heard who knows
            row |= {"used": now.used, "held": now.held, "left": now.left, "resets": now.resets}
        if demand.shadow:
            row["shadow"] = True
        if isinstance(refusal, NotYet):
            row |= {"refused": "not_yet", "retry": refusal.at}
        elif isinstance(refusal, Never):
            row |= {"refused": "never", "most": refusal.most}
        if limit.clause:
            row["clause"] = limit.clause
        rows.append(row)
    event: dict[str, Any] = {
        "decision": decision.id, "action": decision.action.value, "key": principal.key, "org": principal.org,
        "plan": principal.plan, "method": call.method, "path": call.paths[0], "now": decision.now, "limits": rows,
    }  # fmt: skip
    if decision.degraded:
        event["degraded"] = decision.degraded
    return event
