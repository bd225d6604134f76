"""What stands in the register: what the detector found, what people said, and what of it changed.

Law: values only. Instants are microseconds, an end of `FOREVER` is none. What has ended stays for the record and has
no effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Literal, NamedTuple

from headgate.linking.finding import Evidence
from headgate.quota.balance import FOREVER

State = Literal["suspect", "linked"]

DETECTOR = "detector"
"""The actor of what nobody said."""


class States(NamedTuple):
    """From which probabilities on (millionths) keys are suspected, and count as one operator's."""

    suspect: int = 700_000
    linked: int = 950_000


class Linked(NamedTuple):
    """Keys that the detector judges to be one operator's.

    `id`: stays while most of the keys do; `members`: each key and the instant of the request after which it was among
    them; `confidence`: the probability that two of them have one operator, `peak`: the highest that it was in this
    state; `evidence`: the strongest first; `since`: when it came into its state; `confirmed`: when it was last found;
    `parent`: the group that it came from, "" for none; `ended`, `why`: when and why it is no group any more, 0 and ""
    while it is.
    """

    id: str
    state: State
    members: Mapping[str, int]
    orgs: tuple[str, ...]
    confidence: float
    peak: float
    evidence: tuple[Evidence, ...]
    since: int
    confirmed: int
    parent: str = ""
    ended: int = 0
    why: str = ""


class Said(NamedTuple):
    """A person's word: `orgs` are one operator's (`link`), or are kept apart (`separate`): each from each other, and
    from each of `others`.

    `ended`, `ended_by`, `ended_why`: when it was taken back, by whom and why; 0 and "" while it was not.
    """

    id: str
    kind: Literal["link", "separate"]
    orgs: tuple[str, ...]
    reason: str
    actor: str
    at: int
    until: int = FOREVER
    others: tuple[str, ...] = ()
    ended: int = 0
    ended_by: str = ""
    ended_why: str = ""

    def active(self, now: int) -> bool:
        """Whether it has an effect at `now`."""
        return not self.ended and now < self.until

    def pairs(self) -> Iterator[tuple[str, str]]:
        """The pairs of orgs that it speaks of.

        >>> list(Said("s_1", "separate", ("a", "b"), "why", "me", 0, others=("c",)).pairs())
        [('a', 'b'), ('a', 'c'), ('b', 'c')]
        """
        yield from combinations(self.orgs, 2)
        yield from ((one, other) for one in self.orgs for other in self.others)


class Change(NamedTuple):
    """One thing that changed: `what` (`linked`, `suspected`, `grown`, `ended`, `said`, `undone` …) became of which
    `subject` (a group or a person's word), by whom and why."""

    id: str
    at: int
    actor: str
    what: str
    subject: str
    orgs: tuple[str, ...]
    reason: str


class Register(NamedTuple):
    """All that is known of groups. `groups`: what the detector holds; `past`: what it held, the latest first;
    `said`: people's words, the oldest first; `changes`: the latest first."""

    groups: tuple[Linked, ...] = ()
    past: tuple[Linked, ...] = ()
    said: tuple[Said, ...] = ()
    changes: tuple[Change, ...] = ()


EMPTY = Register()
