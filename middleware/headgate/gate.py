"""The fast path: identify, match, reserve; serve and meter; settle. Read it from top to bottom.

Law: a request waits for one store round trip and for nothing else. Refused means that nothing was consumed
anywhere; denied is never unavailable. What was granted is settled exactly once, however the request ends. The gate
knows no wire format: `headgate.asgi` gathers the facts and speaks the replies.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from headgate.clock import SECOND, Clock, wall_clock
from headgate.errors import IdentityError, StoreError
from headgate.policy.compiled import Policy
from headgate.quota.decision import Action, Decision, Reading, reading
from headgate.quota.facts import Call, Principal
from headgate.quota.identify import digest
from headgate.quota.ledger import Cancel, Demand, Granted, Look, Refused, Reserve, Seen, Settle
from headgate.quota.match import WHOLE, Limit, Tariff, tariff
from headgate.quota.share import share_of
from headgate.quota.window import Max
from headgate.stores.contract import Store
from headgate.stores.memory import MemoryStore
from headgate.telemetry import events

REPEAT = 10 * SECOND
"""How long a verdict is remembered where nothing is held: longer than any repeat of a command takes."""

LEASE = 10 * 60 * SECOND
"""How long an amount is held for a request that is not heard of, where no `lease` says otherwise."""

LOCAL_SHARE = 1_000
"""The part of a limit (of `WHOLE`: a tenth) that a worker grants alone while the store does not answer."""

SETTLE_AGAIN = (0.1, 1.0, 5.0)
"""Pauses (seconds) before a settlement that found no store is tried again; then the lease settles it."""

TARIFFS = 50_000
"""Principals whose tariff is kept worked out; about 2 kB each with six limits."""


@dataclass(slots=True)
class Gate:
    """What stands before the app: a policy, a store, and the pepper that digests what is stored.

    `deadline` (seconds) bounds the wait for the store; `mode` may weaken the policy's own (`shadow`, `disabled`).

    >>> import asyncio
    >>> from headgate.quota.gcra import Rate
    >>> from headgate.quota.identify import Identify
    >>> from headgate.quota.meter import BUILT_IN_METERS
    >>> from headgate.stores import open_store
    >>> rpm = Limit("rpm", BUILT_IN_METERS["requests"], ("key",), {"": Rate(1, 60_000_000)})
    >>> policy = Policy("doc", "0", "enforce", Identify(), (rpm,))
    >>> gate = Gate(policy, open_store("memory://"), pepper=b"pepper")
    >>> call = Call(Principal("k1", "acme"))
    >>> [asyncio.run(gate.admit(call)).action.value for _ in range(2)]
    ['allow', 'not_yet']
    """

    policy: Policy
    store: Store
    pepper: bytes
    clock: Clock = wall_clock
    deadline: float = 2.0
    mode: str = ""
    new_id: Callable[[], bytes] = field(default_factory=lambda: _ids())
    _tariffs: dict[str, tuple[Principal, Policy, Tariff]] = field(default_factory=dict)
    _alone: MemoryStore | None = None
    _background: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def disabled(self) -> bool:
        """Whether requests pass untouched."""
        return (self.mode or self.policy.mode) == "disabled"

    async def admit(self, call: Call) -> Decision:
        """Decide one request: all limits that match grant it, or nothing is charged.

        Raises IdentityError when the directory names a plan that the policy does not know. Never raises
        StoreError: what happens without the store is the policy's to say, and stands in the decision.
        """
        demands, limits, settles = self.tariff(call.principal).asked(call)
        rid = self.new_id()
        if not demands:
            return Decision(rid.hex(), Action.ALLOW, call.principal, self.clock())
        command = Reserve(rid, demands, _lease(demands) if settles else REPEAT)
        try:
            outcome = await self._reserved(command)
        except StoreError as fault:
            return await self._without_store(command, call, limits, fault)
        decision = Decision(
            rid.hex(), Action.ALLOW, call.principal, outcome.now,
            demands, limits, outcome.balances, (), outcome.shadowed,
        )  # fmt: skip
        if type(outcome) is Refused:
            decision.refusals = outcome.refusals
            decision.action = Action.NEVER if decision.retry_at is None else Action.NOT_YET
        return decision

    async def settle(self, decision: Decision, used: Mapping[str, int]) -> None:
        """Replace what a decision holds by what was used: `used` has units by the meter's name.

        Once is enough and twice is the same. Runs to its end even if the caller is cancelled; never raises
        StoreError: without the store it is tried again, and in the end the lease charges what was held.
        """
        demands = tuple(
            demand._replace(amount=1 if isinstance(demand.verb, Max) else used.get(limit.meter.name, 0))
            for demand, limit in zip(decision.demands, decision.limits, strict=True)
            if demand.hold
        )
        if not demands or not decision.allowed or decision.degraded == "open":
            return
        command = Settle(bytes.fromhex(decision.id), demands)
        store = self._fallback() if decision.degraded else self.store
        if store.immediate:
            await store.transact((command,))
        else:
            await asyncio.shield(self._start(self._settled(command)))

    async def look(self, principal: Principal) -> list[tuple[Limit, Reading]]:
        """What a principal has used under every limit that is its own to use up (not by address or route).

        Raises StoreError when the store does not answer.
        """
        lines = [line for line in self.tariff(principal).lines if line.place is not None]
        demands = tuple(Demand(line.place, line.verb, 0) for line in lines if line.place is not None)
        [seen] = await self.store.transact((Look(demands),))
        assert isinstance(seen, Seen), "a look sees"
        readings = [reading(d, b, seen.now) for d, b in zip(demands, seen.balances, strict=True)]
        return [(line.limit, found) for line, found in zip(lines, readings, strict=True) if not line.shadow]

    def tariff(self, principal: Principal) -> Tariff:
        """The lines of the policy's table that hold for a principal now, worked out once and kept."""
        kept = self._tariffs.get(principal.key or principal.plan)
        if kept is not None and kept[0] is principal and kept[1] is self.policy and self.clock() < kept[2].until:
            return kept[2]
        return self._worked_out(principal)

    def _worked_out(self, principal: Principal) -> Tariff:
        policy, now = self.policy, self.clock()
        if policy.plans and principal.plan not in policy.plans:
            raise IdentityError(
                f"key {principal.key} has the plan `{principal.plan}`; the policy knows {', '.join(policy.plans)}"
            )
        group = policy.group_of(principal.org, now)
        lot = int.from_bytes(digest(self.pepper, b"rollout", principal.org.encode())[:4], "big") % WHOLE
        lines = tariff(
            policy.limits, policy.overrides, principal, group, now,
            digest=self._subject, scopes=policy.scopes, lot=lot,
        )  # fmt: skip
        while len(self._tariffs) >= TARIFFS:
            del self._tariffs[next(iter(self._tariffs))]
        self._tariffs[principal.key or principal.plan] = (principal, policy, lines)
        return lines

    def _subject(self, parts: tuple[str, ...]) -> bytes:
        return digest(self.pepper, b"subject", *[part.encode("utf-8", "surrogateescape") for part in parts])

    async def _reserved(self, command: Reserve) -> Granted | Refused:
        """The store's answer within the deadline. A late or abandoned reservation is cancelled behind us."""
        try:
            if self.store.immediate:
                [outcome] = await self.store.transact((command,))
            else:
                async with asyncio.timeout(self.deadline):
                    [outcome] = await self.store.transact((command,))
        except TimeoutError:
            self._start(self._cancelled(command))
            raise StoreError(f"no answer within {self.deadline:g} s", transient=True) from None
        except asyncio.CancelledError:
            self._start(self._cancelled(command))
            raise
        assert isinstance(outcome, Granted | Refused), "a fresh id is granted or refused"
        return outcome

    async def _without_store(
        self, command: Reserve, call: Call, limits: tuple[Limit, ...], fault: StoreError
    ) -> Decision:
        """What the limits' `on_store_error` say: one `closed` closes; `local` grants from this worker's share."""
        enforced = [limit for d, limit in zip(command.demands, limits, strict=True) if not d.shadow]
        ways = {limit.on_store_error for limit in enforced}
        events.error("headgate.store.error", reason=str(fault), transient=fault.transient, ways=sorted(ways))
        decision = Decision(
            command.rid.hex(), Action.UNAVAILABLE, call.principal, self.clock(), command.demands, limits
        )
        if "closed" in ways:
            return decision
        if "local" not in ways:
            decision.action, decision.degraded = Action.ALLOW, "open"
            return decision
        return await self._from_share(command, decision)

    async def _from_share(self, command: Reserve, decision: Decision) -> Decision:
        pairs = [
            (demand._replace(verb=share_of(demand.verb, LOCAL_SHARE)), limit)
            for demand, limit in zip(decision.demands, decision.limits, strict=True)
            if limit.on_store_error == "local"
        ]
        decision.demands, decision.limits = tuple(d for d, _ in pairs), tuple(limit for _, limit in pairs)
        [outcome] = await self._fallback().transact((command._replace(demands=decision.demands),))
        if isinstance(outcome, Granted):
            decision.action, decision.degraded = Action.ALLOW, "local"
            decision.now, decision.balances = outcome.now, outcome.balances
        return decision

    def _fallback(self) -> MemoryStore:
        if self._alone is None:
            self._alone = MemoryStore(clock=self.clock)
        return self._alone

    async def _cancelled(self, command: Reserve) -> None:
        try:
            await self.store.transact((Cancel(command.rid, command.demands, REPEAT),))
        except StoreError as fault:
            # What may have been charged stays charged: the safe direction. A hold ends with its lease.
            events.warning("headgate.cancel.failed", decision=command.rid.hex(), reason=str(fault))

    async def _settled(self, command: Settle) -> None:
        for pause in (*SETTLE_AGAIN, None):
            try:
                await self.store.transact((command,))
                return
            except StoreError as fault:
                if pause is None:
                    events.error("headgate.settle.failed", decision=command.rid.hex(), reason=str(fault))
                else:
                    await asyncio.sleep(pause)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def close(self) -> None:
        """Let what is under way be settled, then close the store."""
        while self._background:
            await asyncio.gather(*self._background, return_exceptions=True)
        await self.store.close()


def _lease(demands: tuple[Demand, ...]) -> int:
    leases = [demand.verb.lease for demand in demands if isinstance(demand.verb, Max)]
    return min(leases, default=LEASE)


def _ids() -> Callable[[], bytes]:
    """Makes reservation ids: 12 bytes drawn at random for this worker and a counter of 4, which wraps after four
    billion requests, long after the first of them is forgotten."""
    epoch = secrets.token_bytes(12)
    numbers = count()
    return lambda: epoch + (next(numbers) & 0xFFFFFFFF).to_bytes(4, "big")
