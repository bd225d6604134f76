"""The one step for a request that is reserved and settled at once is the ledger's two, or none."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate.quota.balance import Verb
from headgate.quota.command import Demand, Granted, Reserve, Settle
from headgate.quota.gcra import Rate
from headgate.quota.match import Limit
from headgate.quota.meter import Meter
from headgate.quota.window import Quota, Rolling, Total
from headgate.replay.entry import Entry
from headgate.replay.instant import charged, steps_of
from headgate.replay.ledgers import Ledger

DAY = 1_000

VERBS: tuple[Verb, ...] = (
    Rate(5, 500, burst=3),
    Quota(9, edges=(0, DAY, 2 * DAY, 3 * DAY, 4 * DAY), spec=1),
    Quota(8, edges=(), spec=1, length=DAY),
    Rolling(7, DAY),
    Total(20),
)

steps = st.lists(
    st.tuples(
        st.integers(0, 400),
        st.lists(
            st.tuples(st.integers(0, 4), st.integers(0, 6), st.booleans(), st.booleans()), min_size=1, max_size=3
        ),
        st.integers(0, 5),
    ),
    max_size=25,
)


@given(steps)
def test_one_step_does_what_reserving_and_settling_does(steps: list) -> None:
    exact, quick = Ledger(), Ledger()
    limit = Limit("limit", Meter("tokens", "app"), ("key",), {})
    now = DAY
    for number, (pause, asked, used) in enumerate(steps):
        now += pause
        by_verb = {which: (amount, hold, owed) for which, amount, hold, owed in asked}
        demands = tuple(
            [Demand((b"k", str(w)), VERBS[w], amount, hold, owed=owed) for w, (amount, hold, owed) in by_verb.items()]
        )
        outcome = exact.apply(Reserve(number.to_bytes(2, "big"), demands, lease=60), now)
        if isinstance(outcome, Granted):
            held = tuple([demand.of(used) for demand in demands if demand.hold])
            exact.apply(Settle(number.to_bytes(2, "big"), held), now)
        entry = Entry(at=now)
        asked_at_once = steps_of(demands, [limit] * len(demands), {"tokens": lambda _, used=used: used})
        assert asked_at_once is not None
        found = charged(quick.read, asked_at_once, entry)
        assert (found is not None) == isinstance(outcome, Granted)
        if found is None:
            # What a refusal writes, the ledger writes in a replay, too.
            quick.apply(Reserve(number.to_bytes(2, "big"), demands, lease=60), now)
        else:
            quick.write(found, {}, now)
        assert quick.balances == exact.balances


def test_what_takes_all_that_is_left_is_granted_and_one_more_is_not() -> None:
    limit = Limit("life", Meter("tokens", "app"), ("key",), {})
    for amount, granted in ((9, True), (10, False)):
        held = Demand((b"k", "life"), Total(9), amount, hold=True)
        step = steps_of([held], [limit], {"tokens": lambda entry: 12})
        assert step is not None and (charged({}, step, Entry(at=1)) is not None) is granted


def test_what_is_held_already_or_counts_things_is_left_to_the_ledger() -> None:
    ledger = Ledger()
    held = Demand((b"k", "life"), Total(9), 2, hold=True)
    ledger.apply(Reserve(b"other", (held,), lease=60), 0)
    limit = Limit("life", Meter("tokens", "app"), ("key",), {})
    step = steps_of([held], [limit], {"tokens": lambda entry: 1})
    assert step is not None and charged(ledger.read, step, Entry(at=1)) is None
    things = Demand((b"j", "life"), Total(9), 0, hold=True, things=(b"document",))
    assert steps_of([things], [limit], {"tokens": lambda entry: 1}) is None
    assert steps_of([held], [limit], {"tokens": None}) is None
