"""The script and its codec alone, without the store's connections: what is said goes through redis-py, call by call.

And machines that say what a policy could, and more: every kind of window, calendars of all lengths, amounts up to the
largest, many commands in a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from redis import Redis
from redis.exceptions import NoScriptError

from headgate.clock import SECOND
from headgate.quota.balance import SAFE, Verb
from headgate.quota.command import Command, Demand, Join, Look, Merge, Place, Reserve
from headgate.quota.gcra import Rate
from headgate.quota.window import Max, Quota, Rolling, Total
from headgate.stores.redis.script import codec
from headgate.stores.redis.script.scripts import SCRIPT, SCRIPT_FULL, Script
from headgate.testing.clock import ManualClock
from headgate.testing.store_machine import FEW, LEASE, LIMITS, NAMED, SUBJECTS, WAYS, StoreMachine

MINUTE, HOUR, DAY = 60 * SECOND, 3_600 * SECOND, 86_400 * SECOND


class Scripted:
    """A store that is nothing but the script. `tag`: as on a cluster, where all keys are named."""

    immediate = True
    punctual = True
    deadline = 0.0

    def __init__(
        self, client: Redis, clock: ManualClock, script: Script = SCRIPT, full: Script = SCRIPT_FULL,
        tag: bytes | None = None,
    ) -> None:  # fmt: skip
        self.client, self.clock, self.scripts, self.tag = client, clock, (script, full), tag
        self.unknown = 0

    async def transact(self, commands: Sequence[Command], now: int | None = None) -> list[Any]:
        return self.say(*commands, now=now)

    def say(self, *commands: Any, now: int | None = None, full: bool = False) -> list[Any]:
        """The outcomes; `full`: as it is said to a server that has no memory left."""
        at = self.clock() if now is None else now
        packs = [codec.packed(command, at) for command in commands]
        script = self.scripts[full]
        arguments = codec.arguments(packs, self.tag, full=full)
        try:
            replies = self.client.execute_command("EVALSHA", script.sha, *arguments)
        except NoScriptError:
            self.unknown += 1
            replies = self.client.execute_command("EVAL", script.text, *arguments)
        return [codec.outcome(command, reply) for command, reply in zip(commands, replies, strict=True)]

    def one(self, command: Any, **how: Any) -> Any:
        [outcome] = self.say(command, **how)
        return outcome

    async def close(self) -> None:
        """It holds nothing."""


def verb_of(limit: str, variant: int, now: int) -> Verb:
    """A limit's verb in one of five versions of the policy: whatever a limit may be, and may become."""
    day = now - now % DAY
    days = tuple(day + n * DAY for n in (-1, 0, 1, 2))
    months = tuple(day + n * 30 * DAY for n in (-1, 0, 1, 2))
    odd = tuple(now - now % 7_777_777 + n * 7_777_777 for n in (-1, 0, 1, 2))
    verbs: dict[str, tuple[Verb, ...]] = {
        "minute": (Quota(60, days, 1), Quota(9, odd, 7), Quota(60, months, 3), Rate(7, MINUTE), Total(50)),
        "hour": (Rolling(50, HOUR), Rolling(50, DAY), Rolling(9, 50), Quota(20, (), 2, length=HOUR), Rate(45, HOUR)),
        "ten": (Rate(600, MINUTE), Rate(7, HOUR), Rate(11, HOUR), Rate(9_000, MINUTE, 500), Rolling(99, MINUTE)),
        "seats": (Max(3, LEASE), Max(40, LEASE), Max(3, LEASE), Max(1, LEASE), Total(40)),
        "life": (Total(300), Total(10), Total(SAFE), Rolling(30, HOUR), Quota(60, days, 1)),
        "records": (
            Quota(3_000, days, 1),
            Total(4_000),
            Quota(10, odd, 7),
            Quota(SAFE, (), 2, length=HOUR),
            Total(5),
        ),
    }
    return verbs[limit][variant]


AMOUNTS = (0, 1, 1, 1, 2, 5, 40, 300, 70_000)


class ScriptMachine(StoreMachine):
    """What `StoreMachine` says, with windows of all kinds; mostly those of the policy's first version."""

    variants: tuple[int, ...] = (0, 0, 0, 0, 0, 0, 1, 2, 3, 4)
    amounts: tuple[int, ...] = AMOUNTS
    holds: tuple[bool, ...] = (False, False, False, True)
    merged: tuple[str, ...] = LIMITS
    moves = (
        *(1, 999, 40_000, SECOND, 7 * SECOND, 61 * SECOND, 400 * SECOND, HOUR + MINUTE, 25 * HOUR),
        *(-1, -3 * SECOND, -90 * SECOND, -40 * MINUTE),
    )

    def asked(self, data: Any, now: int) -> tuple[Demand, ...]:
        def demand(
            place: Place, variant: int, amount: int, hold: bool, way: tuple[bool, bool], things: tuple[bytes, ...]
        ) -> Demand:
            hold = hold or place[1] == "seats"
            named = things if hold and place[1] == "records" else ()
            verb = verb_of(place[1], variant, now)
            return Demand(place, verb, amount, hold=hold, shadow=way[0], things=named, owed=way[1])

        one = st.builds(
            demand,
            st.tuples(st.sampled_from(SUBJECTS), st.sampled_from(LIMITS)),
            st.sampled_from(self.variants),
            st.sampled_from(self.amounts),
            st.sampled_from(self.holds),
            st.sampled_from(WAYS),
            NAMED,
        )
        lists = st.lists(one, min_size=1, max_size=4, unique_by=lambda demand: demand.place)
        return data.draw(lists.map(tuple))  # type: ignore[no-any-return]

    def certain(self, said: list[Command]) -> list[Command]:
        """Nor is said again what knows only windows that ended an hour before the highest the clock stood at: a store
        may forget what was used in them."""

        def outdated(demand: Demand) -> bool:
            edges = demand.verb.edges if isinstance(demand.verb, Quota) else ()
            return bool(edges) and edges[-1] + HOUR <= self.highest

        return [command for command in super().certain(said) if not any(map(outdated, command.demands))]

    def merge(self, data: Any, now: int) -> Command:
        limit = data.draw(st.sampled_from(self.merged), label="merged")
        into, *sources = data.draw(st.permutations(SUBJECTS), label="into, sources")
        verb = verb_of(limit, data.draw(st.sampled_from(self.variants), label="variant"), now)
        kind = Join if data.draw(st.booleans(), label="joins") else Merge
        return kind(Demand((into, limit), verb, 0), tuple(Demand((s, limit), verb, 0) for s in sources))


class ThingsMachine(ScriptMachine):
    """Different records and nothing else: named, named again, lapsed, moved, in windows that end."""

    variants = (0, 0, 0, 1, 2, 3)
    merged = ("records",)

    def asked(self, data: Any, now: int) -> tuple[Demand, ...]:
        def demand(
            who: bytes, variant: int, amount: int, way: tuple[bool, bool], things: tuple[bytes, ...]
        ) -> Demand:
            verb = verb_of("records", variant, now)
            return Demand((who, "records"), verb, amount, hold=True, shadow=way[0], things=things, owed=way[1])

        one = st.builds(
            demand,
            st.sampled_from(SUBJECTS),
            st.sampled_from(self.variants),
            st.sampled_from((0, 0, 1, 5)),
            st.sampled_from(WAYS),
            st.one_of(st.sampled_from(FEW), NAMED),
        )
        lists = st.lists(one, min_size=1, max_size=2, unique_by=lambda demand: demand.place)
        return data.draw(lists.map(tuple))  # type: ignore[no-any-return]


class LargeMachine(ScriptMachine):
    """Amounts and windows as large as they can be. Nothing is merged: two such holds would not add up exactly."""

    amounts = (0, 1, 2**52, 2**52 + 1, SAFE - 1, SAFE)
    variants = (0,)

    def asked(self, data: Any, now: int) -> tuple[Demand, ...]:
        large: dict[str, tuple[Verb, ...]] = {
            "minute": (Quota(SAFE, (), 2, length=10 * 365 * DAY), Quota(2**52, (now, now + 1, now + 2, now + 3), 1)),
            "hour": (Rolling(SAFE, 365 * DAY), Rolling(2**52, MINUTE)),
            "ten": (Rate(2**53 - 1, 1), Rate(7, MINUTE, burst=150_119_900)),
            "seats": (Max(SAFE, LEASE), Max(2**52, LEASE)),
            "life": (Total(SAFE), Total(2**52)),
            "records": (Total(SAFE), Quota(2**52, (), 2, length=365 * DAY)),
        }
        return tuple(
            demand._replace(verb=large[demand.place[1]][demand.amount % 2]) for demand in super().asked(data, now)
        )

    def merge(self, data: Any, now: int) -> Command:
        return Look(self.asked(data, now))


class PlainMachine(ScriptMachine):
    """What nearly every request is: used at once, granted, by one version of the policy, as time goes on."""

    amounts = (0, 1, 1, 1, 2, 5, 20)
    holds = (False,)
    moves = (1, 2, 3, 40_000, SECOND, 7 * SECOND, 61 * SECOND, 400 * SECOND, HOUR + MINUTE, 25 * HOUR, -3 * SECOND)

    def drawn(self, data: Any) -> Command:
        self.numbers += 1
        return Reserve(b"rid-%d" % self.numbers, self.asked(data, self.clock.now), LEASE)

    def asked(self, data: Any, now: int) -> tuple[Demand, ...]:
        usual = {"minute": (0, 0, 0, 2), "hour": (0, 0, 0, 2), "ten": (0, 1, 2, 3), "life": (0, 0, 0, 1)}
        usual["records"] = (0, 0, 0, 1)
        asked = []
        for demand in super().asked(data, now):
            limit = demand.place[1]
            if limit in usual:
                variant = data.draw(st.sampled_from(usual[limit]), label="variant")
                asked.append(demand._replace(verb=verb_of(limit, variant, now), shadow=False))
        return tuple(asked) or (Demand((b"org", "life"), Total(300), 1),)
