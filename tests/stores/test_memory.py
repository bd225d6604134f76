"""The memory store's bound: a full table gives nobody a fresh window."""

from __future__ import annotations

import asyncio

from headgate.quota.ledger import Demand, Granted, Outcome, Refused, Reserve, Settle
from headgate.quota.window import Quota, Total
from headgate.stores.memory import OVERFLOW, MemoryStore

LIFE = Total(2)


def ask(store: MemoryStore, who: bytes, *, rid: bytes, now: int = 0, hold: bool = False) -> Outcome:
    demand = Demand((who, "life"), LIFE, 1, hold=hold)
    [outcome] = asyncio.run(store.transact([Reserve(rid, (demand,), 1_000)], now))
    return outcome


def test_who_finds_no_room_shares_one_balance_and_nobody_begins_anew() -> None:
    store = MemoryStore(room=3)
    for who in (b"a", b"b", b"c"):
        ask(store, who, rid=b"1" + who)
        ask(store, who, rid=b"2" + who)
    strangers = [ask(store, b"new%d" % n, rid=b"3%d" % n) for n in range(5)]
    assert [isinstance(outcome, Granted) for outcome in strangers] == [True, True, False, False, False]
    assert isinstance(ask(store, b"a", rid=b"4a"), Refused)


def test_a_window_that_has_run_out_makes_room() -> None:
    day = Quota(1, edges=(0, 100, 200, 300), spec=1)
    store = MemoryStore(room=1)
    for now, who in ((100, b"a"), (200, b"b"), (201, b"b")):
        asyncio.run(store.transact([Reserve(who + b"%d" % now, (Demand((who, "d"), day, 1),), 10)], now))
    assert set(store._balances) <= {(b"b", "d"), (OVERFLOW, "d")}


def test_what_was_held_in_the_overflow_is_settled_there() -> None:
    store = MemoryStore(room=1)
    ask(store, b"a", rid=b"1")
    ask(store, b"b", rid=b"2", hold=True)
    store._room = 100
    asyncio.run(store.transact([Settle(b"2", (Demand((b"b", "life"), LIFE, 0),))], 1))
    assert (b"b", "life") not in store._balances
    assert store._balances[OVERFLOW, "life"].holds is None
