"""The law of groups: who goes before whom, and what never happens whatever is found and said."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from headgate.linking.finding import Evidence
from headgate.quota.balance import FOREVER
from headgate.quota.facts import Group
from headgate.register.entries import Linked, Register, Said
from headgate.register.in_force import Rules, in_force, pooled_at

NOW = 1_000
TWO_KINDS = (Evidence("templates", ("k1", "k2"), 5.0, "…"), Evidence("questions", ("k1", "k2"), 4.0, "…"))


def found(id: str, *orgs: str, confidence: float = 0.97, since: int = 1, **other: object) -> Linked:
    members = {f"k-{org}": since for org in orgs}
    made = Linked(id, "linked", members, tuple(sorted(orgs)), confidence, confidence, TWO_KINDS, since, since)
    return made._replace(**other)  # type: ignore[arg-type]


def link(*orgs: str, at: int = 1, until: int = FOREVER) -> Said:
    return Said(f"l_{at}", "link", tuple(sorted(orgs)), "why", "ann", at, until)


def separate(*orgs: str, at: int = 1, until: int = FOREVER, others: tuple[str, ...] = ()) -> Said:
    return Said(f"s_{at}", "separate", tuple(sorted(orgs)), "why", "ann", at, until, others)


def affiliated(name: str, *orgs: str, until: int = FOREVER) -> tuple[Group, int]:
    return Group(name, frozenset(orgs)), until


def groups(register: Register, rules: Rules | None = None, now: int = NOW) -> dict[str, str]:
    return {group.id: "".join(sorted(group.orgs)) for group in in_force(register, rules or Rules(), now).groups}


def speaks_of(said: Said, *pair: str) -> bool:
    return set(pair) in [{*each} for each in said.pairs()]


# Who counts.


def test_nobody_is_grouped_where_nothing_was_said_and_nothing_found() -> None:
    assert in_force(Register(), Rules(), NOW) == ((), FOREVER)


def test_what_was_found_what_was_said_and_what_the_policy_declares_each_make_a_group() -> None:
    register = Register(groups=(found("g_1", "a", "b"),), said=(link("c", "d"),))
    assert groups(register, Rules((affiliated("e", "e", "f"),))) == {"e": "ef", "l_1": "cd", "g_1": "ab"}


def test_one_who_is_only_suspected_shares_nothing() -> None:
    assert groups(Register(groups=(found("g_1", "a", "b", state="suspect"),))) == {}


def test_a_group_of_one_org_is_no_group() -> None:
    assert groups(Register(groups=(found("g_1", "a"),))) == {}


def test_one_kind_of_evidence_is_not_enough_where_the_policy_asks_for_two() -> None:
    one = found("g_1", "a", "b", evidence=TWO_KINDS[:1])
    assert groups(Register(groups=(one,))) == {}
    assert groups(Register(groups=(one,)), Rules(channels=1)) == {"g_1": "ab"}


def test_a_policy_that_asks_for_more_than_a_group_ever_had_pools_it_no_more() -> None:
    fallen = found("g_1", "a", "b", confidence=0.7, peak=0.97)
    assert groups(Register(groups=(fallen,)), Rules(linked=960_000)) == {"g_1": "ab"}
    assert groups(Register(groups=(fallen,)), Rules(linked=980_000)) == {}


def test_what_has_ended_has_no_effect() -> None:
    ended = link("a", "b")._replace(ended=5)
    assert groups(Register(said=(ended, link("c", "d", at=2, until=NOW)))) == {}


def test_a_found_group_is_pooled_when_the_ladder_says_and_never_where_it_does_not() -> None:
    register = Register(groups=(found("g_1", "a", "b", since=500),))
    assert groups(register, Rules(pooled=500)) == {"g_1": "ab"}
    assert in_force(register, Rules(pooled=501), NOW) == ((), 1_001)
    assert groups(register, Rules(pooled=501), now=1_001) == {"g_1": "ab"}
    assert in_force(register, Rules(pooled=None), NOW) == ((), FOREVER)


def test_the_next_change_is_the_first_end_or_beginning_that_comes() -> None:
    register = Register(
        said=(link("a", "b", until=2_000), separate("c", "d", at=2, until=1_500), link("e", "f", at=3))
    )
    rules = Rules((affiliated("x", "x", "y", until=1_700),), ((("q", "r"), 1_600),))
    instants, now = [], NOW
    while now < FOREVER:
        now = in_force(register, rules, now).until
        instants.append(now)
    assert instants == [1_500, 1_600, 1_700, 2_000, FOREVER]


# No chains.


def test_two_findings_that_share_an_org_are_not_one_and_the_stronger_keeps_it() -> None:
    strong, weak = found("g_2", "a", "b", "c", confidence=0.99), found("g_1", "c", "d", "e", confidence=0.96)
    for both in ((strong, weak), (weak, strong)):
        assert groups(Register(groups=both)) == {"g_2": "abc", "g_1": "de"}


def test_of_two_findings_as_strong_as_each_other_the_older_keeps_the_org() -> None:
    older, newer = found("g_2", "a", "b", "c", since=5), found("g_1", "c", "d", "e", since=6)
    assert groups(Register(groups=(newer, older))) == {"g_2": "abc", "g_1": "de"}


def test_what_a_person_says_of_ab_and_of_bc_is_so_of_ac() -> None:
    assert groups(Register(said=(link("a", "b"), link("b", "c", at=2)))) == {"l_1": "abc"}


def test_a_person_who_adds_an_org_to_a_found_group_does_not_take_it_apart() -> None:
    register = Register(groups=(found("g_1", "a", "b", "c"),), said=(link("c", "d"),))
    assert groups(register) == {"l_1": "abcd"}


def test_a_finding_makes_no_one_group_of_two_that_were_declared() -> None:
    """Whoever makes another firm's org look like one of its own merges no two firms."""
    register = Register(groups=(found("g_1", "b", "c", "x"),), said=(link("a", "b"), link("c", "d", at=2)))
    assert groups(register) == {"l_1": "abx", "l_2": "cd"}


def test_a_declared_group_is_no_bridge_between_two_findings() -> None:
    strong, weak = found("g_1", "a", "x", "y", confidence=0.99), found("g_2", "b", "p", "q", confidence=0.96)
    assert groups(Register(groups=(strong, weak), said=(link("a", "b"),))) == {"l_1": "abxy", "g_2": "pq"}


def test_a_policys_group_keeps_its_name_whoever_joins_it() -> None:
    register = Register(groups=(found("g_1", "a", "x"),), said=(link("b", "y"),))
    assert groups(register, Rules((affiliated("a", "a", "b"),))) == {"a": "abxy"}


# Kept apart.


def test_who_is_kept_apart_is_not_linked_even_if_it_is_found_again() -> None:
    register = Register(groups=(found("g_1", "a", "b", since=900),), said=(separate("a", "b", until=2_000),))
    assert in_force(register, Rules(), NOW) == ((), 2_000)
    assert groups(register, now=2_000) == {"g_1": "ab"}, "until it ends"


def test_an_org_that_leaves_a_group_leaves_the_others_in_it() -> None:
    register = Register(groups=(found("g_1", "a", "b", "c"),), said=(separate("b", others=("a", "c")),))
    assert groups(register) == {"g_1": "ac"}


def test_who_left_is_apart_from_whom_it_left_and_they_from_it() -> None:
    said = (separate("b", others=("a",)), separate("b", "c", at=2))
    assert groups(Register(groups=(found("g_1", "a", "b", "c"),), said=said)) == {"g_1": "ac"}


def test_of_a_large_group_with_two_kept_apart_as_few_as_can_be_leave_it() -> None:
    register = Register(groups=(found("g_1", *"abcde"),), said=(separate("a", "b"), separate("a", "c", at=2)))
    assert groups(register) == {"g_1": "bcde"}


def test_two_halves_that_are_kept_apart_are_two_groups() -> None:
    register = Register(
        groups=(found("g_1", *"abcd"),), said=(separate("a", "b", others=("c", "d")), link("a", "b", at=2))
    )
    assert groups(register) == {"g_1": "cd", "l_2": "ab"} or groups(register) == {"l_2": "ab", "l_2-2": "cd"}


def test_the_later_of_two_words_of_one_pair_counts() -> None:
    assert groups(Register(said=(link("a", "b", at=1), separate("a", "b", at=2)))) == {}
    assert groups(Register(said=(separate("a", "b", at=1), link("a", "b", at=2)))) == {"l_2": "ab"}


def test_a_link_that_was_overruled_carries_nobody_along() -> None:
    said = (link("a", "b", at=1), link("b", "c", at=2), separate("a", "b", at=3))
    assert groups(Register(said=said)) == {"l_2": "bc"}


def test_what_the_policy_says_ends_when_it_says() -> None:
    register = Register(said=(link("c", "d"),))
    rules = Rules((affiliated("a", "a", "b", until=NOW),), ((("c", "d"), NOW),))
    assert groups(register, rules, now=NOW - 1) == {"a": "ab"}
    assert groups(register, rules, now=NOW) == {"l_1": "cd"}


def test_the_policy_goes_before_people() -> None:
    said = (separate("a", "b"), link("c", "d", at=2))
    rules = Rules((affiliated("a", "a", "b"),), ((("c", "d"), FOREVER),))
    assert groups(Register(said=said), rules) == {"a": "ab"}


# Whatever is found and said.

ORGS = st.sampled_from("abcdefgh")
SOME = st.lists(ORGS, min_size=2, max_size=5, unique=True)
ENDS = st.sampled_from([500, NOW, 1_500, FOREVER])


@st.composite
def registers(draw: st.DrawFn) -> tuple[Register, Rules]:
    said = []
    for at in range(draw(st.integers(0, 4))):
        maker = draw(st.sampled_from([link, separate]))
        named = draw(SOME)
        others = tuple(draw(st.lists(ORGS, max_size=3, unique=True))) if maker is separate else ()
        rest = tuple([org for org in others if org not in named])
        said.append(maker(*named, at=at, until=draw(ENDS))._replace(others=rest))
    detected = [
        found(
            f"g_{n}", *draw(SOME), confidence=draw(st.sampled_from([0.95, 0.97, 0.99])), since=draw(st.integers(1, 3))
        )
        for n in range(draw(st.integers(0, 4)))
    ]
    declared = [affiliated("a", "a", "b", until=draw(ENDS))] if draw(st.booleans()) else []
    apart = [(tuple(draw(st.sampled_from([("c", "d"), ("a", "c"), ("e", "f", "g")]))), draw(ENDS))]
    rules = Rules(tuple(declared), tuple(apart) if draw(st.booleans()) else (), pooled=draw(st.sampled_from([0, 10])))
    return Register(groups=tuple(detected), said=tuple(said)), rules


@given(registers())
def test_an_org_is_in_one_group_at_most_and_a_group_has_two_orgs_at_least(case: tuple[Register, Rules]) -> None:
    force = in_force(*case, NOW)
    members = [org for group in force.groups for org in group.orgs]
    assert len(members) == len(set(members))
    assert all(len(group.orgs) > 1 for group in force.groups)
    assert len({group.id for group in force.groups}) == len(force.groups)
    assert force.until > NOW


@given(registers())
def test_nobody_is_with_whom_it_is_kept_apart_from(case: tuple[Register, Rules]) -> None:
    register, rules = case
    declared = {frozenset(p) for group, end in rules.affiliated if end > NOW for p in combinations(group.orgs, 2)}
    for group in in_force(register, rules, NOW).groups:
        for pair in combinations(sorted(group.orgs), 2):
            if frozenset(pair) in declared:
                continue
            assert not any(end > NOW and set(pair) <= set(orgs) for orgs, end in rules.separate)
            words = [each for each in register.said if each.active(NOW) and speaks_of(each, *pair)]
            latest = max(words, key=lambda each: each.at, default=None)
            assert latest is None or latest.kind == "link"


@given(registers())
def test_whom_people_link_is_together_unless_somebody_keeps_them_apart(case: tuple[Register, Rules]) -> None:
    register, rules = case
    quiet = register._replace(said=tuple([each for each in register.said if each.kind == "link"]))
    together = in_force(quiet, rules._replace(separate=()), NOW).groups
    for each in quiet.said:
        if each.active(NOW):
            assert any(set(each.orgs) <= group.orgs for group in together)


@given(registers())
def test_findings_are_never_chained(case: tuple[Register, Rules]) -> None:
    """In a group there are the orgs of one declared group at most, and besides them those of one finding at most."""
    register, rules = case
    counting = [set(group.orgs) for group in register.groups if pooled_at(group, rules) <= NOW]
    links = tuple([each for each in register.said if each.kind == "link"])
    declared = in_force(Register(said=links), rules._replace(separate=()), NOW).groups
    for group in in_force(register, rules, NOW).groups:
        rests = [group.orgs - part.orgs for part in declared] + [group.orgs]
        assert any(rest <= orgs for rest in rests for orgs in [*counting, set()])


@given(registers(), st.randoms(use_true_random=False))
def test_the_order_in_which_entries_stand_changes_nothing(case: tuple[Register, Rules], draw: object) -> None:
    register, rules = case
    said, detected = list(register.said), list(register.groups)
    draw.shuffle(said)  # type: ignore[attr-defined]
    draw.shuffle(detected)  # type: ignore[attr-defined]
    assert in_force(Register(groups=tuple(detected), said=tuple(said)), rules, NOW) == in_force(register, rules, NOW)


@given(registers())
def test_until_the_next_change_nothing_changes(case: tuple[Register, Rules]) -> None:
    force = in_force(*case, NOW)
    later = in_force(*case, min(force.until, 3_000) - 1)
    assert (later.groups, later.until) == (force.groups, force.until)
