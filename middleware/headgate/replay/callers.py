"""Who made each request of a log, as the gate would have known it: key, org, plan.

Law: what the directory says counts; what it does not know comes from the log itself, and what neither says is the
policy's first plan, counted and told. A caller's principal stays the same object until something of it changes, for
what was worked out for it is kept by it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from headgate.directory import KeysFile
from headgate.policy.compiled import Policy
from headgate.quota.facts import Group, Principal
from headgate.replay.entry import Entry

SECRET = "hg_"
"""How a secret of headgate begins. Where one stands as a key, a digest is put in its place."""

ALONE = "\0"
"""Begins the org of a key that has none: it is a customer by itself, and no org of a log is called so."""


@dataclass(slots=True)
class Callers:
    """The principals of a log, and what its orgs are: a directory, as the gate asks one. About 700 bytes a key.

    `keys`: the file of keys, where there is one. `unplanned`: keys for which nobody told a plan; `strange`:
    those whose plan, by key, the policy does not have.

    >>> from headgate.quota.identify import Identify
    >>> callers = Callers(Policy("doc", "0", "enforce", Identify(), (), plans=("free", "pro")))
    >>> one, other = (callers.of(key, Entry(org="acme", traits={"plan": plan})) for key, plan in [("k1", "pro"), ("k2", "")])
    >>> one.plan, other.plan, sorted(callers.org("acme").plans), callers.unplanned
    ('pro', 'free', ['free', 'pro'], {'k2'})
    """  # noqa: E501

    policy: Policy
    keys: KeysFile | None = None
    unplanned: set[str] = field(default_factory=set)
    strange: dict[str, str] = field(default_factory=dict)
    _known: dict[str, Principal] = field(default_factory=dict)
    _orgs: dict[str, Group] = field(default_factory=dict)
    _seen: dict[str, dict[str, None]] = field(default_factory=dict)
    _plans: dict[str, dict[str, int]] = field(default_factory=dict)
    _nobody: Principal | None = None

    files = ()
    version = 0

    def __post_init__(self) -> None:
        anonymous = self.policy.identify.anonymous
        self._nobody = None if anonymous is None else Principal("", "", anonymous)

    def of(self, key: str, entry: Entry) -> Principal | None:
        """Who made a request; None for one without a key where the policy serves no anonymous ones."""
        known = self._known.get(key)
        placed = known is not None and (known.org[0] != ALONE or not entry.org)
        if placed and entry.traits is None:
            return known
        if not key:
            return self._nobody
        told = entry.traits.get("plan") if entry.traits else None
        if placed and known is not None and (not isinstance(told, str) or told in {"", known.plan}):
            return known
        return self._met(key, entry.org or ALONE + key, told if isinstance(told, str) else "")

    def customer(self, key: str) -> str:
        """The org that a key counts for; where it belongs to none, a name that begins with `ALONE`; "" if unseen."""
        known = self._known.get(key)
        return "" if known is None else known.org

    def plan(self, key: str) -> str:
        """The plan that a key is on."""
        known = self._known.get(key)
        return "" if known is None else known.plan

    @property
    def orgs(self) -> int:
        """How many orgs were seen."""
        return len(self._orgs) - self.without_org

    @property
    def without_org(self) -> int:
        """How many keys were seen that belong to none."""
        return sum([known.org[0] == ALONE for known in self._known.values()])

    def org(self, name: str) -> Group | None:
        """An org as a group of one, with the plans of those of its keys that were seen so far."""
        return self._orgs.get(name)

    def known(self, secret: bytes) -> Principal | None:
        """Nobody: a log has no secrets."""
        return None

    async def find(self, secret: bytes) -> Principal | None:
        """Nobody."""
        return None

    def refresh(self) -> bool:
        """Nothing changes but by what is read."""
        return False

    def _met(self, key: str, org: str, plan: str) -> Principal:
        """A key that is seen for the first time, or with another plan."""
        listed = self.keys.principal(key) if self.keys is not None else None
        if listed is not None and self.policy.plans and listed.plan not in self.policy.plans:
            listed = None
        known = self._known.get(key)
        if listed is not None and known is not None:
            return known
        if known is not None and known.org[0] != ALONE:
            org = known.org  # the first that a line tells; keys do not change hands
        plan = plan or ("" if known is None else known.plan)
        fitting = listed.plan if listed is not None else self._fitting(key, plan)
        if known is not None and (known.plan, known.org) == (fitting, org):
            return known
        if known is not None and known.org != org:
            del self._orgs[known.org], self._seen[known.org], self._plans[known.org]  # it was alone so far
        found = self._known[key] = listed or Principal(key, org, fitting)
        self._seen.setdefault(found.org, {})[key] = None
        self._grown(found, known.plan if known is not None and known.org == org else None)
        return self._known[key]

    def _grown(self, found: Principal, plan: str | None) -> None:
        """An org with one more key, or a key with another plan than before: it may mean other values for all."""
        org, counts = found.org, self._plans.setdefault(found.org, {})
        counts[found.plan] = counts.get(found.plan, 0) + 1
        if plan is not None:
            counts[plan] -= 1
            if not counts[plan]:
                del counts[plan]
        before = self._orgs.get(org)
        if before is not None and before.plans == counts.keys():
            return
        listed = self.keys.org(org) if self.keys is not None else None
        now = self._orgs[org] = listed or Group(org, frozenset({org}), frozenset(counts))
        if before is not None and now != before:
            for key in self._seen[org]:
                self._known[key] = replace(
                    self._known[key]
                )  # another object: what was kept for it is worked out anew

    def _fitting(self, key: str, plan: str) -> str:
        plans = self.policy.plans
        if not plans or plan in plans:
            self.unplanned.discard(key)
            self.strange.pop(key, None)
            return plan if plans else ""
        if plan:
            self.strange[key] = plan
        else:
            self.unplanned.add(key)
        return plans[0]
