"""The groups in force in one worker: the policy's own, and those of the register as it was last read.

Law: whoever asks is answered from memory, and `version` moves when an answer may: who keeps what follows from an
answer compares one number. Between two instants at which entries begin or end, groups are worked out once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from headgate.policy.compiled import Policy
from headgate.quota.facts import Group
from headgate.register.entries import EMPTY, Register, States
from headgate.register.in_force import Rules, by_org, in_force


class _Worked(NamedTuple):
    """The groups of a register under a policy, and the span of instants in which they are these."""

    register: Register
    policy: Policy
    begin: int
    end: int
    by_org: Mapping[str, Group]


class Groups:
    """Which group an org belongs to.

    >>> from headgate.quota.identify import Identify
    >>> from headgate.register.said import spoken
    >>> groups, policy = Groups(), Policy("doc", "0", "enforce", Identify(), ())
    >>> groups.of(policy, "a", now=7) is None
    True
    >>> groups.take(spoken(EMPTY, "link", ["a", "b"], reason="one invoice", actor="ann", at=7, until=9))
    >>> sorted(groups.of(policy, "a", now=7).orgs), groups.until(policy, now=7), groups.of(policy, "a", now=9)
    (['a', 'b'], 9, None)
    """

    def __init__(self) -> None:
        self.register: Register = EMPTY
        self.version = 0
        self._policy: Policy | None = None
        self._begin = self._end = self._asked = 0
        self._by_org: Mapping[str, Group] = {}
        self._ahead: _Worked | None = None

    def prepare(self, register: Register) -> None:
        """Work out ahead what `take` of this register would have the next caller wait for; may run in a thread."""
        policy = self._policy
        if policy is not None:
            self._ahead = self._worked_out(register, policy, self._asked)

    def take(self, register: Register) -> None:
        """Go by another register from now on."""
        # What is only told (changes, former groups) decides nothing: who keeps an answer may keep it.
        changed = (register.groups, register.said) != (self.register.groups, self.register.said)
        self.register = register
        if not changed:
            return
        self.version += 1
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.register is register and ahead.policy is self._policy:
            self._by_org, self._begin, self._end = ahead.by_org, ahead.begin, ahead.end
        else:
            self._end = self._begin

    def of(self, policy: Policy, org: str, now: int) -> Group | None:
        """The group that the org belongs to at `now` (microseconds), or None: a group of one."""
        self._asked = now
        if policy is not self._policy or not self._begin <= now < self._end:
            self._work_out(policy, now)
        return self._by_org.get(org)

    def until(self, policy: Policy, now: int) -> int:
        """The first instant after `now` (microseconds) at which an answer may be another one by itself."""
        if policy is not self._policy or not self._begin <= now < self._end:
            self._work_out(policy, now)
        return self._end

    def _work_out(self, policy: Policy, now: int) -> None:
        found = self._worked_out(self.register, policy, now)
        self._policy, self._by_org, self._begin, self._end = policy, found.by_org, found.begin, found.end

    def _worked_out(self, register: Register, policy: Policy, now: int) -> _Worked:
        before = {group: group for group in self._by_org.values()}
        force = in_force(register, rules_of(policy), now)
        # A group that stays is the same object: what is worked out from it once need not be worked out again.
        groups = by_org([before.get(group, group) for group in force.groups])
        return _Worked(register, policy, now, force.until, groups)


def rules_of(policy: Policy) -> Rules:
    """What a policy says of groups.

    Found groups are pooled at once where there is no ladder, when the ladder's step says where it has one that pools
    what is linked, and never where it has none.
    """
    linking = policy.linking
    if linking is None:
        # Nothing is found where nobody asked for it; what people link counts all the same.
        return Rules(affiliated=policy.affiliated, pooled=None)
    pooling = [step.after for step in policy.ladder if step.do == "pool" and step.when == "linked"]
    return Rules(
        affiliated=policy.affiliated,
        separate=tuple([(entry.names, entry.until) for entry in linking.separate]),
        linked=states_of(policy).linked,
        channels=linking.channels,
        pooled=min(pooling, default=None) if policy.ladder else 0,
    )


def states_of(policy: Policy) -> States:
    """From which probabilities on a policy suspects and links."""
    usual, linking = States(), policy.linking
    if linking is None or not linking.linked:
        return usual
    return States(linking.suspect, linking.linked)
