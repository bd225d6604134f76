"""A replay: a log read once from its beginning to its end, decided, linked and counted on the way.

Law: what is said of an instant rests on the lines before it. The policies decide in log time, groups that linking
finds count as one customer from the next look at them on (each `LOOK` entries), and no line is kept. What there is
so far can be reported at any moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from headgate.directory import KeysFile
from headgate.linking.finding import Finding
from headgate.linking.observation import Observation
from headgate.policy.compiled import Policy
from headgate.quota import explain
from headgate.quota.identify import digest
from headgate.quota.owner import largest
from headgate.replay import groups
from headgate.replay.callers import ALONE, Callers
from headgate.replay.common_log import ADDRESS
from headgate.replay.counting import Counting, Tally
from headgate.replay.figures import figures
from headgate.replay.groups import Linked
from headgate.replay.ledgers import Ledgers
from headgate.replay.lines import COMMON, Lines
from headgate.replay.notes import notes
from headgate.replay.observing import Observing
from headgate.replay.order import Late, in_order, merged
from headgate.replay.report import Affected, Decisions, Group, Log, Report, Share

LOOK = 2_000
"""Entries between two looks at what linking has found, at most: a minute or two of a busy log. One costs
milliseconds."""

LOOKS = 20
"""… and one in so many of what was read: in a small log a group that was found counts soon as well."""

LEAST_LOOK = 50

AFFECTED = 10
"""Keys in no group that are listed because the policy would refuse them."""

OBSERVED = b"a replay's observations"
"""Under what observations are digested. They never leave the process, and the same log is to give the same report."""

SECRET = "hg_"
"""How a secret of headgate begins. Where one stands as a key, a digest is put in its place."""


class Linking(Protocol):
    """What finds one operator behind many keys: it sees each request, and says what it has found so far."""

    def saw(self, observation: Observation) -> None:
        """One more request."""

    def groups(self) -> list[tuple[Mapping[str, int], float]]:
        """The members and the confidence of what is found so far, cheaply; asking changes nothing."""

    def findings(self) -> list[Finding]:
        """The same with the reasons."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a replay: the policy as it is to decide, who links, the pepper of the digests that are shown,
    the keys that the policy names if there is such a file, the least confidence of a group, and the mode that the
    policy is in."""

    policy: Policy
    linking: Linking
    pepper: bytes
    keys: KeysFile | None = None
    least: float = 0.95
    mode: str = "enforce"


class Replay:
    """One replay over some logs: `run` it, then ask for its `report`."""

    def __init__(self, asked: Asked, logs: Sequence[Lines]) -> None:
        self.asked = asked
        self.logs = logs
        self.late = Late()
        self.figures = figures(asked.policy, claims=asked.keys is not None)
        self.callers = Callers(asked.policy, asked.keys)
        self.ledgers = Ledgers(asked.policy, self.figures, self.callers)
        self.counting = Counting()
        self.secrets = 0
        self.entries = 0
        self.stopped = False
        """Set from elsewhere, it stops the run before the next line."""
        self.since: int | None = None
        self.until: int | None = None

    def run(self, watched: Callable[[], None] = lambda: None) -> None:
        """Read all there is. `watched` is called at each look. Raises LogError for a log that is none.

        Whatever stops it (ctrl-C), a report of what was read until then can be asked for.
        """
        rules = self.asked.policy.linking
        observing = Observing(OBSERVED, *((rules.ignore, rules.signals) if rules is not None else ((),)))
        callers, ledgers, counting, saw = self.callers, self.ledgers, self.counting, self.asked.linking.saw
        look = min(LOOK, LEAST_LOOK)
        for entry in merged([in_order(log.entries(), self.late) for log in self.logs]):
            if self.since is None:
                self.since = entry.at
                observing.paths = any(log.form == COMMON for log in self.logs)
            key = entry.key or ""
            if key[:1] in DISGUISED:
                key = self._named(key)
            who = callers.of(key, entry)
            if who is None:
                counting.keyless += 1
            else:
                counting.decided(key, entry, *ledgers.decide(who, entry))
                if key:
                    counting.took(key, entry)
                    saw(observing.of(key, "" if who.org[0] == ALONE else who.org, entry))
            self.until = entry.at
            self.entries += 1
            if self.stopped:
                return
            if self.entries == look:
                look += min(LOOK, max(LEAST_LOOK, self.entries // LOOKS))
                self._look(entry.at)
                watched()

    def _look(self, now: int) -> None:
        """Count as one customer, from now on, who was found to be one."""
        if self.ledgers.pools:
            found = [Finding(members, (), sure, ()) for members, sure in self.asked.linking.groups()]
            self.ledgers.pool([one.customers for one in self._standing(found, now)], now)

    def _standing(self, found: Sequence[Finding], now: int) -> list[Linked]:
        return groups.linked(found, self.asked.policy, self.callers.customer, now, self.asked.least)

    def _named(self, key: str) -> str:
        """A key as it may be shown: an address that stands for one, and a secret that stands where its public id
        should, each by a digest."""
        kind = "address" if key.startswith(ADDRESS) else "secret"
        if kind == "secret":
            if not key.startswith(SECRET):
                return key
            self.secrets += 1
        return f"{kind}-{digest(self.asked.pepper, kind.encode(), key.encode('utf-8', 'surrogatepass')).hex()[:12]}"

    def report(self, *, interrupted: bool = False, most: int | None = None) -> Report:
        """What there is so far, with at most `most` groups."""
        policy, counting, now = self.asked.policy, self.counting, self.until or 0
        found = self._standing(self.asked.linking.findings(), now)
        listed = found if most is None else found[:most]
        newly = self._newly_refused(found)
        return Report(
            policy=policy.name,
            version=policy.version,
            mode=self.asked.mode,
            logs=tuple([Log(log.file.name, log.form, log.events, log.skipped, log.file.fault) for log in self.logs]),
            bad=tuple([bad for log in self.logs for bad in log.bad]),
            events=self.entries,
            skipped=sum([log.skipped for log in self.logs]),
            since=None if self.since is None else self.since / 1e6,
            until=None if self.until is None else self.until / 1e6,
            keys=len(counting.keys),
            orgs=self.callers.orgs,
            decisions=_decisions(counting.pooled),
            alone=_decisions(counting.alone),
            newly_refused=sum(counting.newly_refused.values()),
            groups=tuple([self._told(one, newly[at]) for at, one in enumerate(listed)]),
            hidden=len(found) - len(listed),
            affected=self._affected(frozenset().union(*[one.customers for one in found])),
            undecided=self.figures.undecided,
            notes=tuple(notes(self, found)),
            interrupted=interrupted,
        )

    def _newly_refused(self, found: Sequence[Linked]) -> list[dict[str, int]]:
        """By group, the keys of its orgs, linked themselves or not, and how often linking alone refuses them."""
        at_of = {name: at for at, one in reversed(list(enumerate(found))) for name in one.customers}
        newly: list[dict[str, int]] = [{} for _ in found]
        for key, times in sorted(self.counting.newly_refused.items(), key=lambda item: (-item[1], item[0])):
            at = at_of.get(self.callers.customer(key))
            if at is not None:
                newly[at][key] = times
        return newly

    def _told(self, one: Linked, newly: dict[str, int]) -> Group:
        counting = self.counting
        refused_by = Tally()
        for key in newly:
            for limit, times in counting.newly_by[key].items():
                refused_by.by_limit[limit] = refused_by.by_limit.get(limit, 0) + times
        return Group(
            id=one.id,
            keys=tuple(sorted(one.members)),
            orgs=one.orgs,
            confidence=one.confidence,
            linked_at={key: at / 1e6 for key, at in sorted(one.members.items(), key=lambda item: (item[1], item[0]))},
            evidence=one.evidence,
            usage=counting.usage(one.members),
            may_take=tuple(self._may_take(one)),
            newly_refused=newly,
            refused_by=refused_by.by_limit,
            spared=counting.spared(newly),
        )

    def _may_take(self, one: Linked) -> list[Share]:
        """What each limit by group gives to them as one customer: the best of their plans' values, once."""
        orgs = [org for name in sorted(one.customers) if (org := self.callers.org(name)) is not None]
        plans = {plan for org in orgs for plan in org.plans}
        shares = []
        for limit in self.figures.limits:
            value = largest(limit.values, plans) if "group" in limit.per else None
            if value is not None:
                shares.append(Share(limit.id, limit.meter.name, explain.amount(value)))
        return shares

    def _affected(self, grouped: frozenset[str]) -> tuple[Affected, ...]:
        """The keys in no group that are refused most often."""
        counting, callers = self.counting, self.callers
        rows = [
            Affected(key, _shown(callers.customer(key)), callers.plan(key), counting.keys[key][0], times, by_limit)
            for key, (times, by_limit) in counting.denied.items()
            if key and callers.customer(key) not in grouped
        ]
        return tuple(sorted(rows, key=lambda one: (-one.denied, one.key))[:AFFECTED])


DISGUISED = frozenset({ADDRESS, SECRET[0]})
"""First letters of keys that may have to be shown otherwise."""


def _shown(customer: str) -> str:
    return "" if customer.startswith(ALONE) else customer


def _decisions(tally: Tally) -> Decisions:
    by_limit, in_shadow = (dict(sorted(counts.items())) for counts in (tally.by_limit, tally.in_shadow))
    return Decisions(tally.allowed, tally.denied, by_limit, in_shadow)
