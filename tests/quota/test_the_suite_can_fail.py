"""Bugs put into the ledger on purpose: each must be found, or the tests beside this one prove nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from headgate.quota import holds, join, ledger, merge
from headgate.quota.gcra import Rate
from headgate.quota.window import Quota, Rolling, Total

sys.path.insert(0, str(Path(__file__).parent))
import test_clock
import test_join_machine as joining
import test_ledger_machine as machine

Patch = Callable[[pytest.MonkeyPatch], None]


def idempotency_dropped(patch: pytest.MonkeyPatch) -> None:
    reserve = ledger._reserve
    patch.setattr(
        ledger, "_reserve", lambda b, receipt, command, now, sketches: reserve(b, None, command, now, sketches)
    )


def check_and_increment_split(patch: pytest.MonkeyPatch) -> None:
    # The ledger that was asked last, and how it was then.
    apply, last = ledger.apply, [(dict[Any, Any](), dict[Any, Any]())]

    def racing(balances: dict[Any, Any], receipt: Any, command: Any, now: int, sketches: Any) -> Any:
        whose, before = last[0]
        last[0] = balances, dict(balances)
        before = before if whose is balances else {}
        return apply(before if now % 3 == 0 else balances, receipt, command, now, sketches)

    patch.setattr(machine, "apply", racing)


def lease_ignored(patch: pytest.MonkeyPatch) -> None:
    def brought(balance: Any, verb: Any, now: int) -> Any:
        return verb.bring(balance, now), balance.holds if balance is not None else None

    patch.setattr(ledger, "brought", brought)


def refusal_consumes(patch: pytest.MonkeyPatch) -> None:
    reserve = ledger._reserve

    def greedy(balances: Any, receipt: Any, command: Any, now: int, sketches: Any) -> Any:
        change = reserve(balances, receipt, command, now, sketches)
        if not isinstance(change.outcome, ledger.Refused):
            return change
        refused = {refusal.limit for refusal in change.outcome.refusals}
        first = [d for d in command.demands if d.place[1] not in refused and not d.shadow]
        return change._replace(
            balances=reserve(balances, receipt, command._replace(demands=tuple(first)), now, sketches).balances
        )

    patch.setattr(ledger, "_reserve", greedy)


def window_reopened(patch: pytest.MonkeyPatch) -> None:
    bring = Quota.bring

    def forgetful(quota: Quota, balance: Any, now: int) -> Any:
        fresh = balance is not None and now - balance.since > (balance.until - balance.since) // 2
        return bring(quota, None if fresh else balance, now)

    patch.setattr(Quota, "bring", forgetful)


def one_more_than_the_capacity(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Total, "free", lambda total, standing: total.capacity - standing[0] + 1)


def settle_leaves_the_hold(patch: pytest.MonkeyPatch) -> None:
    settle = ledger._settle

    def twice(balances: Any, command: Any, now: int, sketches: Any) -> Any:
        with pytest.MonkeyPatch.context() as within:
            within.setattr(ledger, "without", lambda kept, rid, at: kept)
            return settle(balances, command, now, sketches)

    patch.setattr(ledger, "_settle", twice)


def cancel_gives_back_each_time(patch: pytest.MonkeyPatch) -> None:
    cancel = ledger._cancel

    def eager(balances: Any, receipt: Any, command: Any, now: int, sketches: Any) -> Any:
        return cancel(balances, receipt and receipt._replace(granted=True), command, now, sketches)

    patch.setattr(ledger, "_cancel", eager)


def late_settlement_charged_in_full(patch: pytest.MonkeyPatch) -> None:
    settle = ledger._settle

    def blind(balances: Any, command: Any, now: int, sketches: Any) -> Any:
        real = ledger.brought
        with pytest.MonkeyPatch.context() as within:

            def alive(balance: Any, verb: Any, at: int) -> Any:
                standing, kept = real(balance, verb, at)
                if kept is None:
                    return standing, None
                by_rid = {rid: hold._replace(lapsed=hold.to is not None) for rid, hold in kept.by_rid.items()}
                return standing, kept._replace(by_rid=by_rid)

            within.setattr(ledger, "brought", alive)
            return settle(balances, command, now, sketches)

    patch.setattr(ledger, "_settle", blind)


def lapse_frees_instead_of_charging(patch: pytest.MonkeyPatch) -> None:
    lapsed = holds._lapsed

    def generous(balance: Any, verb: Any, kept: Any, now: int) -> Any:
        _, after = lapsed(balance, verb, kept, now)
        return verb.bring(balance, now), after

    patch.setattr(holds, "_lapsed", generous)


def merge_copies(patch: pytest.MonkeyPatch) -> None:
    def copying(balances: Any, command: Any, now: int, sketches: Any) -> Any:
        change = merge.merged(balances, command, now, sketches)
        return change._replace(balances={p: b for p, b in change.balances.items() if p == command.into.place})

    patch.setattr(ledger, "merged", copying)


def merged_hold_leaves_no_note(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(merge, "note", lambda hold, to: holds.note(hold, to)._replace(to=(b"nowhere", to[1])))


def rolling_forgets_early(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Rolling, "_forgotten", lambda rolling, part: part * rolling.spec + rolling.length)


def rate_drains_twice(patch: pytest.MonkeyPatch) -> None:
    bring = Rate.bring

    def draining(rate: Rate, balance: Any, now: int) -> Any:
        standing = bring(rate, balance, now)
        return (standing[0], min(standing[1], balance.since), *standing[2:]) if balance is not None else standing

    patch.setattr(Rate, "bring", draining)


def extension_repeated(patch: pytest.MonkeyPatch) -> None:
    extend, steps = ledger._extend, count(1)
    patch.setattr(
        ledger, "_extend", lambda b, command, now, seen: extend(b, command._replace(step=next(steps)), now, seen)
    )


def owed_refuses(patch: pytest.MonkeyPatch) -> None:
    reserve = ledger._reserve

    def strict(balances: Any, receipt: Any, command: Any, now: int, sketches: Any) -> Any:
        demands = tuple([demand._replace(owed=False) for demand in command.demands])
        return reserve(balances, receipt, command._replace(demands=demands), now, sketches)

    patch.setattr(ledger, "_reserve", strict)


def shadow_refuses(patch: pytest.MonkeyPatch) -> None:
    reserve = ledger._reserve

    def strict(balances: Any, receipt: Any, command: Any, now: int, sketches: Any) -> Any:
        demands = tuple([demand._replace(shadow=False) for demand in command.demands])
        return reserve(balances, receipt, command._replace(demands=demands), now, sketches)

    patch.setattr(ledger, "_reserve", strict)


def things_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ledger, "counted", lambda things, balance, verb, standing, now: b"")


def things_are_known_in_the_next_window(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ledger, "counted", lambda things, balance, verb, standing, now: things.data if things else b"")


def merged_things_add_up(patch: pytest.MonkeyPatch) -> None:
    once = merge.once
    patch.setattr(merge, "once", lambda total, seen, also: (total, once(total, seen, also)[1]))


def merged_things_are_left_behind(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(merge, "once", lambda total, seen, also: (total, seen))


def joined_usage_adds_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(join, "_higher", lambda verb, mine, total, more: verb.join(mine, total))


def joined_usage_is_not_raised(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(join, "_higher", lambda verb, mine, total, more: mine if mine[0] else total)


def a_join_counts_what_is_going_to_be_told(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(join, "_untold", lambda total, verb, by_rid, known, now: total)


def a_join_forgets_what_is_held(patch: pytest.MonkeyPatch) -> None:
    known = join._known
    patch.setattr(join, "_known", lambda hold, into: known(hold, into) if hold.to is not None else None)


def a_copied_hold_does_not_know_of_its_copy(patch: pytest.MonkeyPatch) -> None:
    joined = ledger.joined

    def forgetful(balances: Any, command: Any, now: int, sketches: Any) -> Any:
        change = joined(balances, command, now, sketches)
        return change._replace(balances={p: b for p, b in change.balances.items() if p == command.into.place})

    patch.setattr(ledger, "joined", forgetful)


def joined_things_add_up(patch: pytest.MonkeyPatch) -> None:
    once = join.once
    patch.setattr(join, "once", lambda total, seen, also: (total, once(total, seen, also)[1]))


@contextmanager
def quietly() -> Iterator[None]:
    """The failure that is wanted needs no report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hypothesis.stateful.report", lambda *_: None)
        yield


@pytest.mark.parametrize(
    "bug",
    [
        idempotency_dropped,
        check_and_increment_split,
        lease_ignored,
        refusal_consumes,
        window_reopened,
        one_more_than_the_capacity,
        settle_leaves_the_hold,
        cancel_gives_back_each_time,
        late_settlement_charged_in_full,
        lapse_frees_instead_of_charging,
        merge_copies,
        merged_hold_leaves_no_note,
        rolling_forgets_early,
        rate_drains_twice,
        extension_repeated,
        shadow_refuses,
        owed_refuses,
    ],
    ids=lambda bug: bug.__name__,
)
def test_the_oracle_finds(bug: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    found(machine.LedgerMachine)


@pytest.mark.parametrize(
    "bug",
    [
        things_are_forgotten,
        things_are_known_in_the_next_window,
        merged_things_add_up,
        merged_things_are_left_behind,
        settle_leaves_the_hold,
        late_settlement_charged_in_full,
    ],
    ids=lambda bug: bug.__name__,
)
def test_the_oracle_of_things_finds(bug: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    found(machine.ThingsMachine)


@pytest.mark.parametrize(
    "bug",
    [
        joined_usage_adds_up,
        joined_usage_is_not_raised,
        a_join_counts_what_is_going_to_be_told,
        a_join_forgets_what_is_held,
        a_copied_hold_does_not_know_of_its_copy,
    ],
    ids=lambda bug: bug.__name__,
)
def test_the_law_of_joins_finds(bug: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    found(joining.JoinMachine)


def test_the_law_of_joined_things_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    joined_things_add_up(monkeypatch)
    found(joining.NamingMachine)


def found(ledgers: Any) -> None:
    """A run of the machine fails."""
    once = settings(
        max_examples=2_000,
        stateful_step_count=50,
        phases=[Phase.generate],
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    with quietly(), pytest.raises((AssertionError, ValueError, KeyError, ExceptionGroup)):
        run_state_machine_as_test(ledgers, settings=once)


def test_the_clock_stories_find_a_re_anchoring_that_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_kept", lambda balances, demands, now, sketches: ({}, {}))
    with pytest.raises(AssertionError, match="locked out for good"):
        test_clock.test_set_back_locks_out_no_longer_than_the_window("rate", test_clock.YEAR)


def test_the_clock_stories_find_a_window_that_follows_the_clock_back(monkeypatch: pytest.MonkeyPatch) -> None:
    bring = Quota.bring
    monkeypatch.setattr(
        Quota, "bring", lambda quota, b, now: bring(quota, None if b is not None and now < b.since else b, now)
    )
    with pytest.raises(AssertionError):
        test_clock.test_two_workers_whose_clocks_differ_by_a_little_share_one_window()
