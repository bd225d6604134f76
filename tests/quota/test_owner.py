"""Which value of a limit holds: its owner's, whoever asks."""

from __future__ import annotations

from itertools import permutations

import pytest

from headgate.quota.calendar import Calendar
from headgate.quota.facts import Group, Principal
from headgate.quota.gcra import Rate
from headgate.quota.match import Limit, tariff
from headgate.quota.meter import BUILT_IN_METERS
from headgate.quota.owner import Override, Value, largest, owner_of, valued
from headgate.quota.window import Total

MINUTE = 60_000_000
LATER = 1_900_000_000_000_000
NOW = 1_800_057_600_000_000
VALUES: dict[str, Value] = {"free": Total(1), "pro": Total(5), "scale": None}

ACME = Group("acme", frozenset({"acme"}), frozenset({"free", "pro"}), anchor=7)
PAIR = Group("acme", frozenset({"acme", "labs"}), frozenset({"free", "pro"}), anchor=9)
FREE_KEY = Principal("k1", "acme", "free", anchor=7)


def exception(subject: str, name: str, value: Value, until: int = LATER) -> Override:
    return Override(subject, name, frozenset({"life"}), {"": value}, until, "contract")


def held(per: list[str], *overrides: Override, group: Group | None = None) -> Value:
    return valued("life", VALUES, overrides, owner_of(per, FREE_KEY, ACME, group), NOW).value


def test_a_keys_limit_goes_by_the_keys_plan_and_an_orgs_by_all_its_keys() -> None:
    assert held(["key"]) == held(["ip", "key"]) == Total(1)
    assert held(["org"]) == held(["org", "header.x-region"]) == Total(5)
    assert held(["group"]) == held(["group"], group=PAIR) == Total(5)


def test_the_billing_anchor_is_the_owners() -> None:
    anchors = [owner_of(per, FREE_KEY, ACME, PAIR).anchor for per in (["key"], ["org"], ["group"], ["ip"])]
    assert anchors == [7, 7, 9, None]


def test_an_exception_for_a_key_changes_nothing_that_its_org_counts() -> None:
    mine = exception("key", "k1", Total(50))
    assert held(["key"], mine) == Total(50)
    assert held(["org"], mine) == held(["group"], mine, group=PAIR) == Total(5)


def test_an_exception_for_one_org_of_a_group_is_the_groups_if_it_is_larger() -> None:
    more, less = exception("org", "labs", Total(50)), exception("org", "labs", Total(2))
    assert held(["group"], more, group=PAIR) == Total(50)
    assert held(["group"], less, group=PAIR) == Total(5), "the other org has what its plans say"
    both = (exception("org", "acme", Total(3)), less)
    assert held(["group"], *both, group=PAIR) == Total(3), "exceptions may lower, where all have one"
    assert held(["org"], more) == Total(5)


def test_an_exception_ends_at_its_instant_and_says_when() -> None:
    owner = owner_of(["org"], FREE_KEY, ACME, None)
    ending = exception("org", "acme", None, until=NOW + 1)
    assert valued("life", VALUES, [ending], owner, NOW) == (None, NOW + 1, (ending,))
    assert valued("life", VALUES, [ending], owner, NOW + 1).value == Total(5)


def test_of_values_that_are_as_large_always_the_same_one_holds() -> None:
    values: dict[str, Value] = {"a": Calendar(100, "month"), "b": Calendar(100, "day"), "c": Rate(1, MINUTE)}
    assert {largest(values, order) for order in permutations(values)} == {Calendar(100, "month")}


def test_a_plan_without_a_value_is_a_fault_and_not_unlimited() -> None:
    with pytest.raises(KeyError):
        largest({"free": Total(1)}, {"pro"})


def test_two_keys_of_an_org_run_one_window_over_what_the_org_counts() -> None:
    limit = Limit(
        "life", BUILT_IN_METERS["requests"], ("org",), {"free": Calendar(10, "day"), "pro": Rate(9, MINUTE)}
    )
    keys = [Principal("k1", "acme", "free"), Principal("k2", "acme", "pro")]
    lines = [
        tariff(
            [limit], (), key, None, NOW, digest=lambda parts: repr(parts).encode(), scopes={}, lot=0, org=ACME
        ).lines
        for key in keys
    ]
    assert lines[0] == lines[1]
