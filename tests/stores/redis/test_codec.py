"""What goes over the wire: the same is written alike, and what comes back is read exactly or not at all."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.errors import StoreError
from headgate.quota.balance import SAFE, Balance, Hold, Holds
from headgate.quota.command import (
    Demand,
    Extend,
    Gone,
    Granted,
    Look,
    Merge,
    Never,
    NotYet,
    Refused,
    Reserve,
    Seen,
    Settle,
    Settled,
)
from headgate.quota.gcra import Rate
from headgate.quota.window import Max, Quota, Rolling, Total
from headgate.stores.redis.script import codec, lines
from headgate.stores.redis.script.keys import SLOTS, keys_of, overflow_keys, slot_of, tag_of
from headgate.stores.redis.script.parcel import Give, Parcel, Parted, Take

KEY, ORG, OTHER = b"acme's--its key.", b"acme's--its org.", b"beta's--its org."
RID = bytes(range(16))

numbers = st.integers(0, SAFE)
instants = st.integers(-(2**53), 2**53)
rids = st.binary(min_size=1, max_size=40)
limits = st.text(min_size=1, max_size=12)


def life(who: bytes = KEY, amount: int = 1, limit: str = "life") -> Demand:
    return Demand((who, limit), Total(9), amount)


def written(*values: int | bytes) -> bytes:
    """A reply as the script makes it."""
    out = b""
    for value in values:
        if isinstance(value, int):
            out += struct.pack("<q", value)
        else:
            out += struct.pack("<q", len(value)) + value + b"\0" * (-len(value) % 8)
    return out


def told(balance: Balance | None, demand: Demand) -> list[int | bytes]:
    """A balance as the script tells it."""
    if balance is None:
        return [0]
    kind, used, since, until, spec, parts, holds = balance
    foreign = (kind, spec) != (demand.verb.kind, demand.verb.spec)
    flags = 1 + 2 * foreign + 4 * bool(parts) + (24 if holds is not None else 0)
    out: list[int | bytes] = [flags, used, since, until]
    out += [lines.KINDS[kind], spec] if foreign else []
    out += [len(parts), *[n for part in parts for n in part]] if parts else []
    if holds is not None:
        out += [holds.held, holds.due, holds.seen, len(holds.by_rid), len(holds.by_rid)]
        for rid, hold in holds.by_rid.items():
            out += [rid, hold.amount, hold.until, hold.step, hold.lapsed + 2 * hold.also]
            out += [-1] if hold.to is None else [lines.place_bytes(hold.to)]
    return out


places = st.tuples(st.binary(max_size=20), limits)
holds = st.builds(Hold, numbers, instants, st.integers(0, 9), st.booleans(), st.none() | places, also=st.booleans())
all_holds = st.builds(
    Holds, numbers, instants, st.dictionaries(rids, holds, min_size=1, max_size=3), st.integers(0, SAFE)
)
parts = st.lists(st.tuples(numbers, numbers), max_size=3).map(tuple)
balances = st.none() | st.builds(
    Balance, st.sampled_from(list(lines.KINDS)), numbers, instants, instants, numbers, parts, st.none() | all_holds
)


@given(now=instants, found=st.lists(balances, max_size=4))
def test_any_balance_is_read_as_it_was_told(now: int, found: list[Balance | None]) -> None:
    demands = tuple([life(limit=f"l-{n}") for n in range(len(found))])
    flat = [value for balance, demand in zip(found, demands, strict=True) for value in told(balance, demand)]
    assert codec.outcome(Look(demands), written(5, now, *flat)) == Seen(now, tuple(found))
    assert codec.outcome(Reserve(RID, demands, 1), written(1, now, 0, *flat)) == Granted(now, tuple(found))


def test_what_is_granted_the_usual_way_is_read_as_the_balances_that_it_stands_for() -> None:
    rate, roll = Demand((KEY, "rpm"), Rate(60, 60_000_000), 1), Demand((ORG, "day"), Rolling(9, 86_400_000_000), 1)
    reply = written(7, 50, 1_000_000, 50, 51, 3, 50, 90, 2, 7, 1, 8, 2)
    assert codec.outcome(Reserve(RID, (rate, roll), 1), reply) == Granted(
        50,
        (
            Balance("rate", 1_000_000, 50, 51, 1_000_000),
            Balance("rolling", 3, 50, 90, roll.verb.spec, ((7, 1), (8, 2))),
        ),
    )


def test_refusals_name_their_limits_and_add_up_to_instants_past_any_double() -> None:
    one, two = life(limit="one"), life(limit="two")
    reply = written(2, 9, 1, 2, 0, 0, 1, 1, 5, 0, 0, 0, 2**53 - 1, 2**53 - 3, 1, 1, 0, 0)
    assert codec.outcome(Reserve(RID, (one, two), 1), reply) == Refused(
        9, (NotYet("one", 2**54 - 4), Never("two", 0)), (None, None), (Never("two", 5),)
    )


def test_where_a_hold_has_moved_is_told_for_each_demand() -> None:
    one, two = life(limit="one"), life(limit="two")
    group = (OTHER, "one")
    where = lines.place_bytes(group)
    moved = codec.outcome(Settle(RID, (one, two)), written(4, 9, 2, 1, 0, 0, 0, 5, 0, where))
    assert moved == Settled(9, (None, None), (one.at(group),), (0, 5))
    assert codec.outcome(Extend(RID, (one, two), 1, 1), written(3, 9, 1, 0, where)) == Gone(9, (one.at(group), two))
    assert codec.outcome(Extend(RID, (one, two), 1, 1), written(3, 9, 0)) == Gone(9)


@given(balance=balances.filter(lambda balance: balance is not None), name=limits)
def test_a_parcel_is_read_as_it_was_told(balance: Balance, name: str) -> None:
    source = life(limit=name)
    reply = written(6, 9, 1, 0, 77, RID, lines.place_bytes((ORG, name)), *told(balance, source))
    parted = codec.outcome(Give(RID, source.at((ORG, name)), source), reply)
    assert parted == Parted(9, None, Parcel(RID, (ORG, name), balance, 77))
    assert codec.outcome(Give(RID, source, source), written(6, 9, 0, 0)) == Parted(9, None, None)
    assert codec.packed(Take(life(ORG, limit=name), parted.parcel), 5).keys[1:] == (keys_of(ORG)[0],)


GOOD = written(7, 50, 1, 50, 51)


@pytest.mark.parametrize(
    "reply",
    [
        b"", b"OK", GOOD[:-1], GOOD[:-8], GOOD + b"\0" * 8, written(0, 1), written(99, 1), written(1), written(-1),
        written(1, 5, 10**6, 0), written(1, 5, 0, 1), written(1, 5, 0, 31, 1, 1, 1),
        written(1, 5, 0, 2, 1, 1, 1, 77, 0), written(4, 5, 0, 1, 0, 0, 2**40), written(4, 5, 0, 1, 0, 0, -1),
        written(4, 5, 0, 2**60, 0), None, 7, [GOOD], ValueError("x"),
    ],
)  # fmt: skip
def test_a_reply_that_does_not_add_up_is_a_fault_with_a_name(reply: Any) -> None:
    for command in (Reserve(RID, (life(),), 1), Settle(RID, (life(),))):
        with pytest.raises(StoreError, match=f"answer to a {type(command).__name__} cannot be read") as fault:
            codec.outcome(command, reply)
        assert not fault.value.transient


@given(reply=st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_store_error(reply: bytes) -> None:
    for command in (Reserve(RID, (life(),), 1), Settle(RID, (life(),)), Give(RID, life(ORG), life())):
        try:
            codec.outcome(command, reply)
        except StoreError:
            continue


# Commands.


def test_the_same_demands_are_written_once_and_others_alike() -> None:
    demands = (life(KEY), life(ORG))
    once = codec.packed(Reserve(RID, demands, 1), 5)
    again = codec.packed(Reserve(RID, demands, 1), 5)
    assert again == once
    assert codec.packed(Reserve(RID, (life(KEY), life(ORG)), 1), 5) == once
    assert codec.packed(Reserve(RID, demands, 1), 6) != once
    assert codec.packed(Reserve(RID, demands, 1), None) != once
    assert codec.packed(Reserve(RID, (life(KEY), life(ORG, 2)), 1), 5) != once


def test_a_command_names_its_receipt_and_each_subject_once() -> None:
    demands = (life(KEY), life(ORG), life(KEY, limit="other"))
    assert codec.packed(Reserve(RID, demands, 1), 5).keys == (
        b"hr{acme's--}" + RID, b"hg{acme's--}its key.", b"hg{acme's--}its org.",
    )  # fmt: skip


def test_what_is_kept_is_bounded_whatever_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "ROOM", 50)
    kept: lines.Kept[int] = lines.Kept(len)
    alive = [(n,) * (n % 7) for n in range(1_000)]
    assert [kept.of(thing) for thing in alive] == [n % 7 for n in range(1_000)]
    assert len(kept) <= 100
    # Objects that have gone leave their addresses to others: what was made of one is never given for another.
    assert all(kept.of(tuple(range(n % 9))) == n % 9 for n in range(2_000))
    assert len(kept) <= 100


def test_what_comes_again_and_again_is_made_once_however_much_comes_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "ROOM", 50)
    made: list[object] = []
    kept = lines.Kept(lambda thing: made.append(thing))
    often = (1, 2, 3)
    for n in range(1_000):
        kept.of(often)
        kept.of((n,))
    assert made.count(often) == 1


def test_two_limits_are_never_counted_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_limits", {lines.name_of("one"): "another"})
    lines.name_of.cache_clear()
    with pytest.raises(StoreError, match="`one` and `another` would be counted as one"):
        codec.packed(Reserve(RID, (life(limit="one"),), 1), 5)
    lines.name_of.cache_clear()


def test_what_the_script_cannot_be_told_is_refused_before_anything_is_sent() -> None:
    class Odd(Total):
        pass

    with pytest.raises(ValueError, match="names a place twice"):
        codec.packed(Reserve(RID, (life(), life()), 1), 5)
    with pytest.raises(StoreError, match="no script for the verb"):
        codec.packed(Reserve(RID, (Demand((KEY, "odd"), Odd(3), 1),), 1), 5)
    with pytest.raises(StoreError, match="cannot be told this Settle"):
        codec.packed(Settle(b"x" * 256, (life(),)), 5)
    with pytest.raises(StoreError, match="knows no str"):
        codec.packed("RESERVE", 5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "verb",
    [
        Rate(60, 60_000_000), Rate(7, 3_600_000_000), Rate(SAFE, 1), Rate(999_983, 60_000_000), Rolling(5, 1),
        Rolling(SAFE, SAFE), Quota(1, tuple(range(500)), SAFE), Quota(SAFE, (), 0, length=SAFE),
        Max(SAFE, 1), Total(0),
    ],
)  # fmt: skip
def test_every_verb_can_be_told(verb: Any) -> None:
    group = Demand((ORG, "life"), verb, 0)
    assert len(codec.packed(Merge(group, (group.at((KEY, "life")),)), 5).keys) == 2


# Keys.


def test_the_keys_of_an_org_share_a_slot_whatever_bytes_its_digest_has() -> None:
    for n in range(2_000):
        org = (n * 2_654_435_761 % 2**64).to_bytes(8, "big")
        for tag in (org, b"{}" + org[2:], b"}" * 8):
            key, holds = keys_of(tag + b"}rest{..")
            assert key[3:].partition(b"}")[0] == tag_of(tag + b"}rest{..") != b""
            assert b"{" not in tag_of(tag + b"}rest{..")
            assert key[2:] == holds[2:]


def test_subjects_of_any_length_have_keys_of_their_own() -> None:
    subjects = [b"", b"a", b"a" * 15, b"a" * 16, b"a" * 17, b"a" * 400, b"overflow", KEY, ORG]
    assert len({keys_of(subject)[0] for subject in subjects}) == len(subjects)
    assert {len(keys_of(subject)[0]) for subject in subjects} == {20}


def test_every_slot_has_an_overflow_that_lies_in_it() -> None:
    seen = set()
    for n in range(0, SLOTS * 3, 7):
        tag = n.to_bytes(8, "big")
        key, holds = overflow_keys(tag)
        assert slot_of(key[3:-1]) == slot_of(tag) == slot_of(holds[3:-1])
        seen.add(key)
    assert len(seen) == len({slot_of(n.to_bytes(8, "big")) for n in range(0, SLOTS * 3, 7)})
