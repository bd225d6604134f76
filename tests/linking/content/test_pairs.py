"""What two keys have met in: opened late, bounded, and never run over."""

from headgate.linking.content.kinds import COUNTS, FIELD, counts, one, plus
from headgate.linking.content.pairs import A_KEY, LEAST, Pairs

TEMPLATE = one("strong", "template")


def pair(a: int, b: int) -> int:
    return a << 22 | b


def test_a_pair_that_meets_once_leaves_four_bytes_and_no_record() -> None:
    pairs = Pairs()
    assert pairs.met(pair(1, 2), TEMPLATE) == (0, 0)
    assert pairs.record(pair(1, 2)) == 0


def test_the_second_meeting_opens_a_record_that_knows_the_first() -> None:
    pairs = Pairs()
    pairs.met(pair(1, 2), one("strong", "question_same"))
    assert pairs.met(pair(1, 2), TEMPLATE) == (0, 2)
    assert pairs.record(pair(1, 2)) == plus(TEMPLATE, one("strong", "question_same"))


def test_two_things_in_one_prompt_open_a_record_at_once() -> None:
    pairs = Pairs()
    assert pairs.met(pair(1, 2), one("strong", "prompt", "prompt_twice")) == (0, 1)


def test_a_clause_that_two_keys_share_opens_nothing_but_counts_once_there_is_a_record() -> None:
    pairs = Pairs()
    assert pairs.met(pair(1, 2), one("clause")) == (0, 0)
    pairs.met(pair(1, 2), plus(TEMPLATE, TEMPLATE))
    pairs.met(pair(1, 2), one("clause"))
    assert counts(pairs.record(pair(1, 2)))[COUNTS.index("clause")] == 1


def test_no_count_runs_over_into_its_neighbour() -> None:
    pairs = Pairs()
    for _ in range(300):
        pairs.met(pair(1, 2), plus(TEMPLATE, TEMPLATE))
    found = counts(pairs.record(pair(1, 2)))
    assert found[COUNTS.index("template")] == FIELD == found[0]
    assert sum(found) == 2 * FIELD


def test_records_are_bounded_and_those_that_grow_stay() -> None:
    pairs = Pairs()
    pairs.enter()
    for other in range(2, 4 * LEAST):
        pairs.met(pair(1, other), plus(TEMPLATE, TEMPLATE))
        pairs.met(pair(3, 4), TEMPLATE)
    assert pairs._used <= max(LEAST, A_KEY)
    assert pairs.record(pair(3, 4)), "it grew all the time"
    assert not pairs.record(pair(1, 5)), "it stood still"
