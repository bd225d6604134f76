"""What the policy means for each principal, worked out once and kept until it changes.

Law: a kept tariff is used only for the very principal, policy, directory, groups and span of time that it was worked
out for.
So a reload, a changed record and the end of a window each lead to a new one, and nothing need be told. What a new one
must not forget is said to the store: ahead of the first request under it, what lies under the pepper before is moved;
and in no request's way, a group is raised to what its orgs have used (`Joining`). Nobody has to remember who was in
which group: a group's place is named by its orgs, and each org's own place tells what it alone has used.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

from headgate.directory import Directory
from headgate.errors import IdentityError
from headgate.policy.compiled import Policy
from headgate.quota.balance import FOREVER, LATE
from headgate.quota.command import Demand, Join, Merge
from headgate.quota.facts import Group, Principal
from headgate.quota.identify import digest
from headgate.quota.match import LEASE, WHOLE, Tariff, joins, tariff
from headgate.register import EMPTY, Groups, Register
from headgate.register.entries import Linked, Said

ROOM = 50_000
"""Principals whose tariff is kept; about 2 kB each with six limits, 100 MB when full."""

AGREE = 10_000_000
"""How long (microseconds) a tariff is kept where others decide on it: a directory may first hear of another org of
the group at any time, and workers should not disagree for longer on what the group's plan is."""


AGAIN = 10_000_000
"""How long (microseconds) after a join it is said again; twice as long after each further one. Workers that do not
know of a link yet go on charging an org alone: for two seconds as a rule, and what they hold then may be settled as
long as `TRICKLES`."""

TRICKLES = LEASE + LATE

SOON = 1_000_000
"""How long (microseconds) after a join to which no answer came it is said again at the earliest; longer after each
further one, up to `AGAIN`. Most likely the store has carried it out and was slow to say so."""

GROUPS = 4_096
"""Groups of which it is remembered that their joins were said; of one more the oldest is said again."""


class Joining:
    """The joins of one group in this worker: said when it first asks, and then again less and less often until
    nothing can come any more from workers that did not know of it.

    They are a group's as long as it stays in force: `policy` and `group` are those that it began by, `traces` what
    the group follows from, found out at `sure`, and `windows` those that its limits have had since `begun`. They
    never end (`lasts`) where there are several peppers: workers may have the older one alone, and charge the group
    where it lay under that.

    One request at a time says them. What goes before they are answered costs no more than workers that do not know of
    the link: the next join counts it."""

    __slots__ = (
        "_commands", "_first", "_made_of", "_tried", "begun", "due", "group", "lasts", "policy", "sure", "traces",
        "windows",
    )  # fmt: skip

    def __init__(self, policy: Policy, group: Group | None = None, begun: int = 0, lasts: bool = False) -> None:
        self.policy, self.group, self.begun, self.lasts = policy, group, begun, lasts
        self.traces: tuple[object, ...] = ()
        self.sure: object = None
        self.windows: frozenset[tuple[object, ...]] = frozenset()
        self.due = 0
        self._first = self._tried = FOREVER
        self._made_of: Tariff | None = None
        self._commands: tuple[Join, ...] = ()

    @property
    def heard(self) -> bool:
        """Whether they were answered at least once."""
        return self._first != FOREVER

    def commands(self, lines: Tariff, peppers: tuple[bytes, ...], now: int) -> tuple[Join, ...]:
        """What is to be said at `now`, limit by limit, by the windows of a tariff of one of the group's orgs."""
        if now < self.due:
            return ()
        self._tried = min(self._tried, now)
        self.due = now + (AGAIN if self.heard else min(max(SOON, now - self._tried), AGAIN))
        # As many digests as there are orgs: made once for all who say them.
        if self._made_of is None or self._made_of.until <= now:
            self._made_of, self._commands = lines, _joins(lines, peppers)
        return self._commands

    def said(self, now: int) -> None:
        """They were answered."""
        self._first = min(self._first, now)
        passed = now - self._first
        # Of many who said it at once each comes here: how often must not matter.
        self.due = now + max(AGAIN, min(passed, TRICKLES)) if self.lasts or passed <= TRICKLES else FOREVER
        self._made_of, self._commands = None, ()


@dataclass(slots=True)
class Kept:
    """A principal's tariff as it was worked out, what must be said before the first request under it, whether any of
    its limits tells when a share is used, and the instant from which on it must be worked out anew. `version`,
    `groups`: those of the directory and of the groups in force that it was worked out by, at the instant `made`."""

    principal: Principal
    policy: Policy
    version: int
    groups: int
    tariff: Tariff
    merges: tuple[Merge, ...]
    joining: Joining | None
    alerts: bool
    until: int
    made: int
    peppers: tuple[bytes, ...]

    @property
    def quiet(self) -> bool:
        """Whether there is nothing to be said ahead of a request, now and later."""
        return not self.merges and self.joining is None

    def ahead(self, now: int) -> tuple[Merge | Join, ...]:
        """What is to be said ahead of a request at `now`, to a store that need not be waited for; then tell it with
        `said` that it was answered."""
        return (*self.merges, *self.joins(now))

    def joins(self, now: int) -> tuple[Join, ...]:
        """What is to be said of its group at `now`; nothing until it is due."""
        return () if self.joining is None else self.joining.commands(self.tariff, self.peppers, now)

    def said(self, ahead: tuple[Merge | Join, ...], now: int) -> None:
        """What `ahead` has answered was said and answered."""
        if not ahead:
            return
        self.merges = ()
        if self.joining is not None and isinstance(ahead[-1], Join):
            self.joining.said(now)


class Tariffs:
    """The tariffs of one worker. `peppers`: newest first; what is stored lies under the newest. `groups`: those that
    are in force, the policy's own among them; whoever follows the register tells of the others.

    >>> from headgate.quota.identify import Identify
    >>> tariffs, anyone = Tariffs((b"pepper",)), Principal("k1", "acme")
    >>> policy = Policy("doc", "0", "enforce", Identify(), ())
    >>> tariffs.of(anyone, policy, None, now=0) is tariffs.of(anyone, policy, None, now=1)
    True
    """

    def __init__(self, peppers: tuple[bytes, ...]) -> None:
        self.groups = Groups()
        self._peppers = peppers
        self._kept: dict[tuple[str, str], Kept] = {}
        self._joining: dict[str, Joining] = {}
        self._entries: tuple[Register, dict[str, list[Said | Linked]]] = (EMPTY, {})

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
            and kept.groups == self.groups.version
            and (directory is None or kept.version == directory.version)
        ):
            return kept
        return self._worked_out(principal, policy, directory, now)

    def _worked_out(self, principal: Principal, policy: Policy, directory: Directory | None, now: int) -> Kept:
        if policy.plans and principal.plan not in policy.plans:
            raise IdentityError(
                f"key {principal.key} has the plan `{principal.plan}`; the policy knows {', '.join(policy.plans)}"
            )
        made = partial(_made, principal, policy, directory, self.groups, now)
        version = 0 if directory is None else directory.version  # read first: it may go on while we read the rest
        lines = made(self._peppers[0])
        # The oldest pepper first: what lies there is moved to the newest, wherever it lay before.
        moves = [move for pepper in reversed(self._peppers[1:]) for move in _moved(made(pepper), lines)]
        kept = Kept(
            principal, policy, version, self.groups.version, lines, tuple(moves),
            self._joining_of(lines, principal, policy, now), any(line.limit.alerts for line in lines.lines),
            min(lines.until, self.groups.until(policy, now)), now, self._peppers,
        )  # fmt: skip
        if lines.group is not None:
            kept.until = min(kept.until, now + AGREE)
        while len(self._kept) >= ROOM:
            del self._kept[next(iter(self._kept))]
        self._kept[principal.key, principal.plan] = kept
        return kept

    def _joining_of(self, lines: Tariff, principal: Principal, policy: Policy, now: int) -> Joining | None:
        """The joins of the group that is charged. They begin anew under a new policy, for a limit that was counted by
        org may be counted by group from now on; when its orgs may have been apart since they began, here or at
        another worker; and when a limit's window is another one, for usage lies under the one before."""
        if lines.counted is None:
            return None
        group = self.groups.of(policy, principal.org, now)
        sure = (self.groups.version, self.groups.until(policy, now))
        found, windows = self._joining.get(lines.counted.id), _windows(lines)
        if found is not None and found.policy is policy and found.group is group and found.sure == sure:
            traces = found.traces
        else:
            traces = self._traces(lines.counted.orgs, policy, now)
        if found is not None and found.policy is policy and found.group is group and found.traces == traces:
            found.sure = sure
            before = self._kept.get((principal.key, principal.plan))
            since = before is not None and before.policy is policy and before.made >= found.begun
            turned = since and before is not None and _windows(before.tariff) != windows
            if windows in found.windows and not turned:
                return found
            # Keys of one group may have other windows at once: those do not take turns.
            windows_since = frozenset({windows}) if turned else found.windows | {windows}
        else:
            windows_since = frozenset({windows})
        self._joining.pop(lines.counted.id, None)
        while len(self._joining) >= GROUPS:
            del self._joining[next(iter(self._joining))]
        found = self._joining[lines.counted.id] = Joining(policy, group, now, len(self._peppers) > 1)
        found.sure, found.traces, found.windows = sure, traces, windows_since
        return found

    def _traces(self, orgs: frozenset[str], policy: Policy, now: int) -> tuple[object, ...]:
        """What these orgs' being a group follows from, and what else is said of any of them: the same as before only
        if they have been a group all the time, also where that was not seen."""
        register = self.groups.register
        if self._entries[0] is not register:
            by_org: dict[str, list[Said | Linked]] = {}
            for word in register.said:
                for org in (*word.orgs, *word.others):
                    by_org.setdefault(org, []).append(word)
            for found in register.groups:
                for org in found.orgs:
                    by_org.setdefault(org, []).append(found)
            self._entries = (register, by_org)
        named = {entry.id: entry for org in orgs for entry in self._entries[1].get(org, ())}
        ends = [end for _, end in policy.affiliated]
        ends += [entry.until for entry in policy.linking.separate] if policy.linking is not None else []
        return (sum([end <= now for end in ends]), frozenset([self._trace(entry, now) for entry in named.values()]))

    def _trace(self, entry: Said | Linked, now: int) -> tuple[object, ...]:
        if isinstance(entry, Said):
            return entry.id, entry.active(now)
        # How likely a found group is decides only where another entry has an org of it, too.
        alone = not any(len(self._entries[1][org]) > 1 for org in entry.orgs)
        return entry.id, entry.state, entry.since, entry.orgs, 0.0 if alone else entry.confidence


def _made(
    principal: Principal, policy: Policy, directory: Directory | None, groups: Groups, now: int, pepper: bytes
) -> Tariff:
    org = _customer(Group(principal.org, frozenset({principal.org})), principal, policy, directory)
    group = groups.of(policy, principal.org, now)
    if group is not None and len(group.orgs) < 2:
        group = None
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


def _windows(lines: Tariff) -> tuple[object, ...]:
    """Which windows the limits of a group have: what their usage lies under in the store."""
    shared = [line for line in lines.lines if line.shared]
    return tuple([(line.name, line.verb.kind, getattr(line.verb, "spec", 0)) for line in shared])


def _joins(lines: Tariff, peppers: tuple[bytes, ...]) -> tuple[Join, ...]:
    """The joins of a group, limit by limit. Each org is read under all peppers, for what it used stays under the
    pepper before until it asks; the newest first, so that what moves meanwhile is missed rather than read twice."""
    found = joins(lines, lines.digest)
    for pepper in peppers[1:]:
        before = joins(lines, partial(_subject, pepper, ""))
        found = tuple([Join(one.into, one.sources + more.sources) for one, more in zip(found, before, strict=True)])
    return found


def _moved(before: Tariff, lines: Tariff) -> list[Merge]:
    """What lies under the pepper before, moved to where it lies from now on; limits by address or route apart, whose
    places only a request tells, and a group's own, which its joins raise anew: workers that have the older pepper
    alone go on raising it where it lay, to what was moved already."""
    said: list[Merge] = []
    for old, new in zip(before.lines, lines.lines, strict=True):
        joined = new.shared and new.limit.per == ("group",)
        for here, there in ((None, None) if joined else (old.place, new.place), (old.own, new.own)):
            if here is not None and there is not None:
                said.append(Merge(Demand(there, new.verb, 0), (Demand(here, old.verb, 0),)))
    return said


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
