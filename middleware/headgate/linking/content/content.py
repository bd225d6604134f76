"""One operator's prompts behind many keys: what was seen goes in, what is found comes out.

Law: work is bounded for each observation, memory for each key, and what is said of an instant rests on what was seen
before it. A request without a prompt tells of its key's account and connection alone.
"""

from __future__ import annotations

from headgate.linking.content import telling
from headgate.linking.content.groups import Group
from headgate.linking.content.judging import Judging
from headgate.linking.content.meetings import Meetings
from headgate.linking.finding import Finding
from headgate.linking.observation import Observation
from headgate.linking.traits import Traits

LEAST = 0.5
"""Confidence under which a group is not told of."""


class Content:
    """The half of linking that looks at prompts.

    >>> content = Content()
    >>> content.saw(Observation(at=0, key="k1", org="acme", served=True, clauses=(1, 2, 3)))
    >>> content.findings()
    []
    """

    def __init__(self) -> None:
        self._meetings = Meetings()
        self._traits = Traits()
        self._judging = Judging(self._meetings, self._traits)

    def saw(self, observation: Observation) -> None:
        """A request more."""
        meetings = self._meetings
        keys = meetings.keys
        key = meetings.number(observation.key, observation.org)
        if observation.traits:
            self._traits.saw(key, keys.org[key], observation.traits)
        if observation.signup is not None and keys.signup[key] < 0:
            keys.signup[key] = observation.signup
        if observation.clauses:
            due = meetings.saw(key, observation.clauses, observation.names)
            if due:
                self._judging.judge(due, observation.at)

    def findings(self, told: bool = True) -> list[Finding]:
        """The groups, strongest first. `told`: with the evidence; without, it is a matter of microseconds a key."""
        keys = self._meetings.keys
        return [
            Finding(
                members=self._members(group),
                orgs=tuple(sorted({keys.org_ids[keys.org[key]] for key in group.keys} - {""})),
                confidence=self._judging.confidence(group),
                evidence=telling.told(self._judging, group) if told else (),
            )
            for group in self._found()
        ]

    def _found(self) -> list[Group]:
        groups = self._judging.groups
        found = [
            group
            for group in groups.all.values()
            if groups.orgs(group.keys) > 1 and self._judging.confidence(group) >= LEAST
        ]
        return sorted(found, key=lambda group: (-group.held, group.number))

    def _members(self, group: Group) -> dict[str, int]:
        ids = self._meetings.keys.ids
        since = 0 if group.sure_at is None else group.sure_at
        return {ids[key]: max(group.at[key], since) for key in sorted(group.keys)}
