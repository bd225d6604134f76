"""What is asked for, by whom and how it ended: the values that pass between the parts of a drill.

Law: values only. `Work` knows neither key nor time, `Request` knows all that a log line tells, and whose it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from headgate.drill.accounts import Account


class Work(NamedTuple):
    """One thing to ask for, and what comes back if it is answered."""

    method: str
    path: str
    size: int
    """Bytes of the answer."""
    prompt: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    items: tuple[str, ...] | None = None
    """Data items that are handed out; None for a request that has nothing to do with items."""

    @property
    def cost(self) -> int:
        """What a plan counts: tokens, or records."""
        return self.tokens_in + self.tokens_out or len(self.items or ())


class Worker(Protocol):
    """Something that always knows what to ask for next."""

    def next(self, at: float) -> Work | None:
        """The next work at a time; None when there is nothing left to do."""
        ...


class Request(NamedTuple):
    """A line of the log: `group` names the operator who took it, for what was taken for one."""

    at: float
    account: Account
    work: Work
    status: int
    address: str
    group: str = ""


Requests = Iterator[Request]
