"""What the policy means for each principal, worked out once and kept until it changes.

Law: a kept tariff is used only for the very principal, policy, directory and span of time that it was worked out for.
So a reload, a changed record and the end of a window each lead to a new one, and nothing need be told. What a new one
must not forget (what an org used before it was linked, what a group used before the org left, what lies under the
pepper before) is said to the store ahead of the first request under it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

from headgate.directory import Directory
from headgate.errors import IdentityError
from headgate.policy.compiled import Policy
from headgate.quota.command import Demand, Inherit, Merge
from headgate.quota.facts import Group, Principal
from headgate.quota.identify import digest
from headgate.quota.match import WHOLE, Tariff, predecessors, tariff

ROOM = 50_000
"""Principals whose tariff is kept; about 2 kB each with six limits, 100 MB when full."""

AGREE = 10_000_000
"""How long (microseconds) a tariff is kept where others decide on it: a directory may first hear of another org of
the group at any time, and workers should not disagree for longer on what the group's plan is."""


@dataclass(slots=True)
class Kept:
    """A principal's tariff as it was worked out, what must be said before the first request under it, whether any of
    its limits tells when a share is used, and the instant from which on it must be worked out anew."""

    principal: Principal
    policy: Policy
    version: int
    tariff: Tariff
    merges: tuple[Merge | Inherit, ...]
    alerts: bool
    until: int


class Tariffs:
    """The tariffs of one worker. `peppers`: newest first; what is stored lies under the newest.

    >>> from headgate.quota.identify import Identify
    >>> tariffs, anyone = Tariffs((b"pepper",)), Principal("k1", "acme")
    >>> policy = Policy("doc", "0", "enforce", Identify(), ())
    >>> tariffs.of(anyone, policy, None, now=0) is tariffs.of(anyone, policy, None, now=1)
    True
    """

    def __init__(self, peppers: tuple[bytes, ...]) -> None:
        self._peppers = peppers
        self._kept: dict[tuple[str, str], Kept] = {}
        self._policy: Policy | None = None
        self._left: dict[str, frozenset[str]] = {}

    def of(self, principal: Principal, policy: Policy, directory: Directory | None, now: int) -> Kept:
        """The tariff that holds for a principal at `now` (microseconds).

        Raises IdentityError when the principal's plan is none of the policy's.
        """
        kept = self._kept.get((principal.key, principal.plan))
        if (
            kept is not None
            and kept.principal is principal
            and kept.policy is policy
            and now < kept.until
            and (directory is None or kept.version == directory.version)
        ):
            return kept
        return self._worked_out(principal, policy, directory, now)

    def _worked_out(self, principal: Principal, policy: Policy, directory: Directory | None, now: int) -> Kept:
        if policy.plans and principal.plan not in policy.plans:
            raise IdentityError(
                f"key {principal.key} has the plan `{principal.plan}`; the policy knows {', '.join(policy.plans)}"
            )
        self._remember(policy)
        made = partial(_made, principal, policy, directory, now)
        version = 0 if directory is None else directory.version  # read first: it may go on while we read the rest
        lines = made(self._peppers[0])
        left = policy.left(principal.org, now) | self._left.get(principal.org, frozenset())
        said = list(predecessors(lines, partial(_subject, self._peppers[0], principal.org), left))
        for pepper in self._peppers[1:]:
            before = made(pepper)
            earlier = predecessors(before, partial(_subject, pepper, principal.org), left)
            said = [*earlier, *_moved(before, lines), *said]
        kept = Kept(
            principal, policy, version, lines, tuple(said),
            any(line.limit.alerts for line in lines.lines), min(lines.until, policy.regrouped(now)),
        )  # fmt: skip
        if lines.group is not None:
            kept.until = min(kept.until, now + AGREE)
        while len(self._kept) >= ROOM:
            del self._kept[next(iter(self._kept))]
        self._kept[principal.key, principal.plan] = kept
        return kept

    def _remember(self, policy: Policy) -> None:
        """Who has left a group by a reload; a policy that is loaded at a start knows only those whose entry ended."""
        before, self._policy = self._policy, policy
        if before is None or before is policy:
            return
        now_in = {org: group.id for group, _ in policy.affiliated for org in group.orgs}
        for group, _ in before.affiliated:
            for org in group.orgs:
                if now_in.get(org) != group.id:
                    self._left[org] = self._left.get(org, frozenset()) | {group.id}


def _made(principal: Principal, policy: Policy, directory: Directory | None, now: int, pepper: bytes) -> Tariff:
    org = _customer(Group(principal.org, frozenset({principal.org})), principal, policy, directory)
    group = policy.group_of(principal.org, now)
    return tariff(
        policy.limits, policy.overrides, principal,
        None if group is None else _customer(group, principal, policy, directory), now,
        digest=partial(_subject, pepper, principal.org), scopes=policy.scopes, lot=lot(principal.org), org=org,
    )  # fmt: skip


def _customer(group: Group, principal: Principal, policy: Policy, directory: Directory | None) -> Group:
    """The group with its orgs' plans and anchor, as far as the directory tells them: it has the best of their values,
    once, and the billing anchor of the org that is on the strongest plan (of several, the first by name)."""
    orgs = [directory.org(name) for name in sorted(group.orgs)] if directory is not None else []
    told = [org for org in orgs if org is not None]
    if principal.org not in {org.id for org in told}:
        told.append(Group(principal.org, frozenset({principal.org}), frozenset({principal.plan}), principal.anchor))
    plans = {plan for org in told for plan in org.plans if not policy.plans or plan in policy.plans}
    rank = {plan: at for at, plan in enumerate(policy.plans)}
    strongest = max(told, key=lambda org: max([rank.get(plan, -1) for plan in org.plans], default=-1))
    return group._replace(plans=frozenset(plans | {principal.plan}), anchor=strongest.anchor)


def _moved(before: Tariff, lines: Tariff) -> list[Merge]:
    """What lies under the pepper before, moved to where it lies from now on; limits by address or route apart, whose
    places only a request tells."""
    pairs = zip(before.lines, lines.lines, strict=True)
    both = [(old, new) for old, new in pairs if old.place is not None and new.place is not None]
    return [Merge(Demand(new.place, new.verb, 0), (Demand(old.place, old.verb, 0),)) for old, new in both]  # type: ignore[arg-type]


def _subject(pepper: bytes, org: str, parts: tuple[str, ...]) -> bytes:
    """The digest of a subject: eight bytes of whom it belongs to, and eight of its own.

    What belongs to one org begins alike (its keys too, whose parts do not name it), and so lies on one machine of a
    fleet: all limits of a request in one place. A group's budget lies with the group, what nobody owns by itself.
    """
    whole = digest(pepper, b"subject", *_encoded(parts))
    by_scope = dict(zip(parts[::2], parts[1::2], strict=True))
    if "key" in by_scope or "org" in by_scope:
        owner = ("org", by_scope.get("org", org))
    elif "group" in by_scope:
        owner = ("group", by_scope["group"])
    else:
        return whole
    return _owner(pepper, owner) + whole[8:]


@lru_cache(maxsize=4_096)
def _owner(pepper: bytes, owner: tuple[str, str]) -> bytes:
    """How all begins that belongs to an org or a group. Kept, for a limit by route asks for it with each request."""
    return digest(pepper, b"owner", *_encoded(owner))[:8]


def _encoded(parts: tuple[str, ...]) -> list[bytes]:
    # `surrogatepass`: what a caller writes into JSON may be half of a pair, and must not be a fault.
    return [part.encode("utf-8", "surrogatepass") for part in parts]


def lot(org: str) -> int:
    """An org's place (0 ≤ lot < `WHOLE`) in a staged rollout: stable, and the same for all policies and services.

    Not by the pepper: that is replaced from time to time, and an org's place in a rollout is not.

    >>> lot("acme") == lot("acme"), 0 <= lot("acme") < WHOLE
    (True, True)
    """
    return int.from_bytes(digest(b"headgate", b"rollout", org.encode("utf-8", "surrogatepass"))[:4], "big") % WHOLE
