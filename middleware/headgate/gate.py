"""The fast path: identify, match, reserve; serve and meter; settle. Read it from top to bottom.

Law: a request waits for one store round trip and for nothing else; the first of a group, half as long again. Refused
means that nothing was consumed anywhere; denied is never unavailable. What was granted is settled exactly once,
however the request ends. The gate knows no wire format: `headgate.asgi` gathers the facts and speaks the replies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from headgate.clock import SECOND, Clock, wall_clock
from headgate.directory import Directory
from headgate.errors import IdentityError, StoreError
from headgate.ids import new_id
from headgate.policy.compiled import Policy
from headgate.quota.balance import LATE
from headgate.quota.command import (
    Cancel,
    Command,
    Demand,
    Extend,
    Granted,
    Join,
    Look,
    Merge,
    Outcome,
    Refusal,
    Refused,
    Reserve,
    Seen,
    Settle,
)
from headgate.quota.decision import Action, Charge, Decision, Reading, crossed, reading, retry_at, told
from headgate.quota.facts import Call, Principal
from headgate.quota.identify import plausible
from headgate.quota.ledger import REPEAT, followed
from headgate.quota.match import Asked, Limit, Tariff, lease_of
from headgate.quota.share import share_of
from headgate.quota.under_way import (
    NO_THINGS,
    Extended,
    Things,
    added_by,
    all_pairs,
    as_now,
    grown,
    own_now,
    placed_now,
    settlement,
    shown,
    verdict,
)
from headgate.resolver import MOVES, Flights, Heard, Resolver
from headgate.stores.contract import Store
from headgate.stores.memory import MemoryStore
from headgate.tariffs import Kept, Tariffs
from headgate.telemetry import DEBUG, INFO, events, listening

LOCAL_SHARE = 1_000
"""The part of a limit (a tenth, in hundredths of a percent) that a worker grants alone without the store."""

ALLOW = Action.ALLOW
"""Looked up once: a member of an enumeration costs more than the name of a constant."""

OWED_FOR = LATE / SECOND
"""How long (seconds) a settlement or a cancellation is worth saying: so long after its lease a hold can be corrected.
A server that was stopped for minutes then does what it was asked before, and it is given back."""

ENDS_WITHIN = 5.0
"""How long (seconds) an end waits for a store to take what it is still owed."""


class Eye(Protocol):
    """What looks at requests that have ended or were refused (`headgate.watch.Eye`). It neither raises nor waits."""

    def saw(
        self,
        policy: Policy,
        call: Any,
        scope: MutableMapping[str, Any],
        at: int,
        status: int,
        things: Sequence[object] = (),
    ) -> None:
        """One request: what it asked, when it came (microseconds), how it was answered, and what was handed out."""


@dataclass(slots=True)
class Gate:
    """What stands before the app: a policy, a store, who is known, and the peppers that digest what is stored.

    `peppers`: newest first; what is stored is digested by the newest. `deadline` (seconds) bounds the wait for
    the store; None takes the store's own. `address`: the store's, where another gate may have the same one; "" for
    a store that is this gate's alone. `eye`: what looks at requests that have ended; None for nothing.

    >>> import asyncio
    >>> from headgate.quota.gcra import Rate
    >>> from headgate.quota.identify import Identify
    >>> from headgate.quota.meter import BUILT_IN_METERS
    >>> from headgate.stores import open_store
    >>> rpm = Limit("rpm", BUILT_IN_METERS["requests"], ("key",), {"": Rate(1, 60_000_000)})
    >>> policy = Policy("doc", "0", "enforce", Identify(), (rpm,))
    >>> gate = Gate(policy, open_store("memory://"), peppers=(b"pepper",))
    >>> call = Call(Principal("k1", "acme"))
    >>> [asyncio.run(gate.admit(call)).action.value for _ in range(2)]
    ['allow', 'not_yet']
    """

    policy: Policy
    store: Store
    peppers: tuple[bytes, ...]
    directory: Directory | None = None
    clock: Clock = wall_clock
    deadline: float | None = None
    address: str = ""
    eye: Eye | None = None
    tariffs: Tariffs = field(init=False)
    _nobody: dict[str, Principal] = field(default_factory=dict)
    _alone: MemoryStore | None = None
    _quiet_until: int = 0
    resolver: Resolver = field(init=False)
    flights: Flights = field(init=False)

    def __post_init__(self) -> None:
        self.tariffs = Tariffs(self.peppers)
        self.resolver = Resolver(self.store)
        self.flights = Flights(self.store)

    def same_as(self, other: Gate) -> bool:
        """Whether two gates count the same requests in the same ledger: then one of them charges a request."""
        if self is other:
            return True
        alike = self.address == other.address and self.peppers == other.peppers
        return bool(self.address) and alike and self.policy.version == other.policy.version

    @property
    def disabled(self) -> bool:
        """Whether requests pass untouched."""
        return self.policy.mode == "disabled"

    async def identify(self, secret: bytes | None) -> Principal | None:
        """Who calls: the directory's principal, an anonymous one where the policy has one, or None to refuse.

        `secret` is the credential as it came, None where there is none. Raises IdentityError when the directory
        answers what it must not, DirectoryUnavailable when it does not answer.
        """
        way = self.policy.identify
        if secret is not None:
            if self.directory is not None:
                # What is known is a key whatever it looks like; a stranger's is looked at before one asks for it.
                found = self.directory.known(secret)
                if found is None and plausible(secret):
                    found = await self.directory.find(secret)
                if found is not None:
                    return found
            if way.unknown_key == "refuse":
                return None
        return None if way.anonymous is None else self._anonymous(way.anonymous)

    def _anonymous(self, plan: str) -> Principal:
        kept = self._nobody.get(plan)
        if kept is None:
            kept = self._nobody[plan] = Principal("", "", plan)
        return kept

    async def admit(self, call: Call) -> Decision:
        """Decide one request: all limits that match grant it, or nothing is charged.

        Raises IdentityError when the directory names a plan that the policy does not know. Never raises
        StoreError: what happens without the store is the policy's to say, and stands in the decision.
        """
        kept = self.tariffs.of(call.principal, self.policy, self.directory, self.clock())
        demands, limits, lease, own, whole = kept.tariff.asked(call)
        rid = new_id()
        if not demands:
            return Decision(rid.hex(), ALLOW, call.principal, self.clock())
        command = Reserve(rid, whole, lease)
        try:
            if self.store.immediate and kept.quiet:
                [outcome] = await self.store.transact((command,))
            else:
                outcome = await self._reserved(kept, command)
            refusals: tuple[Refusal, ...]
            if type(outcome) is Refused:
                refusals = outcome.refusals
                action = Action.NOT_YET if retry_at(refusals) is not None else Action.NEVER
            elif type(outcome) is Granted:
                refusals, action = (), ALLOW
            else:
                raise StoreError("the store knows a reservation's id that was never used before", transient=False)
        except StoreError as fault:
            decision = await self._without_store(command, call, kept.tariff.asked(call), fault)
            self._told(decision, call)
            return decision
        balances = outcome.balances[: len(demands)] if own else outcome.balances
        decision = Decision(
            rid.hex(), action, call.principal, outcome.now, demands, limits, balances, refusals,
            outcome.shadowed, lease, kept.tariff, own=own,
        )  # fmt: skip
        if kept.alerts and not refusals:
            missed = {refusal.limit for refusal in outcome.shadowed}
            charges = zip(limits, demands, balances, strict=True)
            self._alerted(decision, [c for c in charges if not c[1].hold and c[1].place[1] not in missed])
        if listening(INFO if refusals or outcome.shadowed else DEBUG):
            self._told(decision, call)
        return decision

    async def settle(self, decision: Decision, used: Mapping[str, int], things: Things = NO_THINGS) -> None:
        """Replace what a decision holds by what was used: `used` has units by the meter's name, `things` what was
        handed out of a meter that counts different things.

        Once is enough and twice is the same. Runs to its end even if the caller is cancelled; never raises
        StoreError: without the store it is tried again, and in the end the lease charges what was held.
        """
        if not decision.lease or not decision.allowed:
            return
        held, limits = settlement(decision, used, things)
        if not held:
            return
        command = Settle(bytes.fromhex(decision.id), as_now(held, self._now(decision)))
        many = sum([demand.hold for demand in decision.demands])

        def heard(command: Settle, outcome: Outcome) -> None:
            if any(limit.alerts for limit in limits):
                self._alerted(decision, added_by(limits, command, shown(outcome, many)))

        if decision.degraded == "open":
            # Nobody knows whether the store has heard of it: if it has, this is what the request used.
            self.resolver.owe(command, OWED_FOR, heard)
            return
        try:
            await _settled_at(self._store_of(decision), command, heard)
        except (StoreError, asyncio.CancelledError) as fault:
            # It may have been said already. Twice is the same.
            self.resolver.owe(command, OWED_FOR, heard)
            if not isinstance(fault, StoreError):
                raise

    def _now(self, decision: Decision) -> Tariff | None:
        """The tariff that holds now for who was decided on, if it is another one than it was decided by. None as well
        where it was decided without the store, and where the plan is gone: what was promised under it is kept."""
        if decision.tariff is None or decision.degraded:
            return None
        try:
            now = self._kept(decision.principal).tariff
        except IdentityError:
            return None
        return now if now is not decision.tariff else None

    async def renew(self, decision: Decision) -> None:
        """Keep what a long response holds for one more lease; called while it lives.

        A renewal that fails is not an error: the next one, or the settlement, makes up for it.
        """
        await self.extend(decision, {})

    async def extend(self, decision: Decision, more: Mapping[str, int]) -> Extended:
        """Hold `more` units, by the meter's name, of what a decision holds already, and keep that for one more lease:
        all of it is granted, or nothing more is held. Never raises StoreError: a store that is not heard refuses
        nobody, and the settlement charges what was used.
        """
        # All that is held is named, also where it does not grow: one lease for all.
        held = [(grown(d, more.get(m.meter.name, 0)), m) for d, m in all_pairs(decision) if d.hold]
        if not held or not decision.lease or not decision.allowed or decision.degraded == "open":
            return Extended(False)
        demands = as_now([demand for demand, _ in held], self._now(decision) if more else None)
        decision.renewals += 1
        again: Command | None = Extend(bytes.fromhex(decision.id), demands, decision.lease, decision.renewals)
        outcome: Outcome | None = None
        try:
            for _ in range(MOVES):
                if again is not None:
                    [outcome] = await self._answered(self._store_of(decision), (again,))
                    again = followed(again, outcome)
        except StoreError as fault:
            events.warning("headgate.renew.failed", decision=decision.id, reason=str(fault))
            return Extended(False)
        assert outcome is not None, "asked at least once"
        many = sum([demand.hold for demand in decision.demands])
        shown_limits = tuple([limit for _, limit in held[:many]])
        return verdict(replace(decision, limits=shown_limits), demands[:many], shown(outcome, many))

    async def turn_over(
        self, part: Decision, used: Mapping[str, int] | None, things: Things, hold: int, owed: bool = False
    ) -> Extended:
        """Settle what `part` has used so far and hold `hold` units of each of its meters under another id, so that
        what a long stream used counts as used while it lives, and drains. `used` is None where that is settled
        already.

        Refused: it is settled all the same, and nothing is held any more. What is `owed` was used already: it is held
        whatever is left, and never refused. Raises StoreError if the store is not
        heard: then the same part is to be turned over again, or settled as if nothing had been said.
        """
        now = self._now(part)
        demands = tuple([d._replace(amount=hold, things=(), owed=owed) for d in placed_now(part.demands, now)])
        own = own_now(demands, part.limits, part.own, now)
        after = replace(part, id=new_id().hex(), demands=demands, renewals=0, own=own)
        reserve = Reserve(bytes.fromhex(after.id), (*demands, *[demand for demand, _ in own]), part.lease)
        commands: list[Command] = [reserve]
        if used is not None:
            held, limits = settlement(part, used, things)
            commands.insert(0, Settle(bytes.fromhex(part.id), as_now(held, now)))
        try:
            *settled, outcome = await self._answered(self._store_of(part), commands)
        except StoreError as fault:
            if fault.unknown:
                self._undone(reserve)
            raise
        if settled and isinstance(commands[0], Settle):
            await self._followed_up(part, commands[0], settled[0], limits)
        found = verdict(part, demands, shown(outcome, len(demands)))
        return found._replace(part=after if found.granted else None)

    async def _followed_up(
        self, part: Decision, command: Settle, outcome: Outcome, limits: tuple[Limit, ...]
    ) -> None:
        """Alerts of a settlement, and its rest where a merge has moved what it settles."""
        if any(limit.alerts for limit in limits):
            many = sum([demand.hold for demand in part.demands])
            self._alerted(part, added_by(limits, command, shown(outcome, many)))
        again = followed(command, outcome)
        if isinstance(again, Settle):
            self.resolver.owe(again, OWED_FOR)

    async def look(self, principal: Principal) -> list[tuple[Limit, Reading]]:
        """What a principal has used under every limit that is its own to use up (not by address or route).

        Raises StoreError when the store does not answer.
        """
        kept = self._kept(principal)
        lines = [line for line in kept.tariff.lines if line.place is not None and line.name == line.limit.id]
        demands = tuple(Demand(line.place, line.verb, 0) for line in lines if line.place is not None)
        ahead = await self._ahead(kept)
        async with asyncio.timeout(self._deadline()):
            *_, seen = await self.store.transact((*ahead, Look(demands)))
        kept.said(ahead, self.clock())
        assert isinstance(seen, Seen), "a look sees"
        readings = [reading(d, b, seen.now) for d, b in zip(demands, seen.balances, strict=True)]
        return [(line.limit, found) for line, found in zip(lines, readings, strict=True)]

    def tariff(self, principal: Principal) -> Tariff:
        """The lines of the policy's table that hold for a principal now."""
        return self._kept(principal).tariff

    def _kept(self, principal: Principal) -> Kept:
        return self.tariffs.of(principal, self.policy, self.directory, self.clock())

    def _deadline(self) -> float:
        return self.store.deadline if self.deadline is None else self.deadline

    async def _reserved(self, kept: Kept, command: Reserve) -> Outcome:
        """The store's answer within the deadline."""
        ahead = kept.merges if kept.joining is None else await self._ahead(kept)
        try:
            outcomes = await self._answered(self.store, (*ahead, command))
        except (asyncio.CancelledError, GeneratorExit):
            # Whoever asked is gone: the request is not served, and what may have been charged is not used.
            self._undone(command)
            raise
        kept.said(ahead, self.clock())
        return outcomes[-1]

    async def _ahead(self, kept: Kept) -> tuple[Merge | Join, ...]:
        """What is to be said ahead of a request. Where a store has to be waited for, the joins of its group are said
        behind the requests. Until they were heard once, a request waits for them, but not longer than half a deadline
        from when they were begun; it goes on without them then, with all its time, and what it is granted is counted
        by the next join."""
        if self.store.immediate:
            return kept.ahead(self.clock())
        joining = kept.joining
        if joining is not None:
            if not self.flights.under_way(joining):
                joins = kept.joins(self.clock())
                if joins:
                    within = self._deadline() / 2 or None
                    self.flights.begin(joining, joins, lambda: joining.said(self.clock()), within)
            if not joining.heard:
                await self.flights.waited(joining)
        return kept.merges

    async def _answered(self, store: Store, commands: Sequence[Command]) -> list[Outcome]:
        """The outcomes within the deadline. Raises StoreError."""
        if store.punctual:
            return await store.transact(commands)
        try:
            async with asyncio.timeout(self._deadline() or None):
                return await store.transact(commands)
        except TimeoutError:
            raise StoreError(f"no answer within {self._deadline():g} s", transient=True, unknown=True) from None

    def _store_of(self, decision: Decision) -> Store:
        """Where a decision's holds are: the worker's own share, if it was decided without the store."""
        return self._fallback() if decision.degraded else self.store

    def _undone(self, command: Reserve) -> None:
        """What may have been reserved, and will not be used, is given back behind us."""
        with suppress(RuntimeError):  # where no loop runs any more its lease ends it
            self.resolver.owe(Cancel(command.rid, command.demands, REPEAT), OWED_FOR)

    async def _without_store(self, command: Reserve, call: Call, asked: Asked, fault: StoreError) -> Decision:
        """What the limits' `on_store_error` say: one `closed` closes; `local` grants from this worker's share.

        Where nobody knows whether the store has charged it, that is adopted for a request that is let through, since
        it is used; and undone for one that is not, or that is charged to the share."""
        enforced = [limit for d, limit in zip(asked.demands, asked.limits, strict=True) if not d.shadow]
        ways = {limit.on_store_error for limit in enforced}
        if self.clock() >= self._quiet_until:
            # Once a second: a full disk must not be filled further by what is said of it.
            self._quiet_until = self.clock() + SECOND
            events.error("headgate.store.error", reason=str(fault), transient=fault.transient, ways=sorted(ways))
        decision = Decision(
            command.rid.hex(), Action.UNAVAILABLE, call.principal, self.clock(), asked.demands, asked.limits
        )
        if fault.unknown and (ways & {"closed", "local"}):
            self._undone(command)
        if "closed" in ways:
            return decision
        if "local" in ways:
            return await self._from_share(command, decision)
        decision.action, decision.degraded = Action.ALLOW, "open"
        decision.lease = command.lease if fault.unknown and any(d.hold for d in command.demands) else 0
        decision.own = asked.own
        return decision

    async def _from_share(self, command: Reserve, decision: Decision) -> Decision:
        pairs = [
            (demand._replace(verb=share_of(demand.verb, LOCAL_SHARE)), limit)
            for demand, limit in zip(decision.demands, decision.limits, strict=True)
            if limit.on_store_error == "local"
        ]
        decision.demands, decision.limits = tuple(d for d, _ in pairs), tuple(limit for _, limit in pairs)
        decision.lease = lease_of(decision.demands)
        [outcome] = await self._fallback().transact((command._replace(demands=decision.demands),))
        if isinstance(outcome, Granted):
            decision.action, decision.degraded = Action.ALLOW, "local"
            decision.now, decision.balances = outcome.now, outcome.balances
        return decision

    def _fallback(self) -> MemoryStore:
        if self._alone is None:
            self._alone = MemoryStore(clock=self.clock)
        return self._alone

    def _alerted(self, decision: Decision, charges: Sequence[Charge]) -> None:
        """An event for each share of a limit (`alert: [80%, 100%]`) that these very charges have passed."""
        for limit, percent, now in crossed(charges, decision.now):
            events.warning(
                "headgate.alert", limit=limit.id, percent=percent, used=now.used, of=now.capacity,
                per="+".join(limit.per), key=decision.principal.key, org=decision.principal.org, decision=decision.id,
            )  # fmt: skip

    def _told(self, decision: Decision, call: Call) -> None:
        """One event a decision: at `info` if the request is denied, or would be if nothing were in shadow; at `debug`
        if it is served."""
        if not decision.allowed:
            events.info("headgate.denied", **told(decision, call))
        elif decision.shadowed:
            events.info("headgate.shadowed", **told(decision, call))
        else:
            events.debug("headgate.decision", **told(decision, call))

    async def close(self) -> None:
        """Let what is owed to the store be said, then close it."""
        await self.flights.close()
        await self.resolver.close(ENDS_WITHIN)
        await self.store.close()


async def _settled_at(store: Store, command: Settle, heard: Heard) -> None:
    """Settles where the holds were made, and then where a group's merging has moved them meanwhile."""
    again: Command | None = command
    for _ in range(MOVES):
        if not isinstance(again, Settle):
            return
        [outcome] = await store.transact((again,))
        heard(again, outcome)
        again = followed(again, outcome)
