"""Many holds of one balance: to add one or take one away is cheap, and changes nobody else's view of them."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from headgate.quota.balance import SAFE, Balance, Hold
from headgate.quota.holds import FEW, Altered, altered, brought, held_also, without
from headgate.quota.window import Total

RIDS = st.integers(0, 40).map(lambda n: b"%d" % n)


@given(st.integers(0, 3 * FEW), st.lists(st.tuples(RIDS, st.booleans()), max_size=4 * FEW))
def test_altered_holds_are_what_a_dictionary_would_be_and_earlier_ones_stay_as_they_were(
    many: int, changes: list[tuple[bytes, bool]]
) -> None:
    expected = {b"%d" % n: Hold(n, until=n) for n in range(many)}
    view: Mapping[bytes, Hold] = dict(expected)
    views = [(dict(expected), view)]
    for step, (rid, put) in enumerate(changes):
        hold = Hold(step, until=step) if put else None
        view = altered(view, rid, hold)
        if hold is not None:
            expected[rid] = hold
        else:
            expected.pop(rid, None)
        views.append((dict(expected), view))
    for wanted, found in views:
        assert found == wanted
        assert len(found) == len(wanted)
        assert all((rid in found) == (rid in wanted) for rid, _ in changes)


def test_no_change_copies_more_than_a_few_holds_but_for_once_in_a_while() -> None:
    found = held_also(None, b"first", Hold(1, until=50), now=1)
    copied = 0
    for n in range(2_000):
        before = found.by_rid
        found = held_also(found, b"%d" % n, Hold(1, until=50), now=1)
        copied += len(found.by_rid.changes) if isinstance(found.by_rid, Altered) else len(before)
    assert found.held == 2_001
    assert copied / 2_000 < FEW
    last = without(found, b"first", now=1)
    assert last is not None
    assert last.held == 2_000


def test_what_time_does_is_done_to_all_of_many_holds() -> None:
    found = held_also(None, b"first", Hold(1, until=50), now=1)
    for n in range(300):
        found = held_also(found, b"%d" % n, Hold(2, until=60 + n % 2), now=1)
    assert isinstance(found.by_rid, Altered)
    standing, left = brought(Balance("total", 0, 0, SAFE, 0, (), found), Total(10_000), now=60)
    assert left is not None
    assert (standing[0], left.held, left.due) == (301, 300, 61)
