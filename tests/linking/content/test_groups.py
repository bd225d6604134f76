"""How groups form, and that they do not chain."""

from headgate.linking.content.groups import MOST, Groups
from headgate.linking.content.keys import Keys


def groups_of(many: int) -> Groups:
    keys = Keys()
    for n in range(many):
        keys.number(f"k{n}", f"org{n}")
    return Groups(keys, alone=lambda a, b: (2.0, 1.0))


def tie_all(groups: Groups, keys: range, nats: float = 4.0) -> None:
    for a in keys:
        for b in keys:
            if a < b:
                groups.tied(a, b, nats)


def members(groups: Groups) -> list[set[int]]:
    return sorted((group.keys for group in groups.all.values()), key=min)


def test_keys_that_hold_together_become_a_group() -> None:
    groups = groups_of(8)
    tie_all(groups, range(1, 6))
    groups.settle(range(1, 9), at=1)
    assert members(groups) == [{1, 2, 3, 4, 5}]


def test_a_key_that_is_like_one_of_each_of_two_groups_does_not_bridge_them() -> None:
    groups = groups_of(16)
    tie_all(groups, range(1, 7))
    tie_all(groups, range(7, 13))
    groups.settle(range(1, 13), at=1)
    bridge = 13
    groups.tied(bridge, 1, 9.0)
    groups.tied(bridge, 7, 9.0)
    groups.settle([bridge, 1, 7], at=2)
    assert members(groups) == [{1, 2, 3, 4, 5, 6}, {7, 8, 9, 10, 11, 12}]


def test_one_tie_between_members_of_two_groups_does_not_make_them_one() -> None:
    groups = groups_of(16)
    tie_all(groups, range(1, 7))
    tie_all(groups, range(7, 13))
    groups.settle(range(1, 13), at=1)
    groups.tied(1, 7, 9.0)
    groups.settle([1, 7], at=2)
    assert len(members(groups)) == 2


def test_two_halves_that_are_like_each_other_become_one() -> None:
    groups = groups_of(16)
    tie_all(groups, range(1, 5))
    groups.settle(range(1, 5), at=1)
    tie_all(groups, range(5, 9))
    groups.settle(range(5, 9), at=2)
    tie_all(groups, range(1, 9))
    groups.settle(range(1, 9), at=3)
    assert members(groups) == [set(range(1, 9))]


def test_a_chain_of_a_hundred_pairs_is_no_group_of_a_hundred() -> None:
    groups = groups_of(101)
    for key in range(1, 100):
        groups.tied(key, key + 1, 2.0)
        groups.settle([key, key + 1], at=key)
    assert max((len(found) for found in members(groups)), default=0) <= 3


def test_the_keys_of_one_org_are_one_witness() -> None:
    keys = Keys()
    for n in range(6):
        keys.number(f"k{n}", "acme")
    keys.number("x", "other")
    groups = Groups(keys, alone=lambda a, b: (2.0, 1.0))
    for key in range(1, 7):
        groups.tied(7, key, 2.0)
    groups.settle(range(1, 8), at=1)
    assert members(groups) == []


def test_who_was_in_a_group_stays_in_the_one_that_takes_it_in() -> None:
    groups = groups_of(16)
    tie_all(groups, range(1, 5))
    groups.settle(range(1, 5), at=1)
    assert {groups.of[key].at[key] for key in range(1, 5)} == {1}
    tie_all(groups, range(1, 7))
    groups.settle(range(1, 7), at=5)
    assert groups.of[5].at == {1: 1, 2: 1, 3: 1, 4: 1, 5: 5, 6: 5}


def test_of_a_key_that_is_like_everybody_so_many_ties_are_kept() -> None:
    groups = groups_of(200)
    for other in range(2, 200):
        groups.tied(1, other, 1 + other / 100)
    assert len(groups.ties[1]) == MOST
    assert min(groups.ties[1]) == 200 - MOST, "the weakest went"
