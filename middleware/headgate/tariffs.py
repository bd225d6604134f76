"""What the policy means for each principal, worked out once and kept until it changes.

Law: a kept tariff is used only for the very principal, policy and span of time that it was worked out for. So a
reload, a changed record in the directory and the end of a window each lead to a new one, and nothing need be told.
"""

from __future__ import annotations

from dataclasses import dataclass

from headgate.directory import Directory
from headgate.errors import IdentityError
from headgate.policy.compiled import Policy
from headgate.quota.facts import Group, Principal
from headgate.quota.identify import digest
from headgate.quota.ledger import Merge
from headgate.quota.match import WHOLE, Tariff, predecessors, tariff

ROOM = 50_000
"""Principals whose tariff is kept; about 2 kB each with six limits, 100 MB when full."""


@dataclass(slots=True)
class Kept:
    """A principal's tariff as it was worked out, what must be moved before the first request under it, whether any
    of its limits tells when a share is used, and the instant from which on it must be worked out anew."""

    principal: Principal
    policy: Policy
    tariff: Tariff
    merges: tuple[Merge, ...]
    alerts: bool
    until: int


class Tariffs:
    """The tariffs of one worker.

    >>> from headgate.quota.identify import Identify
    >>> tariffs, anyone = Tariffs(b"pepper"), Principal("k1", "acme")
    >>> policy = Policy("doc", "0", "enforce", Identify(), ())
    >>> tariffs.of(anyone, policy, None, now=0) is tariffs.of(anyone, policy, None, now=1)
    True
    """

    def __init__(self, pepper: bytes) -> None:
        self._pepper = pepper
        self._kept: dict[str, Kept] = {}

    def of(self, principal: Principal, policy: Policy, directory: Directory | None, now: int) -> Kept:
        """The tariff that holds for a principal at `now` (microseconds).

        Raises IdentityError when the principal's plan is none of the policy's.
        """
        kept = self._kept.get(principal.key or principal.plan)
        if kept is not None and kept.principal is principal and kept.policy is policy and now < kept.until:
            return kept
        return self._worked_out(principal, policy, directory, now)

    def _worked_out(self, principal: Principal, policy: Policy, directory: Directory | None, now: int) -> Kept:
        if policy.plans and principal.plan not in policy.plans:
            raise IdentityError(
                f"key {principal.key} has the plan `{principal.plan}`; the policy knows {', '.join(policy.plans)}"
            )
        group = _with_plans(policy.group_of(principal.org, now), principal, policy, directory)
        lines = tariff(
            policy.limits, policy.overrides, principal, group, now,
            digest=self._subject, scopes=policy.scopes, lot=lot(principal.org),
        )  # fmt: skip
        alerts = any(line.limit.alerts for line in lines.lines)
        until = min(lines.until, policy.regrouped(now))
        kept = Kept(principal, policy, lines, predecessors(lines, self._subject), alerts, until)
        while len(self._kept) >= ROOM:
            del self._kept[next(iter(self._kept))]
        self._kept[principal.key or principal.plan] = kept
        return kept

    def _subject(self, parts: tuple[str, ...]) -> bytes:
        return digest(self._pepper, b"subject", *[part.encode("utf-8", "surrogateescape") for part in parts])


def _with_plans(
    group: Group | None, principal: Principal, policy: Policy, directory: Directory | None
) -> Group | None:
    """The group with its orgs' plans, as far as the directory tells them: it gets the best of them, once."""
    if group is None or group.plans:
        return group
    told = [] if directory is None else [directory.plan_of(org) for org in group.orgs]
    plans = {plan for plan in told if plan is not None and (not policy.plans or plan in policy.plans)}
    return group._replace(plans=frozenset(plans | {principal.plan}))


def lot(org: str) -> int:
    """An org's place (0 ≤ lot < `WHOLE`) in a staged rollout: stable, and the same for all policies and services.

    Not by the pepper: that is replaced from time to time, and an org's place in a rollout is not.

    >>> lot("acme") == lot("acme"), 0 <= lot("acme") < WHOLE
    (True, True)
    """
    return int.from_bytes(digest(b"headgate", b"rollout", org.encode("utf-8", "surrogateescape"))[:4], "big") % WHOLE
