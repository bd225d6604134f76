"""The sum in nats: what is expected, what is added, and that it can be read."""

from pytest import approx

from headgate.linking.content.keys import Keys
from headgate.linking.content.kinds import COUNTS, QUESTION, one, plus
from headgate.linking.content.support import SUPPORT, support
from headgate.linking.content.weighing import FEATURES, expected, features
from headgate.linking.content.weights import PAIR

QUESTIONS = COUNTS.index("question")


def two_keys(shown: int = 20, others: int = 2_000) -> tuple[Keys, list[int]]:
    keys = Keys()
    keys.number("a", "org a")
    keys.number("b", "org b")
    for key in (1, 2):
        keys.prompts[key] = 12
        for kind in keys.shown:
            kind[key] = shown
    keys.total = [others] * len(keys.total)
    return keys, [100] * len(COUNTS)


def test_busy_keys_are_expected_to_meet_more() -> None:
    keys, met = two_keys()
    before = expected(QUESTIONS, keys, met, 1, 2)
    keys.shown[QUESTION][1] *= 10
    assert expected(QUESTIONS, keys, met, 1, 2) == approx(10 * before)


def test_all_expectations_together_are_what_was_met() -> None:
    keys = Keys()
    for n in range(40):
        key = keys.number(f"k{n}", f"org{n}")
        keys.shown[QUESTION][key] = 5 + n
    keys.total[QUESTION] = sum(keys.shown[QUESTION])
    met = [100] * len(COUNTS)
    total = sum(expected(QUESTIONS, keys, met, a, b) for a in range(1, 41) for b in range(1, a))
    assert 95 < total <= 100


def test_the_parts_of_a_sum_add_up_to_it() -> None:
    keys, met = two_keys()
    numbers = features(plus(one("strong", "question"), one("strong", "template")), keys, met, 1, 2, 3.0)
    assert len(numbers) == len(FEATURES) == len(PAIR.mean)
    assert sum(PAIR.parts(numbers)) == approx(PAIR.nats(numbers))


def test_a_shared_question_in_another_template_never_speaks_for_innocence() -> None:
    keys, met = two_keys()
    record, nats = one("strong", "template"), []
    for _ in range(8):
        nats.append(PAIR.nats(features(record, keys, met, 1, 2, 0.0)))
        record = plus(record, one("question"))
    assert nats == sorted(nats)
    assert nats[-1] > nats[0]


def test_whole_prompts_that_are_alike_never_speak_for_guilt() -> None:
    """Each by itself; what stands in products with others is bounded, and may turn it for few."""
    places = [place for place, name in enumerate(FEATURES) if name.startswith("whole:")]
    assert all(PAIR.each[place] <= 0 for place in places)


def test_a_card_that_two_share_never_speaks_for_innocence() -> None:
    keys, met = two_keys()
    record = one("strong", "template")
    without, with_card = (PAIR.nats(features(record, keys, met, 1, 2, traits)) for traits in (0.0, 5.0))
    assert with_card >= without


def test_third_keys_of_one_org_are_one_witness() -> None:
    org = [0, 1, 2, 3, 3, 3, 4]
    of_a = {3: 4.0, 4: 4.0, 5: 4.0}
    numbers = dict(zip(SUPPORT, support(1.0, of_a, dict(of_a), org, 1, 2), strict=True))
    assert numbers["third_1"] == 4.0
    assert numbers["third_2"] < 0 < numbers["thirds"]
    apart = dict(zip(SUPPORT, support(1.0, {3: 4.0, 6: 4.0}, {3: 4.0, 6: 4.0}, org, 1, 2), strict=True))
    assert apart["third_2"] == 4.0
    assert apart["thirds"] > numbers["thirds"]
