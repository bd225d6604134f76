"""The fast path: identify, match, reserve; serve and meter; settle. Read it from top to bottom.

Law: a request waits for one store round trip and for nothing else. Refused means that nothing was consumed
anywhere; denied is never unavailable. What was granted is settled exactly once, however the request ends. The gate
knows no wire format: `headgate.asgi` gathers the facts and speaks the replies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
    Look,
    Outcome,
    Refusal,
    Refused,
    Reserve,
    Seen,
    Settle,
    Settled,
)
from headgate.quota.decision import Action, Charge, Decision, Reading, crossed, reading, retry_at, told
from headgate.quota.facts import Call, Principal
from headgate.quota.identify import plausible
from headgate.quota.ledger import REPEAT, followed
from headgate.quota.match import Limit, Tariff, lease_of
from headgate.quota.share import share_of
from headgate.quota.window import Max
from headgate.resolver import MOVES, Heard, Resolver
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


@dataclass(slots=True)
class Gate:
    """What stands before the app: a policy, a store, who is known, and the peppers that digest what is stored.

    `peppers`: newest first; what is stored is digested by the newest. `deadline` (seconds) bounds the wait for
    the store; None takes the store's own. `address`: the store's, where another gate may have the same one; "" for
    a store that is this gate's alone.

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
    tariffs: Tariffs = field(init=False)
    _nobody: dict[str, Principal] = field(default_factory=dict)
    _alone: MemoryStore | None = None
    _quiet_until: int = 0
    resolver: Resolver = field(init=False)

    def __post_init__(self) -> None:
        self.tariffs = Tariffs(self.peppers)
        self.resolver = Resolver(self.store)

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
        demands, limits, lease = kept.tariff.asked(call)
        rid = new_id()
        if not demands:
            return Decision(rid.hex(), ALLOW, call.principal, self.clock())
        command = Reserve(rid, demands, lease)
        try:
            if self.store.immediate and not kept.merges:
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
            decision = await self._without_store(command, call, limits, fault)
            self._told(decision, call)
            return decision
        decision = Decision(
            rid.hex(), action, call.principal, outcome.now, demands, limits, outcome.balances, refusals,
            outcome.shadowed, lease, kept.tariff,
        )  # fmt: skip
        if kept.alerts and not refusals:
            missed = {refusal.limit for refusal in outcome.shadowed}
            charges = zip(limits, demands, outcome.balances, strict=True)
            self._alerted(decision, [c for c in charges if not c[1].hold and c[1].place[1] not in missed])
        if listening(INFO if refusals or outcome.shadowed else DEBUG):
            self._told(decision, call)
        return decision

    async def settle(self, decision: Decision, used: Mapping[str, int]) -> None:
        """Replace what a decision holds by what was used: `used` has units by the meter's name.

        Once is enough and twice is the same. Runs to its end even if the caller is cancelled; never raises
        StoreError: without the store it is tried again, and in the end the lease charges what was held.
        """
        if not decision.lease or not decision.allowed:
            return
        pairs = zip(decision.demands, decision.limits, strict=True)
        held = [
            # A place among those at a time is one, whatever went through it.
            (demand.of(1 if type(demand.verb) is Max else used.get(limit.meter.name, 0)), limit)
            for demand, limit in pairs
            if demand.hold
        ]
        limits = tuple([limit for _, limit in held])
        command = Settle(bytes.fromhex(decision.id), self._as_now(decision, [demand for demand, _ in held]))

        def heard(command: Settle, outcome: Outcome) -> None:
            if any(limit.alerts for limit in limits):
                self._alerted(decision, _charges(limits, command, outcome))

        if decision.degraded == "open":
            # Nobody knows whether the store has heard of it: if it has, this is what the request used.
            self.resolver.owe(command, OWED_FOR, heard)
            return
        try:
            await _settled_at(self._fallback() if decision.degraded else self.store, command, heard)
        except (StoreError, asyncio.CancelledError) as fault:
            # It may have been said already. Twice is the same.
            self.resolver.owe(command, OWED_FOR, heard)
            if not isinstance(fault, StoreError):
                raise

    def _as_now(self, decision: Decision, demands: list[Demand]) -> tuple[Demand, ...]:
        """The demands by the windows that hold now, where a reload has changed them: what is settled by a window of
        before would be read by it too, and a smaller one forgets what a larger one knows."""
        try:
            now = decision.tariff if decision.degraded else self._kept(decision.principal).tariff
        except IdentityError:
            now = decision.tariff  # the plan is gone: what was promised under it is kept
        if now is None or now is decision.tariff:
            return tuple(demands)
        verbs = {line.name: line.verb for line in now.lines}
        return tuple(
            [d._replace(verb=v) if (v := verbs.get(d.place[1])) and v.kind == d.verb.kind else d for d in demands]
        )

    async def renew(self, decision: Decision) -> None:
        """Keep what a long response holds for one more lease; called while it lives.

        A renewal that fails is not an error: the next one, or the settlement, makes up for it.
        """
        if not decision.lease or not decision.allowed or decision.degraded == "open":
            return
        demands = tuple([demand.of(0) for demand in decision.demands if demand.hold])
        decision.renewals += 1
        command = Extend(bytes.fromhex(decision.id), demands, decision.lease, decision.renewals)
        store = self._fallback() if decision.degraded else self.store
        try:
            again: Command | None = command
            for _ in range(MOVES):
                if again is not None:
                    again = followed(again, (await store.transact((again,)))[0])
        except StoreError as fault:
            events.warning("headgate.renew.failed", decision=decision.id, reason=str(fault))

    async def look(self, principal: Principal) -> list[tuple[Limit, Reading]]:
        """What a principal has used under every limit that is its own to use up (not by address or route).

        Raises StoreError when the store does not answer.
        """
        kept = self._kept(principal)
        lines = [line for line in kept.tariff.lines if line.place is not None and line.name == line.limit.id]
        demands = tuple(Demand(line.place, line.verb, 0) for line in lines if line.place is not None)
        async with asyncio.timeout(self._deadline()):
            *_, seen = await self.store.transact((*kept.merges, Look(demands)))
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
        commands: tuple[Command, ...] = (*kept.merges, command)
        try:
            if self.store.punctual:
                outcomes = await self.store.transact(commands)
            else:
                async with asyncio.timeout(self._deadline() or None):
                    outcomes = await self.store.transact(commands)
        except TimeoutError:
            raise StoreError(f"no answer within {self._deadline():g} s", transient=True, unknown=True) from None
        except asyncio.CancelledError:
            self._undone(command)
            raise
        kept.merges = ()
        return outcomes[-1]

    def _undone(self, command: Reserve) -> None:
        """What may have been reserved, and will not be used, is given back behind us."""
        self.resolver.owe(Cancel(command.rid, command.demands, REPEAT), OWED_FOR)

    async def _without_store(
        self, command: Reserve, call: Call, limits: tuple[Limit, ...], fault: StoreError
    ) -> Decision:
        """What the limits' `on_store_error` say: one `closed` closes; `local` grants from this worker's share.

        Where nobody knows whether the store has charged it, that is adopted for a request that is let through, since
        it is used; and undone for one that is not, or that is charged to the share."""
        enforced = [limit for d, limit in zip(command.demands, limits, strict=True) if not d.shadow]
        ways = {limit.on_store_error for limit in enforced}
        if self.clock() >= self._quiet_until:
            # Once a second: a full disk must not be filled further by what is said of it.
            self._quiet_until = self.clock() + SECOND
            events.error("headgate.store.error", reason=str(fault), transient=fault.transient, ways=sorted(ways))
        decision = Decision(
            command.rid.hex(), Action.UNAVAILABLE, call.principal, self.clock(), command.demands, limits
        )
        if fault.unknown and (ways & {"closed", "local"}):
            self._undone(command)
        if "closed" in ways:
            return decision
        if "local" in ways:
            return await self._from_share(command, decision)
        decision.action, decision.degraded = Action.ALLOW, "open"
        decision.lease = command.lease if fault.unknown and any(d.hold for d in command.demands) else 0
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


def _charges(limits: tuple[Limit, ...], command: Settle, outcome: Outcome) -> list[Charge]:
    assert isinstance(outcome, Settled), "a settlement is settled"
    by_id = {limit.id: limit for limit in limits}
    told = zip(command.demands, outcome.balances, outcome.added, strict=True)
    return [(by_id[d.place[1]], d.of(added), b) for d, b, added in told if added and d.place[1] in by_id]
