"""When the joins of a group are said, by whom, and who waits for them: stories through the gate."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from headgate.clock import SECOND
from headgate.errors import StoreError
from headgate.gate import Gate
from headgate.quota.command import Command, Join, Outcome, Reserve
from headgate.quota.facts import Call, Group, Principal
from headgate.register import EMPTY
from headgate.register.entries import Register
from headgate.register.said import spoken
from headgate.stores import MemoryStore
from headgate.tariffs import AGAIN, TRICKLES, Joining
from headgate.testing import ManualClock
from linked import DAY, REQUESTS, ROWS, PolicyOf, linked, run, use, used

ACME, LABS, MILL, ZETA = (Principal(f"k-{org}", org) for org in ("acme", "labs", "mill", "zeta"))
PEPPER, NEWER = b"a pepper of thirty-two bytes. ok.", b"another one, of 32 bytes as well"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class Listening(MemoryStore):
    """A store that writes down which commands it was told."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.told: list[Command] = []

    async def transact(self, commands: Sequence[Command], now: int | None = None) -> list[Outcome]:
        self.told += commands
        return await super().transact(commands, now)

    def joins(self) -> int:
        told, self.told = self.told, []
        return sum([isinstance(command, Join) for command in told])


class Far(Listening):
    """A store that has to be waited for. Joins are answered while it is `open`, and fail while it is `down`."""

    immediate = False
    punctual = True
    deadline = 0.002

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.open = asyncio.Event()
        self.down = False

    async def transact(self, commands: Sequence[Command], now: int | None = None) -> list[Outcome]:
        if any(isinstance(command, Join) for command in commands):
            assert len(commands) == 1, "nothing travels with a join"
            if self.down:
                self.told += commands
                raise StoreError("no answer within 0.002 s", transient=True, unknown=True)
            await self.open.wait()
        await asyncio.sleep(0)
        return await super().transact(commands, now)


class Words:
    """What people say of acme, labs and others, and the workers that hear of it."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock, self.register = clock, EMPTY

    def said(self, word: str, *orgs: str) -> Register:
        self.clock.advance(1)
        until = self.clock.now + 900 * DAY * SECOND
        self.register = spoken(
            self.register, word, orgs or ("acme", "labs"), reason="one invoice", actor="ann",
            at=self.clock.now, until=until,
        )  # type: ignore[arg-type]  # fmt: skip
        return self.register

    def heard(self, word: str, *orgs: str, by: Iterable[Gate]) -> None:
        register = self.said(word, *orgs)
        for gate in by:
            gate.tariffs.groups.take(register)


# Said once, and then less and less often.


def test_the_joins_of_a_group_are_said_before_its_first_request_and_then_less_and_less_often(
    policy_of: PolicyOf, clock: ManualClock
) -> None:
    """Once for each group and worker, however many orgs it has, until nothing can trickle in any more."""
    orgs = [Principal(f"k{n}", f"org-{n}") for n in range(40)]
    text = REQUESTS + linked(", ".join([who.org for who in orgs]))

    async def story() -> None:
        store = Listening(clock)
        gate = Gate(policy_of(text), store, (PEPPER,), clock=clock)
        await gate.admit(Call(orgs[0]))
        assert [type(command) for command in store.told] == [Join, Reserve]
        assert store.joins() == 1
        for who in orgs:
            await gate.admit(Call(who))
        assert store.joins() == 0
        said = []
        for second in range(1, 2 * TRICKLES // SECOND, 5):
            clock.advance(5)
            await gate.admit(Call(orgs[second % 40]))
            said += [second] * store.joins()
        assert 5 <= len(said) <= 9
        assert said[0] * SECOND <= 2 * AGAIN
        assert said[-1] * SECOND > TRICKLES
        gate.policy = policy_of(text)
        await gate.admit(Call(orgs[0]))
        assert store.joins() == 1, "under a new policy a limit may be counted otherwise"
        await gate.close()

    run(story())


def test_however_many_requests_say_the_first_joins_they_are_said_again_in_time(policy_of: PolicyOf) -> None:
    joining = Joining(policy_of(REQUESTS))
    for at in range(50):
        joining.said(at)
    assert joining.due <= AGAIN + 50
    joining.said(joining.due)
    assert AGAIN < joining.due <= 3 * AGAIN


def test_what_a_worker_grants_that_does_not_know_of_a_link_yet_counts_for_the_group_soon(
    policy_of: PolicyOf, clock: ManualClock
) -> None:
    async def story() -> None:
        store = Listening(clock)
        new, old = (Gate(policy_of(ROWS), store, (PEPPER,), clock=clock) for _ in "12")
        await use(new, ACME, 10)
        new.policy = policy_of(ROWS + linked("acme, labs"))
        await use(new, ACME, 10)
        held = await old.admit(Call(LABS))
        await use(old, LABS, 30)
        assert await used(new, ACME) == 20
        clock.advance(11)
        assert await used(new, ACME) == 50
        await old.settle(held, {"rows": 4})
        assert await used(new, ACME) == 54
        await new.close()

    run(story())


# In nobody's way.


def test_a_join_that_takes_long_is_said_once_and_stands_in_nobodys_way(
    policy_of: PolicyOf, clock: ManualClock
) -> None:
    async def story() -> None:
        store = Far(clock)
        gate = Gate(policy_of(ROWS), store, (PEPPER,), clock=clock)
        await use(gate, LABS, 30)
        gate.policy = policy_of(ROWS + linked("acme, labs"))
        served = await asyncio.gather(*[use(gate, who, 1) for who in (ACME, LABS, ZETA) * 7])
        assert all(served), "nobody is refused for it"
        assert store.joins() == 0, "it is on its way"
        clock.advance(60)
        assert all(await asyncio.gather(*[use(gate, who, 0) for who in (ACME, LABS)]))
        store.open.set()
        await gate.flights.idle()
        assert store.joins() == 1, "by one task, however many ask and however long it takes"
        assert await used(gate, ACME) == 44
        await gate.close()

    run(story())


def test_the_first_request_of_a_group_waits_for_a_join_that_is_answered(
    policy_of: PolicyOf, clock: ManualClock
) -> None:
    async def story() -> None:
        store = Far(clock)
        store.open.set()
        gate = Gate(policy_of(ROWS), store, (PEPPER,), clock=clock, deadline=60)
        await use(gate, LABS, 100)
        gate.policy = policy_of(ROWS + linked("acme, labs"))
        assert not any(await asyncio.gather(*[use(gate, ACME) for _ in range(9)])), "the group has used all"
        clock.advance(11)
        await gate.admit(Call(ACME))
        await gate.flights.idle()
        assert store.joins() == 2, "the second one behind the request"
        await gate.close()

    run(story())


def test_the_limits_of_a_group_are_joined_one_by_one_and_one_that_fails_holds_up_no_other(
    policy_of: PolicyOf, clock: ManualClock
) -> None:
    class Picky(Far):
        async def transact(self, commands: Sequence[Command], now: int | None = None) -> list[Outcome]:
            self.down = isinstance(commands[0], Join) and commands[0].into.place[1] == "one"
            return await super().transact(commands, now)

    text = "limits: {" + ", ".join([f"{n}: {{meter: requests, per: group, quota: 9/day}}" for n in ("one", "two")])

    async def story() -> None:
        store = Picky(clock)
        store.open.set()
        gate = Gate(policy_of(text + "}\n"), store, (PEPPER,), clock=clock, deadline=60)
        await gate.admit(Call(LABS))
        gate.policy = policy_of(text + "}\n" + linked("acme, labs"))
        assert (await gate.admit(Call(ACME))).allowed
        assert [found.used for _, found in await gate.look(ACME)] == [1, 2]
        await gate.close()

    run(story())


def test_a_join_that_fails_is_said_again_until_it_is_heard_and_reported_once(
    policy_of: PolicyOf, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        store = Far(clock)
        gate = Gate(policy_of(ROWS), store, (PEPPER,), clock=clock)
        await use(gate, LABS, 30)
        gate.policy = policy_of(ROWS + linked("acme, labs"))
        store.down = True
        tried = []
        for tenth in range(300):
            assert await use(gate, ACME, 0), "never refused for it"
            await gate.flights.idle()
            tried += [tenth] * store.joins()
            clock.advance(0.1)
        assert tried[:2] == [0, 10]
        assert 4 <= len(tried) <= 8, "less and less often"
        store.down = False
        store.open.set()
        clock.advance(11)
        await use(gate, ACME, 0)
        await gate.flights.idle()
        assert await used(gate, ACME) == 30
        await gate.close()

    run(story())
    assert sum(["headgate.join.failed" in record.getMessage() for record in caplog.records]) == 1


def test_who_gives_up_waiting_leaves_the_join_to_those_who_do_not(policy_of: PolicyOf, clock: ManualClock) -> None:
    async def story() -> None:
        store = Far(clock)
        gate = Gate(policy_of(ROWS + linked("acme, labs")), store, (PEPPER,), clock=clock, deadline=600)
        first = asyncio.create_task(gate.admit(Call(ACME)))
        second = asyncio.create_task(gate.admit(Call(LABS)))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        store.open.set()
        assert (await second).allowed
        assert [type(command) for command in store.told] == [Join, Reserve], "of the first nothing was asked"
        await gate.close()

    run(story())


def test_a_request_of_another_loop_does_not_wait_for_a_join_of_this_one(
    policy_of: PolicyOf, clock: ManualClock
) -> None:
    async def story() -> None:
        store = Far(clock)
        gate = Gate(policy_of(ROWS + linked("acme, labs")), store, (PEPPER,), clock=clock, deadline=60)
        here = asyncio.create_task(use(gate, ACME))
        await asyncio.sleep(0)
        assert await asyncio.to_thread(asyncio.run, use(gate, LABS))
        store.open.set()
        assert await here
        assert store.joins() == 1
        await gate.close()

    run(story())


def test_a_gate_that_is_closed_or_whose_loop_ends_leaves_no_join_behind(
    policy_of: PolicyOf, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = Far(clock)
    gate = Gate(policy_of(ROWS + linked("acme, labs")), store, (PEPPER,), clock=clock)

    async def story(closes: bool) -> None:
        clock.advance(20)
        store.open = asyncio.Event()
        assert await use(gate, ACME)
        if closes:
            await gate.close()

    for closes in (False, False, True, True):
        run(story(closes))
    assert store.joins() == 0
    assert not caplog.records, "they were ended, and did not fail"

    async def answered() -> None:
        await story(False)
        store.open.set()
        await gate.flights.idle()
        assert store.joins() == 1, "the next loop says what the last ones did not"
        await gate.close()

    run(answered())


# Linked again.


def test_orgs_that_are_linked_again_by_the_register_count_what_they_used_apart(
    policy_of: PolicyOf, clock: ManualClock
) -> None:
    async def story() -> None:
        gate, words = Gate(policy_of(ROWS), MemoryStore(clock=clock), (PEPPER,), clock=clock), Words(clock)
        words.heard("link", by=[gate])
        for _ in range(9):
            await use(gate, ACME, 1)
            clock.advance(160)
        words.heard("separate", by=[gate])
        await use(gate, ACME, 80)
        assert await used(gate, LABS) == 0
        words.heard("link", by=[gate])
        assert await used(gate, LABS) == 89
        await gate.close()

    run(story())


def test_a_worker_that_nobody_asked_while_they_were_apart_joins_them_anew_all_the_same(
    policy_of: PolicyOf, clock: ManualClock
) -> None:
    async def story() -> None:
        store, words = Listening(clock), Words(clock)
        here, there = (Gate(policy_of(ROWS), store, (PEPPER,), clock=clock) for _ in "12")
        words.heard("link", by=[here, there])
        for _ in range(9):
            await use(here, ACME, 1)
            clock.advance(160)
        words.heard("separate", by=[here, there])
        await use(there, ACME, 80)
        words.heard("link", by=[here, there])
        assert await used(here, LABS) == 89
        await here.close()

    run(story())


def test_places_that_were_taken_while_orgs_were_apart_are_taken_when_they_are_linked_again(
    policy_of: PolicyOf, clock: ManualClock
) -> None:
    text = "limits: {open: {meter: streams, per: group, max: 2}}\n"

    async def story() -> None:
        gate, words = Gate(policy_of(text), MemoryStore(clock=clock), (PEPPER,), clock=clock), Words(clock)
        words.heard("link", by=[gate])
        for _ in range(9):
            await gate.settle(await gate.admit(Call(ACME)), {})
            clock.advance(160)
        words.heard("separate", by=[gate])
        assert all([(await gate.admit(Call(who))).allowed for who in (ACME, ACME, LABS, LABS)])
        words.heard("link", by=[gate])
        assert not any([(await gate.admit(Call(who))).allowed for who in (ACME, LABS)])
        await gate.close()

    run(story())


def test_a_group_that_others_come_and_go_beside_does_not_say_its_joins_again(
    policy_of: PolicyOf, clock: ManualClock
) -> None:
    async def story() -> None:
        store, words = Listening(clock), Words(clock)
        gate = Gate(policy_of(ROWS), store, (PEPPER,), clock=clock)
        words.heard("link", by=[gate])
        for _ in range(9):
            await use(gate, ACME)
            clock.advance(160)
        assert store.joins() > 1
        for n in range(9):
            words.heard("link", f"other-{n}", f"another-{n}", by=[gate])
            await use(gate, ACME)
            await use(gate, LABS)
        assert store.joins() == 0
        words.heard("link", "acme", "mill", by=[gate])
        await use(gate, LABS)
        words.heard("separate", "acme", "mill", by=[gate])
        words.heard("separate", "labs", "mill", by=[gate])
        await use(gate, LABS)
        assert store.joins() == 2, "with mill, and without it again"
        await gate.close()

    run(story())


class Orgs:
    """A directory's records: each org's plan and the day on which its month begins."""

    def __init__(self, days: dict[str, int]) -> None:
        self.version = 1
        self._plans = dict.fromkeys(days, "free")
        self._anchors = {org: instant(day) for org, day in days.items()}

    def buys(self, org: str, plan: str) -> None:
        self._plans[org] = plan
        self.version += 1

    def who(self, org: str) -> Principal:
        return Principal(f"k-{org}", org, self._plans[org], self._anchors[org])

    def org(self, id: str) -> Group:
        return Group(id, frozenset({id}), frozenset({self._plans[id]}), self._anchors[id])


def instant(day: int) -> int:
    return int(datetime(2027, 1, day, 1, tzinfo=UTC).timestamp()) * SECOND


def test_a_group_whose_month_begins_on_another_day_from_now_on_is_joined_before_that(
    policy_of: PolicyOf, clock: ManualClock
) -> None:
    """What lay under the month before would come into one that has begun since."""
    text = (
        "plans: [free, pro]\nmeters: {rows: {from: app}}\n"
        "limits: {month: {meter: rows, per: group, anchor: subscription, quota: {free: 100/month, pro: 200/month}}}\n"
        + linked("acme, labs, mill")
    )

    async def story() -> None:
        orgs = Orgs({"acme": 1, "labs": 10, "mill": 1})
        clock.now = instant(2)
        directory: Any = orgs
        gate = Gate(policy_of(text), MemoryStore(clock=clock), (PEPPER,), directory=directory, clock=clock)
        await use(gate, orgs.who("mill"), 90)
        for _ in range(9):
            await use(gate, orgs.who("acme"), 0)
            clock.advance(160)
        orgs.buys("labs", "pro")
        await use(gate, orgs.who("labs"), 1)
        assert await used(gate, orgs.who("acme")) == 91
        clock.now = instant(12)
        assert await used(gate, orgs.who("acme")) == 0, "since the tenth"
        gate.policy = policy_of(text)  # an ordinary reload
        assert await used(gate, orgs.who("acme")) == 0
        await gate.close()

    run(story())


# Under two peppers.


def test_a_new_pepper_and_a_link_at_once_forget_nothing(policy_of: PolicyOf, clock: ManualClock) -> None:
    async def story() -> None:
        store = MemoryStore(clock=clock)
        before = Gate(policy_of(ROWS), store, (PEPPER,), clock=clock)
        await use(before, ACME, 10)
        await use(before, LABS, 20)
        before.policy = policy_of(ROWS + linked("acme, labs"))
        await use(before, ACME, 5)
        after = Gate(policy_of(ROWS + linked("acme, labs")), store, (NEWER, PEPPER), clock=clock)
        assert await used(after, ACME) == 35
        await use(after, LABS, 5)
        assert await used(after, ACME) == 40
        after.policy = policy_of(ROWS)
        assert (await used(after, ACME), await used(after, LABS)) == (15, 25)
        await after.close()

    run(story())


def test_an_org_that_has_not_asked_since_the_pepper_was_replaced_is_joined_with_what_it_used(
    policy_of: PolicyOf, clock: ManualClock
) -> None:
    async def story() -> None:
        store = MemoryStore(clock=clock)
        old = Gate(policy_of(ROWS), store, (PEPPER,), clock=clock)
        await use(old, LABS, 95)
        await use(old, ACME, 1)
        new = Gate(policy_of(ROWS), store, (NEWER, PEPPER), clock=clock)
        assert await used(new, ACME) == 1
        new.policy = policy_of(ROWS + linked("acme, labs"))
        assert await used(new, ACME) == 96
        clock.advance(11)
        assert (await used(new, LABS), await used(new, ACME)) == (96, 96), "what moves now was counted"
        await new.close()

    run(story())


@pytest.mark.parametrize("far", [False, True], ids=["at hand", "behind the requests"])
def test_workers_with_the_old_pepper_alone_charge_a_group_that_others_read_under_both(
    policy_of: PolicyOf, clock: ManualClock, far: bool
) -> None:
    text = ROWS + linked("acme, labs, mill")

    async def story() -> None:
        store = Far(clock) if far else Listening(clock)
        if isinstance(store, Far):
            store.open.set()
        old = Gate(policy_of(text), store, (PEPPER,), clock=clock, deadline=60)
        new = Gate(policy_of(text), store, (NEWER, PEPPER), clock=clock, deadline=60)
        for turn, who in enumerate((ACME, LABS, MILL)):
            await use(old, ACME, 3)
            await use(new, who, 5)
            await use(old, MILL, 2)
            clock.advance(11 * max(1, turn))
            await use(new, who, 0)
            await new.flights.idle()
            assert await used(new, who) == 10 * (turn + 1), "each org is counted where it lies now"
        await new.close()

    run(story())
