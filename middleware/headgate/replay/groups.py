"""What linking found, as far as the policy lets it stand.

Law: the policy's word goes first. Orgs that it declares to be one customer are no finding; orgs that it declares
separate are never in one group; and a group is keys of two orgs or more, or some that belong to none. A key is in
one group at most, and of several findings that name it the strongest has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from headgate.linking.finding import Evidence, Finding
from headgate.policy.compiled import Policy
from headgate.replay.callers import ALONE


@dataclass(frozen=True, slots=True)
class Linked:
    """A group that was found: its keys, each with the instant (microseconds) of the request after which it was in
    it, the customers that they were taken for (as `Callers.customer` has them), how sure it is, and why, the
    strongest reason first."""

    id: str
    members: Mapping[str, int]
    customers: frozenset[str]
    confidence: float
    evidence: tuple[Evidence, ...]

    @property
    def orgs(self) -> tuple[str, ...]:
        """The orgs among them, by name."""
        return tuple(sorted([name for name in self.customers if not name.startswith(ALONE)]))


Customer = Callable[[str], str]
"""The org that a key counts for; a name of its own, which begins with `ALONE`, where it belongs to none."""


def linked(findings: Sequence[Finding], policy: Policy, customer: Customer, now: int, least: float) -> list[Linked]:
    """The groups that stand, strongest first: those of at least `least` confidence, as the policy has them at `now`
    (microseconds)."""
    groups: list[Linked] = []
    taken: set[str] = set()
    for finding in sorted(findings, key=lambda one: -one.confidence):
        if finding.confidence < least:
            break
        free = {key: at for key, at in finding.members.items() if key not in taken}
        members = _together(free, policy, customer, now)
        customers = frozenset(map(customer, members))
        if not _is_news(customers, policy, now):
            continue
        taken.update(members)
        first = min(members, key=lambda key: (members[key], key))
        evidence = tuple([one for item in finding.evidence if (one := _within(item, members)) is not None])
        groups.append(Linked(_id(first), members, customers, finding.confidence, evidence))
    return groups


def _together(members: dict[str, int], policy: Policy, customer: Customer, now: int) -> dict[str, int]:
    """The members but those of an org that is separate from one that was there before it."""
    apart = (
        [set(one.names) for one in policy.linking.separate if now < one.until] if policy.linking is not None else []
    )
    if not apart:
        return members
    kept: dict[str, int] = {}
    orgs: set[str] = set()
    for key, at in sorted(members.items(), key=lambda item: (item[1], item[0])):
        org = customer(key)
        if not any(org in names and (orgs & names) - {org} for names in apart):
            orgs.add(org)
            kept[key] = at
    return kept


def _is_news(customers: frozenset[str], policy: Policy, now: int) -> bool:
    """Whether it is new that these are one: they are not by the policy's own declaration."""
    declared = {name: policy.group_of(name, now) for name in customers}
    return len({("org", name) if group is None else ("group", group.id) for name, group in declared.items()}) > 1


def _within(item: Evidence, members: Mapping[str, int]) -> Evidence | None:
    keys = tuple([key for key in item.keys if key in members])
    return item if keys == item.keys else item._replace(keys=keys) if len(keys) > 1 else None


def _id(key: str) -> str:
    """A group's name: by the key that was in it first, so that a longer log calls it the same."""
    return "g_" + blake2b(key.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
