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
from stores.redis import test_sketches as sketches
from stores.redis.scripted import PlainMachine, Scripted, ScriptMachine, ThingsMachine

Finder = type[StoreMachine] | Callable[[Scripted, ManualClock], None]
"""A machine, or one of the stories of test_scripts.py."""


def largest(store: Scripted, clock: ManualClock) -> None:
    stories.test_an_instant_past_the_largest_number_is_told_exactly(store, clock)
    stories.test_what_is_used_saturates(store)


def alike(store: Scripted, _: ManualClock) -> None:
    for seed, (floor, many) in enumerate(((0, 3), (1, 60), (0, 1_500), (11, 1), (0, 40), (29, 9))):
        sketches.counted_alike(store, [(seed, 255)], floor, seed, many)


def pieces(store: Scripted, _: ManualClock) -> None:
    sketches.test_one_more_thing_moves_a_few_bytes_of_a_large_sketch(store, store.client)


def unused(store: Scripted, clock: ManualClock) -> None:
    sketches.test_a_window_whose_usage_was_lost_knows_nothing_though_its_sketch_lies_there(store, store.client, clock)


def without(story: Callable[[Scripted], None]) -> Callable[[Scripted, ManualClock], None]:
    """A story that needs no clock."""
    return lambda store, clock: story(store)


late = stories.test_a_late_settlement_replaces_what_was_charged
told = stories.test_a_join_counts_what_belongs_to_the_groups_window_and_is_told_nowhere_else
twice = stories.test_a_settlement_that_names_a_place_twice_leaves_the_sketch_of_the_balance_that_it_leaves
unasked = stories.test_a_window_that_is_not_asked_for_stays_as_it_is
forgotten = stories.test_a_unit_is_forgotten_in_time_though_the_newest_sub_window_goes_on
exhausted = without(sketches.test_what_was_named_before_is_free_even_when_nothing_is_left)
halves = without(sketches.test_things_that_differ_in_a_single_byte_are_different_things)
together = without(sketches.test_of_several_commands_in_one_call_each_knows_what_those_before_it_have_named)
union = without(sketches.test_two_sketches_unite_whatever_they_are_and_what_both_had_counts_once)
joined = without(sketches.test_what_the_orgs_of_a_group_have_named_is_not_charged_again)
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
        ScriptMachine, "ledger", "actual, altered(holds, rid, mine, left, now), now)", "actual, holds, now)"
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
    "what is in the list already is put there again": (
        ThingsMachine, "things", "if not there then\n      fresh", "if true then\n      fresh"
    ),
    "a list that is not sorted": (
        ThingsMachine, "things", "  table.sort(fresh, by_thing)",
        "  table.sort(fresh, function(a, b) return by_thing(b, a) end)",
    ),
    "things that were named before are held again": (
        ThingsMachine, "things", "many = many - (there and 1 or 0)", "many = many - 0"
    ),
    "things are found by one half": (
        halves, "things", "if first == high and second == low then", "if first == high then"
    ),
    "a rank too low": (alike, "things", "HIGHEST - bits", "HIGHEST - 1 - bits"),
    "a register falls": (
        alike, "things", "max(one, other), min(one, other)", "min(one, other), max(one, other)"
    ),
    "the wrong register": (alike, "things", "spot = floor(first", "spot = floor(second"),
    "a register forgets the ranks below": (alike, "things", "floor(low / 8)), 7))", "floor(low / 8)), 0))"),
    "a window that reaches one rank less": (alike, "things", "rshift(8 + low % 8,", "rshift(8 + low % 4,"),
    "a register of no rank weighs as its window": (alike, "things", "rank == 0 and HEAVIEST", "false"),
    "an estimate that does not bend": (alike, "things", "max(0, (y - KNEE)", "min(0, (y - KNEE)"),
    "an estimate that is a little steeper": (alike, "things", "53.247", "53.248"),
    "an estimate cut off": (alike, "things", "(y * y * y * y * y) + 0.5)", "(y * y * y * y * y))"),
    "two registers are not joined": (
        union, "things", "joined(mine[at], theirs[at])", "mine[at]"
    ),
    "a sketch outlives its window": (
        ThingsMachine, "sketches", "return sketch.since == begun(verb, since) and sketch or none", "return sketch"
    ),
    "a sketch counts where nothing is used": (
        unused, "sketches", "or used == 0 or not windowed(verb)", "or not windowed(verb)"
    ),
    "the sketch is not written": (ThingsMachine, "ledger", "      after[n].sketch = grown", ""),
    "a sketch that another balance at its place has made stays": (
        twice, "ledger", "after[n].sketch = grown\n      carried_on(n, balance, after[n])", "after[n].sketch = grown"
    ),
    "what was named is charged again": (
        ThingsMachine, "ledger", "sketches.count(grown) - sketches.count(before)", "sketches.count(grown)"
    ),
    "known things are refused when nothing is left": (
        exhausted, "ledger", " and (need > 0 or not things)", ""
    ),
    "a merge counts twice what both had": (ThingsMachine, "merge", "used - twice", "used"),
    "a merge leaves the sketch behind": (union, "merge", ", sketch = sketches.none }", " }"),
    "a join forgets what was known": (
        joined, "merge", "both = sketches.united(seen, sum.seen)", "both = seen"
    ),
    "a join adds up again each time": (
        ScriptMachine, "merge", "local most = max(theirs, min(used + fresh, SAFE))", "local most = used + theirs"
    ),
    "a join of sub-windows adds up": (
        told, "merge", "by_part[part], more = units, true", "by_part[part], more = units + 1, true"
    ),
    "a join counts what was used before the window": (
        told, "merge", "return other or since >= begun", "return true"
    ),
    "a join forgets what is held": (ScriptMachine, "merge", "by[id], ids[id], any = hold, true, true", "any = any"),
    "nobody is told of a copied hold": (
        ScriptMachine, "merge", "lapsed = hold.lapsed, to = to, also = true }", "lapsed = hold.lapsed }"
    ),
    "a join counts what is going to be told": (
        told, "merge", "verb:less(used, since, ends, parts, hold.amount, now, now)",
        "used, since, ends, parts",
    ),
    "a window that takes over usage forgets what was named": (
        ThingsMachine, "ledger", "    sketches.carry(subject_of[n], name_at[n], before, balance)", ""
    ),
    "what is owed refuses": (
        ScriptMachine, "ledger", "if lacks and owed_at[n] and not shadow_at[n] then", "if false then"
    ),
    "a piece of a sketch is not written": (
        pieces, "sketches", 'call("SETRANGE", key, HEAD + spot, char(value))', "local _ = value"
    ),
    "the weight of a sketch is not written": (
        pieces, "sketches", 'call("SETRANGE", key, 0, packed("<Bd", SKETCH, sketch.since) .. sketch_head(sketch))', ""
    ),
    "what a call has named is forgotten within it": (
        together, "sketches", "sketches_at[key], sketches_put[key] = lying, life", "sketches_put[key] = life"
    ),
    "no time to live for sketches": (
        ThingsMachine, "sketches", '.. bytes_of(sketch), "PX", life)', ".. bytes_of(sketch))"
    ),
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
