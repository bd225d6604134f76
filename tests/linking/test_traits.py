"""What shared traits say: by their rarity, family by family, and no more than a family may."""

from __future__ import annotations

from headgate.linking.traits import CAPS, MOST_OF, Traits, summed


def _population(traits: Traits, many: int) -> None:
    for key in range(1, many + 1):
        traits.saw(key, key, [("email_domain", 1 if key % 3 else 2), ("address", 1000 + key), ("client", key % 5)])


def test_a_rare_card_says_more_than_a_common_one() -> None:
    rare, common = Traits(), Traits()
    for traits, sharers in ((rare, 2), (common, 10)):
        _population(traits, 400)
        for key in range(1, sharers + 1):
            traits.saw(key, key, [("payment", 77)])
    assert rare.weight(1, 2) > common.weight(1, 2) > 0


def test_what_a_crowd_shares_says_nothing() -> None:
    traits = Traits()
    _population(traits, 400)
    assert traits.weight(1, 2) == 0.0


def test_one_familys_traits_count_once_and_a_quarter() -> None:
    traits = Traits()
    _population(traits, 400)
    for key in (1, 2):
        traits.saw(key, key, [("payment", 77), ("device", 78), ("network", 79)])
    shared = traits.shared(1, 2)
    identity = [one.weight for one in shared if one.family == "identity"]
    assert len(identity) == 2
    assert summed([one for one in shared if one.family == "identity"]) == min(
        CAPS["identity"], identity[0] + identity[1] / 4
    )
    assert summed(shared) <= CAPS["identity"] + CAPS["network"] + CAPS["client"]


def test_a_card_alone_is_not_enough_for_a_link() -> None:
    traits = Traits()
    _population(traits, 5000)
    for key in (1, 2):
        traits.saw(key, key, [("payment", 77), ("device", 78)])
    # The prior of two keys out of five thousand alone takes more.
    assert traits.weight(1, 2) <= 7.0


def test_keys_of_one_org_do_not_make_a_trait_common() -> None:
    traits = Traits()
    for key in range(1, 31):
        traits.saw(key, 1, [("device", 5)])
    traits.saw(31, 2, [("device", 5)])
    assert traits.shared(1, 31)[0].orgs == 2


def test_an_address_a_request_does_not_push_out_the_card() -> None:
    traits = Traits()
    for number in range(500):
        traits.saw(1, 1, [("address", 10_000 + number), ("network", 20_000 + number)])
    traits.saw(1, 1, [("payment", 77)])
    traits.saw(2, 2, [("payment", 77)])
    assert traits.known(1) <= MOST_OF
    assert [one.name for one in traits.shared(1, 2)] == ["payment"]


def test_a_plan_tells_nothing() -> None:
    traits = Traits()
    for key in (1, 2):
        traits.saw(key, key, [("plan", 3), ("signup_ts", 4)])
    assert traits.shared(1, 2) == []


def test_a_trait_with_a_name_of_the_operators_own_counts_modestly() -> None:
    traits = Traits()
    for key in (1, 2):
        traits.saw(key, key, [("phone", 3)])
    assert 1 < traits.weight(1, 2) <= CAPS["account"]
    assert traits.shared(1, 99) == []


def test_many_traits_stay_apart_when_the_table_grows() -> None:
    traits = Traits()
    for key in range(1, 3000):
        traits.saw(key, key, [("device", key * 2**40 + 5), ("payment", key // 2 + 2**50)])
    assert [one.name for one in traits.shared(1000, 1001)] == ["payment"]
    assert traits.shared(1000, 1002) == []
