"""The compiled policy: what the fast path reads of a policy file. Immutable, integers only, no positions.

Law: everything here is already checked; reading it cannot fail. A reload replaces the whole value at once, so that
no request sees half of one policy and half of another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headgate.quota.facts import Group
from headgate.quota.identify import Identify
from headgate.quota.match import Limit, Override


@dataclass(frozen=True, slots=True)
class Clause:
    """One sentence of the terms: what a limit enforces, as a caller may read it."""

    id: str
    title: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy, ready to decide.

    `version`: digest (12 hex digits) of what was compiled, the same wherever the same policy is loaded.
    `mode`: `enforce`, `shadow` (also compiled into each limit's `shadow`) or `disabled`.
    `affiliated`: orgs that the operator declares to be one customer, each with the instant it ends.
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

    def group_of(self, org: str, now: int) -> Group | None:
        """The declared group that the org belongs to at `now` (microseconds), or None: a group of one."""
        for group, until in self.affiliated:
            if org in group.orgs and now < until:
                return group
        return None
