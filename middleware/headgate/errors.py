"""Faults, by whose they are.

Law: a refusal is a value, an exception is a fault, and its class says who can mend it: the policy's author, who
wired headgate into the app, or who runs the store. No message carries a secret or a raw address.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class HeadgateError(Exception):
    """Every fault that headgate raises."""


class PolicyError(HeadgateError):
    """A policy cannot be used; its author mends it. `problems` are all its faults, each with place and number.

    `str()` of it is the whole report, as `headgate check` prints it.
    """

    def __init__(self, message: str, problems: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class IdentityError(HeadgateError):
    """A directory, a setting or the wiring is wrong; whoever integrates headgate mends it."""


class SettingsError(IdentityError):
    """A setting is missing or cannot be used. The message names the variable, and never the value of a secret one."""


class DirectoryUnavailable(HeadgateError):
    """The app's own key directory failed or did not answer in time: nobody knows whose the key is.

    It is no refusal: the caller may be anybody's customer, and should try again.
    """


class AmountError(HeadgateError, ValueError):
    """What is to be counted is no whole number of units from 0 to 2^53 - 1; whoever reports it mends it."""


class Denied(HeadgateError):
    """A limit refuses what an endpoint asks for in the middle of a request: no fault of anybody's, but the one way
    out of a handler. `spend` raises it; headgate answers with the refusal where the endpoint lets it pass.

    `decision` is the verdict: which limits refused, and when they might grant.
    """

    def __init__(self, decision: Any) -> None:
        super().__init__("refused by " + (", ".join([refusal.limit for refusal in decision.refusals]) or "a limit"))
        self.decision = decision


class StoreError(HeadgateError):
    """The store did not do what it was asked.

    `transient`: the same may succeed later without anybody's help. `unknown`: it was asked and did not answer, so
    that it may have been done; otherwise nothing was.
    """

    def __init__(self, message: str, *, transient: bool, unknown: bool = False) -> None:
        super().__init__(message)
        self.transient = transient
        self.unknown = unknown
