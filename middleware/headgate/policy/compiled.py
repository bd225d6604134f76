"""The compiled policy: what the fast path reads of a policy file. Immutable, integers only, no positions.

Law: everything here is already checked; reading it cannot fail. A reload replaces the whole value at once, so that
no request sees half of one policy and half of another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headgate.quota.balance import FOREVER
from headgate.quota.facts import Group
from headgate.quota.globs import one_glob
from headgate.quota.identify import Identify
from headgate.quota.match import Limit
from headgate.quota.meter import Meter
from headgate.quota.owner import Override

DIALECT = "ietf"
"""The dialect of replies where a policy names none."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One sentence of the terms: what a limit enforces, as a caller may read it."""

    id: str
    title: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The terms that a caller must have accepted: the version in force, where it stands, and the grace (microseconds)
    that a caller has who accepted another one."""

    version: str
    url: str
    grace: int = 0


@dataclass(frozen=True, slots=True)
class Dated:
    """An entry of `linking` that ends: what it speaks of, why, and the instant (microseconds) at which it ends.

    `subject`: `orgs`, or the evidence that says nothing (`address`, `payment`, `device`, `software`).
    """

    subject: str
    names: tuple[str, ...]
    reason: str
    until: int


@dataclass(frozen=True, slots=True)
class Linking:
    """How keys are judged to belong to one operator. Probabilities are millionths; no signals means all of them."""

    signals: tuple[str, ...] = ()
    suspect: int = 0
    linked: int = 0
    channels: int = 2
    ignore: tuple[Dated, ...] = ()
    separate: tuple[Dated, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the ladder: what is done, when, for how long (microseconds; 0: at once, or while the cause lasts).

    `when` is a state, or "" where `limit` must have refused `denied` times in `within`. `scale`: what `throttle`
    leaves of the limits, in hundredths of a percent.
    """

    when: str
    do: str
    limit: str = ""
    denied: int = 0
    within: int = 0
    after: int = 0
    lasts: int = 0
    scale: int = 0
    clause: str = ""
    review: str = ""
    appeal_url: str = ""
    appeal_within: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy, ready to decide.

    `version`: digest (12 hex digits) of what was compiled, the same wherever the same policy is loaded.
    `mode`: `enforce`, `shadow` (also compiled into each limit's `shadow`) or `disabled`.
    `affiliated`: orgs that the operator declares to be one customer, each with the instant it ends.
    `meters`: every meter by name, the built-in ones too; `presets`: whose reports of token usage are read.
    `include_usage`: whether a stream of OpenAI's is asked to tell its usage, and that is hidden from who did not ask.
    `dialects`: pairs of a glob on the path and a dialect, the first that matches counts, the last is `*`. `linking`,
    `ladder`, `acceptance`: read and checked, acted upon by a later version. `not_enforced`: what this version reads
    and does not act on, one sentence each.
    """

    name: str
    version: str
    mode: str
    identify: Identify
    limits: tuple[Limit, ...]
    plans: tuple[str, ...] = ()
    overrides: tuple[Override, ...] = ()
    scopes: Mapping[str, str] = field(default_factory=dict)
    clauses: Mapping[str, Clause] = field(default_factory=dict)
    affiliated: tuple[tuple[Group, int], ...] = ()
    zone: str = "UTC"
    on_store_error: str = "closed"
    not_enforced: tuple[str, ...] = ()
    meters: Mapping[str, Meter] = field(default_factory=dict)
    presets: tuple[str, ...] = ()
    include_usage: bool = False
    dialects: tuple[tuple[str, str], ...] = (("*", DIALECT),)
    linking: Linking | None = None
    ladder: tuple[Step, ...] = ()
    acceptance: Acceptance | None = None

    def dialect_of(self, paths: tuple[str, ...]) -> str:
        """The dialect of replies to a request, by the forms of its path: a pattern counts if any form matches it.

        >>> policy = Policy("doc", "0", "enforce", Identify(), (), dialects=(("/v1/*", "openai"), ("*", "ietf")))
        >>> policy.dialect_of(("/v1/chat/completions",)), policy.dialect_of(("/health",))
        ('openai', 'ietf')
        """
        for glob, name in self.dialects:
            if glob == "*" or any(map(one_glob(glob), paths)):
                return name
        return DIALECT

    def group_of(self, org: str, now: int) -> Group | None:
        """The declared group that the org belongs to at `now` (microseconds), or None: a group of one."""
        for group, until in self.affiliated:
            if org in group.orgs and now < until:
                return group
        return None

    def regrouped(self, now: int) -> int:
        """The first instant after `now` (microseconds) at which a declared group ends."""
        return min((until for _, until in self.affiliated if now < until), default=FOREVER)
