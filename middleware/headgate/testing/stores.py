"""The contract that every store keeps, as tests: subclass `StoreContract`, say how a store is made, run pytest.

    class TestMyStore(StoreContract):
        def make_store(self, clock):
            return MyStore(fresh_database(), clock=clock)

Law: the suite knows the `Store` protocol and nothing of any store; what it asks of one it asks of all. No test
sleeps: time is a `ManualClock`. The last test holds the store against the specification, command by command, at
random; run it with a Hypothesis profile of many examples before you trust a new store.
"""

# ruff: noqa: D102 - the name of each test is its sentence

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from headgate.clock import SECOND
from headgate.quota.balance import SAFE, Verb
from headgate.quota.command import (
    Cancel,
    Demand,
    Extend,
    Gone,
    Granted,
    Join,
    Look,
    Merge,
    Never,
    NotYet,
    Refused,
    Reserve,
    Settle,
    Settled,
)
from headgate.quota.gcra import Rate
from headgate.quota.ledger import followed
from headgate.quota.window import Max, Quota, Rolling, Total
from headgate.stores.contract import Store
from headgate.testing.clock import ManualClock
from headgate.testing.store_machine import StoreMachine
from headgate.testing.store_things import ThingsContract
from headgate.testing.story import LEASE, answer, ask, granted, held, on, standing, told, used

MINUTE = 60 * SECOND
DAY = 86_400 * SECOND


class StoreContract(ThingsContract):
    """Every test is a promise. A subclass makes the store; its name must begin with `Test` for pytest to see it."""

    # All or nothing.

    @told
    async def test_a_reservation_takes_from_all_limits_or_from_none(self, store: Store, clock: ManualClock) -> None:
        roomy, tight = on("roomy", Total(100)), on("tight", Total(1), who=b"org")
        assert isinstance(await ask(store, b"1", roomy, tight), Granted)
        refused = await ask(store, b"2", roomy, tight)
        assert isinstance(refused, Refused)
        assert [r.limit for r in refused.refusals] == ["tight"]
        assert (await used(store, roomy), await used(store, tight)) == (1, 1)

    @told
    async def test_a_flood_of_refusals_consumes_nothing(self, store: Store, clock: ManualClock) -> None:
        full = on("hour", Rolling(3, 60 * MINUTE))
        assert await granted(store, full, 50) == 3
        clock.advance(60 * 60 + 60 * 3)
        assert await granted(store, full, 50, b"later") == 3

    @told
    async def test_more_than_a_limit_can_ever_grant_is_never_and_costs_nothing(
        self, store: Store, clock: ManualClock
    ) -> None:
        huge = await ask(store, b"1", on("tokens", Rate(1_000, MINUTE), 5_000))
        assert isinstance(huge, Refused)
        assert huge.refusals == (Never("tokens", 1_000),)
        assert isinstance(await ask(store, b"2", on("tokens", Rate(1_000, MINUTE), 1_000)), Granted)

    @told
    async def test_not_yet_says_when_and_keeps_its_word(self, store: Store, clock: ManualClock) -> None:
        third = on("rate", Rate(3, MINUTE))
        assert await granted(store, third, 3) == 3
        refused = await ask(store, b"early", third)
        assert isinstance(refused, Refused)
        [refusal] = refused.refusals
        assert isinstance(refusal, NotYet)
        clock.now = refusal.at - 1
        assert isinstance(await ask(store, b"still early", third), Refused)
        clock.now = refusal.at
        assert isinstance(await ask(store, b"in time", third), Granted)

    @told
    async def test_a_limit_in_shadow_refuses_nobody_and_says_what_it_would_have_done(
        self, store: Store, clock: ManualClock
    ) -> None:
        shadow = on("life", Total(1))._replace(shadow=True)
        assert isinstance(await ask(store, b"1", shadow), Granted)
        second = await ask(store, b"2", shadow)
        assert isinstance(second, Granted)
        assert [r.limit for r in second.shadowed] == ["life"]
        assert await used(store, shadow) == 1

    @told
    async def test_an_amount_that_is_no_integer_is_refused_before_anything_is_kept(
        self, store: Store, clock: ManualClock
    ) -> None:
        strange: list[Any] = [1.0, float("nan"), float("inf"), True, "1", None, -1, SAFE + 1, 10**30]
        for amount in strange:
            with pytest.raises(ValueError, match="whole number"):
                await ask(store, b"1", on("ok", Total(9)), on("life", Total(9), amount))
        assert await standing(store, on("ok", Total(9))) is None
        assert isinstance(await ask(store, b"1", on("life", Total(9), 9)), Granted)

    # Once, however often it is said.

    @told
    async def test_a_reservation_that_arrives_ten_times_counts_once(self, store: Store, clock: ManualClock) -> None:
        one = on("life", Total(100), 7)
        assert all([isinstance(await ask(store, b"same", one), Granted) for _ in range(10)])
        assert await used(store, one) == 7

    @told
    async def test_an_extension_that_arrives_twice_is_added_once(self, store: Store, clock: ManualClock) -> None:
        hold = on("life", Total(100), 10, hold=True)
        await ask(store, b"1", hold)
        more = Extend(b"1", (hold.of(5),), LEASE, step=1)
        assert all([isinstance(await answer(store, more), Granted) for _ in range(3)])
        assert await held(store, hold) == 15
        await answer(store, more._replace(step=2))
        assert await held(store, hold) == 20

    @told
    async def test_a_settlement_replaces_what_was_held_and_twice_is_once(
        self, store: Store, clock: ManualClock
    ) -> None:
        hold = on("life", Total(100), 60, hold=True)
        await ask(store, b"1", hold)
        for _ in range(3):
            assert isinstance(await answer(store, Settle(b"1", (hold.of(25),))), Settled)
        assert (await used(store, hold), await held(store, hold)) == (25, 0)
        await ask(store, b"2", hold)
        await answer(store, Settle(b"2", (hold.of(90),)))
        assert await used(store, hold) == 115, "more than was held becomes debt"
        assert isinstance(await ask(store, b"3", hold.of(1)), Refused)

    @told
    async def test_a_settlement_of_what_was_never_reserved_changes_nothing(
        self, store: Store, clock: ManualClock
    ) -> None:
        await answer(store, Settle(b"nobody's", (on("life", Total(9), 5),)))
        assert await standing(store, on("life", Total(9))) is None

    @told
    async def test_a_cancellation_gives_back_once_and_only_what_was_its_own(
        self, store: Store, clock: ManualClock
    ) -> None:
        at_once, hold = on("life", Total(100), 4), on("held", Total(100), 6, hold=True)
        await ask(store, b"1", at_once, hold)
        await ask(store, b"2", at_once, hold)
        for _ in range(3):
            assert isinstance(await answer(store, Cancel(b"1", (at_once, hold), LEASE)), Settled)
        await answer(store, Settle(b"1", (hold,)))
        assert (await used(store, at_once), await used(store, hold), await held(store, hold)) == (4, 0, 6)

    @told
    async def test_a_reservation_that_arrives_after_its_cancellation_is_not_granted(
        self, store: Store, clock: ManualClock
    ) -> None:
        one = on("life", Total(9))
        await answer(store, Cancel(b"late", (one,), LEASE))
        assert isinstance(await ask(store, b"late", one), Gone)
        assert await standing(store, one) is None

    @told
    async def test_commands_of_one_call_are_applied_in_their_order(self, store: Store, clock: ManualClock) -> None:
        hold = on("life", Total(1), hold=True)
        outcomes = await store.transact(
            [
                Reserve(b"1", (hold,), LEASE),
                Reserve(b"2", (hold,), LEASE),
                Settle(b"1", (hold.of(0),)),
                Reserve(b"3", (hold,), LEASE),
                Look((hold,)),
            ]
        )
        assert [type(o).__name__ for o in outcomes] == ["Granted", "Refused", "Settled", "Granted", "Seen"]

    @told
    async def test_a_look_changes_nothing(self, store: Store, clock: ManualClock) -> None:
        hold = on("life", Total(9), 2, hold=True)
        await ask(store, b"1", hold)
        before = await standing(store, hold)
        clock.advance(LEASE / SECOND + 1)
        assert [await standing(store, hold) for _ in range(3)] == [before] * 3

    # Whoever dies holding.

    @told
    async def test_a_lease_that_ends_charges_what_was_held_and_frees_the_place(
        self, store: Store, clock: ManualClock
    ) -> None:
        tokens, seat = on("tokens", Total(100), 30, hold=True), on("seats", Max(1, LEASE), hold=True)
        await ask(store, b"dead worker's", tokens, seat)
        assert isinstance(await ask(store, b"2", seat), Refused)
        clock.advance(microseconds=LEASE)
        assert isinstance(await ask(store, b"3", tokens, seat), Granted)
        assert (await used(store, tokens), await held(store, tokens), await held(store, seat)) == (30, 30, 1)

    @told
    async def test_a_settlement_after_the_lease_corrects_the_charge_once(
        self, store: Store, clock: ManualClock
    ) -> None:
        tokens = on("tokens", Total(100), 30, hold=True)
        await ask(store, b"1", tokens)
        clock.advance(microseconds=LEASE + 10 * SECOND)
        assert isinstance(await ask(store, b"2", tokens), Granted)
        for _ in range(2):
            await answer(store, Settle(b"1", (tokens.of(12),)))
        assert (await used(store, tokens), await held(store, tokens)) == (12, 30)

    @told
    async def test_many_open_holds_of_one_balance_are_kept_apart(self, store: Store, clock: ManualClock) -> None:
        tokens = on("life", Total(10_000), 7, hold=True)
        rids = [b"%d" % n for n in range(200)]
        for at in range(0, 200, 40):
            await store.transact([Reserve(rid, (tokens,), LEASE) for rid in rids[at : at + 40]])
        assert await held(store, tokens) == 200 * 7
        await store.transact([Settle(rid, (tokens.of(2),)) for rid in rids[::2]])
        await store.transact([Cancel(rid, (tokens,), LEASE) for rid in rids[1::4]])
        more = Extend(rids[3], (tokens.of(5),), LEASE + 1, step=1)
        assert isinstance(await answer(store, more), Granted)
        balance = await standing(store, tokens)
        assert balance is not None
        assert balance.holds is not None
        assert set(balance.holds.by_rid) == set(rids[3::4]), "a look tells each of them"
        assert (balance.used, balance.holds.held) == (200, 50 * 7 + 5)
        clock.advance(microseconds=LEASE)
        assert isinstance(await ask(store, b"next", tokens), Granted)
        assert (await used(store, tokens), await held(store, tokens)) == (200 + 49 * 7, 12 + 7)

    # Windows.

    @told
    async def test_a_rate_grants_its_amount_at_once_and_then_as_time_passes(
        self, store: Store, clock: ManualClock
    ) -> None:
        rate = on("rate", Rate(10, MINUTE))
        assert await granted(store, rate, 30, b"burst") == 10
        clock.advance(12)
        assert await granted(store, rate, 30, b"drained") == 2

    @told
    async def test_a_calendar_window_begins_anew_at_its_edge_and_not_before(
        self, store: Store, clock: ManualClock
    ) -> None:
        begun = clock.now
        day = on("day", Quota(5, tuple(begun + n * DAY for n in range(-1, 4)), spec=1))
        assert await granted(store, day, 9, b"monday") == 5
        clock.now = begun + DAY - 1
        assert await granted(store, day, 9, b"midnight") == 0
        clock.now = begun + DAY
        assert await granted(store, day, 9, b"tuesday") == 5

    @told
    async def test_a_rolling_window_holds_whenever_its_units_are_used(self, store: Store, clock: ManualClock) -> None:
        hour = on("hour", Rolling(10, 60 * MINUTE))
        passed: list[int] = []
        for n in range(200):
            clock.advance(97)
            passed += [clock.now] * await granted(store, hour, 1 + n % 3, b"%d" % n)
        for at in passed:
            assert sum(at <= other < at + 60 * MINUTE for other in passed) <= 10

    @told
    async def test_what_is_used_for_good_stays_used(self, store: Store, clock: ManualClock) -> None:
        life = on("life", Total(3))
        assert await granted(store, life, 5) == 3
        clock.advance(400 * 86_400)
        assert await granted(store, life, 5, b"next year") == 0

    @told
    async def test_a_limit_that_changes_keeps_what_was_used(self, store: Store, clock: ManualClock) -> None:
        edges = tuple(clock.now + n * DAY for n in range(4))
        assert await granted(store, on("tokens", Quota(5, edges, spec=1)), 4, b"before") == 4
        assert await granted(store, on("tokens", Quota(6, edges, spec=1)), 9, b"more") == 2
        assert await granted(store, on("tokens", Quota(3, edges, spec=1)), 9, b"less") == 0
        assert await granted(store, on("tokens", Rolling(8, 60 * MINUTE)), 9, b"another window") == 2
        assert await granted(store, on("tokens", Rate(9, 60 * MINUTE)), 9, b"another verb") == 1

    # Clocks.

    @told
    async def test_a_clock_that_is_set_back_opens_no_window(self, store: Store, clock: ManualClock) -> None:
        edges = tuple(clock.now + n * MINUTE for n in range(4))
        verbs: dict[str, Verb] = {
            "rate": Rate(10, MINUTE),
            "quota": Quota(10, edges, 1),
            "rolling": Rolling(10, MINUTE),
        }
        for limit, verb in verbs.items():
            assert await granted(store, on(limit, verb), 10, limit.encode()) == 10
        clock.advance(-3_600)
        for limit, verb in verbs.items():
            assert await granted(store, on(limit, verb), 10, b"back-" + limit.encode()) == 0

    @told
    async def test_a_clock_that_was_set_back_locks_nobody_out(self, store: Store, clock: ManualClock) -> None:
        rate, rolling = on("rate", Rate(10, MINUTE)), on("rolling", Rolling(10, MINUTE))
        assert await granted(store, rate, 10) == await granted(store, rolling, 10, b"rolling") == 10
        clock.advance(-3_600)
        for second in range(1, 70):
            clock.advance(1)
            if isinstance(await ask(store, b"second-%d" % second, rate.of(10), rolling.of(10)), Granted):
                break
        # The window, a twenty-fourth of it by which a rolling one forgets late, and the wait for the clock.
        assert 60 <= second <= 60 + 2.5 + 5 + 1

    @told
    async def test_a_clock_that_leaps_a_year_and_comes_back_opens_one_window_at_most(
        self, store: Store, clock: ManualClock
    ) -> None:
        rate = on("rate", Rate(10, MINUTE))
        assert await granted(store, rate, 20, b"now") == 10
        clock.advance(365 * 86_400)
        leapt = await granted(store, rate, 1, b"next year")
        clock.advance(-365 * 86_400)
        assert leapt + await granted(store, rate, 20, b"back") <= 10

    @told
    async def test_clocks_that_differ_a_little_open_no_window_twice(self, store: Store, clock: ManualClock) -> None:
        begun = clock.now
        minute = on("minute", Quota(5, tuple(begun + n * MINUTE for n in range(-1, 4)), spec=1))
        clock.now = begun + MINUTE
        assert await granted(store, minute, 9, b"ahead") == 5
        clock.now = begun + MINUTE - 40
        assert await granted(store, minute, 9, b"behind") == 0
        for microseconds in range(2 * 60 * 1_000_000 - 60, 2 * 60 * 1_000_000):
            clock.now = begun + microseconds
            assert await granted(store, minute, 1, b"%d" % microseconds) == 0

    # Many at once.

    @told
    async def test_of_many_at_once_exactly_as_many_pass_as_may(self, store: Store, clock: ManualClock) -> None:
        for turn in range(5):
            limits = [on(f"limit-{n}", Total(10 + n), who=b"round-%d" % turn) for n in range(6)]
            outcomes = await asyncio.gather(*[ask(store, b"%d-%d" % (turn, n), *limits) for n in range(200)])
            assert sum(isinstance(outcome, Granted) for outcome in outcomes) == 10
            assert [await used(store, limit) for limit in limits] == [10] * 6

    @told
    async def test_a_caller_that_is_cancelled_disturbs_nobody(self, store: Store, clock: ManualClock) -> None:
        mine = [on("life", Total(1_000), who=b"caller-%d" % n) for n in range(60)]
        calls = [asyncio.ensure_future(ask(store, b"%d" % n, demand)) for n, demand in enumerate(mine)]
        for turn, call in enumerate(calls):
            if turn % 3 == 0:
                await asyncio.sleep(0)
                call.cancel()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        for n, outcome in enumerate(outcomes):
            if isinstance(outcome, asyncio.CancelledError):
                await answer(store, Cancel(b"%d" % n, (mine[n],), LEASE))
            assert isinstance(outcome, Granted | asyncio.CancelledError)
            assert await used(store, mine[n]) == (1 if isinstance(outcome, Granted) else 0)

    @told
    async def test_what_lies_side_by_side_is_kept_apart(self, store: Store, clock: ManualClock) -> None:
        places = [
            (b"a", "b:c"),
            (b"a:b", "c"),
            (b"a\0", "b"),
            (b"a", "\0b"),
            (b"", "a"),
            (b"a/{b}", "*|\n"),
            (b"A", "b:c"),
        ]
        for n, place in enumerate(places):
            demand = Demand(place, Total(n + 1), n + 1)
            assert isinstance(await ask(store, b"%d" % n, demand), Granted)
        assert [await used(store, Demand(p, Total(9), 0)) for p in places] == [n + 1 for n in range(len(places))]

    @told
    async def test_what_was_counted_outlives_closing(self, store: Store, clock: ManualClock) -> None:
        life, seat = on("life", Total(9), 5), on("seats", Max(1, LEASE), hold=True)
        await ask(store, b"1", life, seat)
        await store.close()
        assert isinstance(await ask(store, b"1", life, seat), Granted), "the verdict is remembered"
        assert isinstance(await ask(store, b"2", seat), Refused)
        assert await used(store, life) == 5

    @told
    async def test_workers_that_share_a_store_share_every_count(self, store: Store, clock: ManualClock) -> None:
        peer = self.make_peer(store, clock)
        if peer is None:
            pytest.skip("this store is not shared")
        try:
            life = on("life", Total(10))
            outcomes = await asyncio.gather(
                *[ask(worker, b"%d-%d" % (n, m), life) for n, worker in enumerate((store, peer)) for m in range(30)]
            )
            assert sum(isinstance(outcome, Granted) for outcome in outcomes) == 10
            assert isinstance(await ask(store, b"held", on("held", Total(9), 9, hold=True)), Granted)
            assert isinstance(await answer(peer, Settle(b"held", (on("held", Total(9), 4),))), Settled)
            assert await used(store, on("held", Total(9))) == 4
        finally:
            await peer.close()

    # Owed.

    @told
    async def test_what_is_owed_is_charged_whatever_is_free(self, store: Store, clock: ManualClock) -> None:
        edges = tuple(clock.now + n * DAY for n in range(-1, 3))
        verbs: tuple[Verb, ...] = (Rate(2, MINUTE), Quota(2, edges, spec=9), Rolling(2, MINUTE), Total(2))
        for verb in verbs:
            spent = on(verb.kind, verb)._replace(owed=True)
            assert await granted(store, spent, 5, verb.kind.encode()) == 5, verb
            assert isinstance(await ask(store, b"more", on(verb.kind, verb)), Refused), verb
            balance = await standing(store, spent)
            assert balance is not None
            assert verb.free(verb.bring(balance, clock.now)) == -3, verb
        assert isinstance(await ask(store, b"large", on("life", Total(2), 9)._replace(owed=True)), Granted)

    @told
    async def test_what_is_held_as_owed_is_held_whatever_is_free(self, store: Store, clock: ManualClock) -> None:
        life, seat = on("life", Total(5), 9, hold=True), on("seat", Max(1, LEASE), hold=True)
        ours = life._replace(owed=True), seat._replace(owed=True)
        for rid in (b"1", b"2"):
            assert isinstance(await ask(store, rid, *ours), Granted)
        assert (await held(store, life), await held(store, seat)) == (18, 2)
        assert isinstance(await ask(store, b"3", life.of(1)), Refused)
        assert isinstance(await answer(store, Extend(b"1", (ours[0].of(4), ours[1].of(0)), LEASE, 1)), Granted)
        assert await held(store, life) == 22
        await answer(store, Settle(b"1", (life.of(3), seat)))
        await answer(store, Cancel(b"2", ours, LEASE))
        assert (await used(store, life), await held(store, life), await held(store, seat)) == (3, 0, 0)
        assert isinstance(await ask(store, b"4", life.of(2)), Granted)

    @told
    async def test_what_is_owed_does_not_admit_what_others_refuse(self, store: Store, clock: ManualClock) -> None:
        full, debt = on("full", Total(1)), on("debt", Total(1), 4)._replace(owed=True)
        await ask(store, b"1", full)
        outcome = await ask(store, b"2", full, debt)
        assert isinstance(outcome, Refused)
        assert [refusal.limit for refusal in outcome.refusals] == ["full"]
        assert await used(store, debt) == 0

    @told
    async def test_what_is_owed_in_shadow_is_charged_as_far_as_it_fits_and_says_nothing(
        self, store: Store, clock: ManualClock
    ) -> None:
        shadow = on("life", Total(5), 3)._replace(shadow=True, owed=True)
        for rid in (b"1", b"2"):
            outcome = await ask(store, rid, shadow, on("other", Total(9)))
            assert isinstance(outcome, Granted)
            assert outcome.shadowed == ()
        assert (await used(store, shadow), await used(store, on("other", Total(9)))) == (3, 2)

    @told
    async def test_debts_without_end_are_counted_up_to_the_largest_number(
        self, store: Store, clock: ManualClock
    ) -> None:
        large = on("life", Total(5), SAFE, hold=True)._replace(owed=True)
        for rid in (b"1", b"2", b"3"):
            assert isinstance(await ask(store, rid, large), Granted)
        assert await held(store, large) == SAFE
        for rid in (b"1", b"2", b"3"):
            await answer(store, Settle(rid, (large,)))
        assert (await used(store, large), await held(store, large)) == (SAFE, 0)

    # Groups.

    @told
    async def test_a_merge_moves_what_was_used_and_held_and_moves_it_once(
        self, store: Store, clock: ManualClock
    ) -> None:
        one, other = (on("life", Total(100), 10, who=who) for who in (b"one", b"other"))
        group = on("life", Total(100), 0, who=b"group")
        hold = one._replace(amount=20, hold=True)
        await ask(store, b"1", one)
        await ask(store, b"2", other)
        await ask(store, b"3", hold)
        for _ in range(3):
            await answer(store, Merge(group, (one, other)))
        assert (await used(store, group), await held(store, group)) == (20, 20)
        assert (await used(store, one), await used(store, other)) == (0, 0)
        settle = Settle(b"3", (hold.of(5),))
        onward = followed(settle, await answer(store, settle))
        assert onward is not None
        await answer(store, onward)
        assert (await used(store, group), await held(store, group)) == (25, 0)

    @told
    async def test_a_join_raises_a_group_to_what_its_orgs_have_used_and_leaves_it_to_them(
        self, store: Store, clock: ManualClock
    ) -> None:
        edges = tuple(clock.now + n * DAY for n in range(-1, 4))
        verbs: tuple[Verb, ...] = (Quota(100, edges, spec=1), Rolling(100, 60 * MINUTE), Total(100))
        for verb in verbs:
            kind = verb.kind
            one, other = (on(kind, verb, 10, who=who) for who in (b"one", b"other"))
            group = on(kind, verb, 0, who=b"group")
            await ask(store, kind.encode() + b"1", one)
            await ask(store, kind.encode() + b"2", other)
            for _ in range(3):
                await answer(store, Join(group, (one, other)))
            assert [await used(store, each) for each in (group, one, other)] == [20, 10, 10]
            # One worker knows of the link, and another does not yet: a join heals that.
            await ask(store, kind.encode() + b"3", group.of(5), one.of(5)._replace(owed=True))
            await ask(store, kind.encode() + b"4", other.of(7))
            assert await used(store, group) == 25
            for _ in range(2):
                await answer(store, Join(group, (one, other)))
            assert [await used(store, each) for each in (group, one, other)] == [32, 15, 17]

    @told
    async def test_what_is_held_when_orgs_are_joined_is_held_by_both_until_it_is_settled(
        self, store: Store, clock: ManualClock
    ) -> None:
        one, other, seat = (
            on(limit, verb, 20, who=who, hold=True)
            for limit, verb, who in (
                ("life", Total(100), b"one"), ("life", Total(100), b"other"), ("seat", Max(2, LEASE), b"one"),
            )
        )  # fmt: skip
        seat = seat.of(1)
        group, seats = one.of(0).at((b"group", "life")), seat.of(0).at((b"group", "seat"))
        await ask(store, b"1", one, seat)
        await ask(store, b"2", other)
        for _ in range(3):
            await answer(store, Join(group, (one, other)))
            await answer(store, Join(seats, (seat, seat.at((b"other", "seat")))))
        assert [await held(store, each) for each in (group, one, other, seats)] == [40, 20, 20, 1]
        # What is said at the place of an org is to be said at the group's as well.
        extend = Extend(b"1", (one.of(5), seat.of(0)), LEASE, 1)
        outcome = await answer(store, extend)
        assert isinstance(outcome, Gone)
        onward = followed(extend, outcome)
        assert onward is not None
        assert isinstance(await answer(store, onward), Granted)
        assert [await held(store, each) for each in (group, one, seats)] == [45, 25, 1]
        for command in (Settle(b"1", (one.of(7), seat)), Cancel(b"2", (other,), LEASE)):
            for _ in range(2):
                onward = followed(command, await answer(store, command))
                assert onward is not None, "whoever says it again is sent on again"
                await answer(store, Join(group, (one, other)))  # what is going to be told is not counted twice
                await answer(store, onward)
        assert [await used(store, each) for each in (group, one, other)] == [7, 7, 0]
        assert [await held(store, each) for each in (group, one, other, seats, seat)] == [0, 0, 0, 0, 0]

    @told
    async def test_orgs_whose_windows_differ_are_brought_to_that_of_their_group(
        self, store: Store, clock: ManualClock
    ) -> None:
        here = Quota(100, tuple(clock.now + n * DAY for n in range(-1, 4)), spec=1)
        there = Quota(100, tuple(clock.now + n * DAY - 12 * 60 * MINUTE for n in range(-1, 4)), spec=2)
        one, other = (on("day", verb, 30, who=who) for verb, who in ((here, b"one"), (there, b"other")))
        group = on("day", here, 0, who=b"group")
        await ask(store, b"1", one)
        await ask(store, b"2", other)
        for _ in range(3):
            await answer(store, Join(group, (one, other._replace(verb=here))))
        assert await used(store, group) == 60
        clock.advance(microseconds=DAY)  # and none of it is left in the next window
        await answer(store, Join(group, (one, other._replace(verb=here))))
        await ask(store, b"3", group.of(1), other.of(1)._replace(verb=here, owed=True))
        await answer(store, Join(group, (one, other._replace(verb=here))))
        assert await used(store, group) == 1

    def test_the_store_answers_as_the_specification_does(self) -> None:
        """Some hundred commands at random; as many as the Hypothesis profile asks for."""
        ours = settings(deadline=None, stateful_step_count=30)
        # Hypothesis takes any callable that makes a machine, and says that it wants a class.
        run_state_machine_as_test(lambda: StoreMachine(self.make_store), settings=ours)  # type: ignore[arg-type]
