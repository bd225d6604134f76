"""Bugs put into the script on purpose: each must be found, or the tests beside this one prove nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from redis import Redis
from redis.exceptions import ResponseError

from headgate.errors import StoreError
from headgate.quota.command import Command
from headgate.stores.redis.script import scripts
from headgate.testing import ManualClock
from headgate.testing.servers import Server
from headgate.testing.store_machine import StoreMachine
from stores.redis import test_scripts as stories
from stores.redis.scripted import PlainMachine, Scripted, ScriptMachine

Finder = type[StoreMachine] | Callable[[Scripted, ManualClock], None]
"""A machine, or one of the stories of test_scripts.py."""


def largest(store: Scripted, clock: ManualClock) -> None:
    stories.test_an_instant_past_the_largest_number_is_told_exactly(store, clock)
    stories.test_what_is_used_saturates(store)


late = stories.test_a_late_settlement_replaces_what_was_charged
unasked = stories.test_a_window_that_is_not_asked_for_stays_as_it_is
forgotten = stories.test_a_unit_is_forgotten_in_time_though_the_newest_sub_window_goes_on
ended = stories.test_a_window_that_has_ended_is_not_opened_again_by_who_knows_of_no_other

BUGS: dict[str, tuple[Finder, str, str, str]] = {
    "idempotency dropped": (ScriptMachine, "ledger", "return ends > now and {", "return false and {"),
    "idempotency dropped on the short way": (
        PlainMachine, "plain", "if receipts[receipt] or values[first_key] then", "if false then"
    ),
    "no check on the short way": (
        PlainMachine, "plain", "if now < since or used > verb.brim then", "if now < since then"
    ),
    "checked after it was written": (
        ScriptMachine, "ledger", "if weighed or #refusals > 0 then", "keep_all(after)\nif #refusals > 0 then"
    ),
    "rounded up what is free": (
        stories.test_half_a_unit_is_none, "gcra", "return floor((self.brim - used)", "return ceil((self.brim - used)"
    ),
    "drained twice": (
        PlainMachine, "plain", "since, ends = now, now + ceil(used / drain)", "ends = now + ceil(used / drain)"
    ),
    "inexact near the largest number": (
        largest, "gcra", "used - (self.brim - need * self.spec)", "used + need * self.spec - self.brim"
    ),
    "not saturated": (
        largest, "window", "used = min(used + amount, SAFE), since = since, ends = FOREVER",
        "used = used + amount, since = since, ends = FOREVER",
    ),
    "lease ignored": (ScriptMachine, "holds", "if holds.due <= now then", "if false then"),
    "a lapse frees instead of charging": (ScriptMachine, "holds", "hold.amount, nil, at)", "0, nil, at)"),
    "a late settlement is charged in full": (
        late, "ledger", "actual = max(0, actual - mine.amount)", "actual = actual"
    ),
    "settled and still held": (
        ScriptMachine, "ledger", "actual, altered(holds, rid, mine, false, now), now)", "actual, holds, now)"
    ),
    "a hold is not written": (ScriptMachine, "rows", 'call("HSET", key, unpack(', "local _ = (unpack("),
    "an extension counts each time": (StoreMachine, "ledger", "elseif mine.step < step then", "elseif true then"),
    "cancelled twice, given back twice": (
        ScriptMachine, "ledger", "and receipt and receipt.granted then", "and receipt then"
    ),
    "rolling forgets early": (ScriptMachine, "window", "return (part + 1) * self.spec", "return part * self.spec"),
    "the oldest part is not looked at": (
        forgotten, "plain", "or (part + 1) * spec + verb.length <= now then", "then"
    ),
    "a window that has ended opens again": (ended, "window", "if last > ends then", "if true then"),
    "a merge copies": (ScriptMachine, "merge", "after[n], moved = stays, true", "moved = true"),
    "a moved hold leaves no note": (ScriptMachine, "merge", "= note(hold, to)", "= hold.to and hold"),
    "all instants follow the newest": (unasked, "plain", "elseif before_of[n] == on_base then", "elseif true then"),
    "a subject that is named in turn begins anew": (
        PlainMachine, "plain", "while here <= many and key_of[here] ~= key do", "while here <= many do"
    ),
    "calendars of one kind are one window": (
        ScriptMachine, "rows", "if sub(head, last - 8, last) == bytes then",
        "if sub(head, last - 8, last - 5) == sub(bytes, 1, 4) then",
    ),
    "the bytes of a rolling window run into the next": (
        ScriptMachine, "call", "return form.fixed + (many > 0", "return form.fixed + 1 + (many > 0"
    ),
    "no time to live": (ScriptMachine, "rows", ' .. table.concat(text),\n    "PX", life_of(span))', ")"),
    "no time to live on the short way": (PlainMachine, "run", ', "PX", life_of(byte(text, 8)))', ")"),
    "no time to live for holds": (ScriptMachine, "rows", 'call("PEXPIRE", key, ', "local _ = ("),
}  # fmt: skip


def mutated(part: str, text: str, bug: str) -> scripts.Script:
    parts = scripts.read()
    assert text in parts[part], "the bug has nothing to replace any more"
    return scripts.assembled(parts | {part: parts[part].replace(text, bug)})


@pytest.fixture
def client(valkey: Server) -> Iterator[Redis]:
    with valkey.client() as client:
        yield client


@pytest.mark.parametrize("bug", BUGS)
def test_they_find(bug: str, client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    finder, *what = BUGS[bug]
    script = mutated(*what)
    client.execute_command("SCRIPT LOAD", script.text)  # a bug that no server would take proves nothing
    if isinstance(finder, type):
        monkeypatch.setattr("hypothesis.stateful.report", lambda *_: None)
        with pytest.raises((AssertionError, ResponseError, StoreError, ExceptionGroup)):
            run(finder, client, script, timed="time to live" in bug)
    else:
        with pytest.raises((AssertionError, StoreError)):
            clock = ManualClock()
            finder(Scripted(client, clock, script), clock)


def run(machine: type[StoreMachine], client: Redis, script: scripts.Script, *, timed: bool) -> None:
    class Checked(machine):  # type: ignore[misc, valid-type]
        def transact(self, commands: list[Command]) -> None:
            super().transact(commands)
            if timed:
                assert all(client.pttl(key) > 0 for key in client.scan_iter(count=1_000))

    def make_store(clock: ManualClock) -> Scripted:
        client.flushdb()
        return Scripted(client, clock, script)

    once = settings(
        max_examples=400, stateful_step_count=40, phases=[Phase.generate], derandomize=True, deadline=None,
        suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
    )  # fmt: skip
    run_state_machine_as_test(lambda: Checked(make_store), settings=once)  # type: ignore[arg-type]
