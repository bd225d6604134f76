"""Who has shown what, in a table of bounded size."""

from random import Random

from headgate.linking.content.postings import A_KEY, AT_MOST, KEYS, LEAST, Postings


def tokens(seed: int, many: int) -> list[int]:
    random = Random(seed)
    return [random.getrandbits(63) for _ in range(many)]


def with_keys(many: int) -> Postings:
    postings = Postings()
    for _ in range(many):
        postings.enter()
    return postings


def test_a_table_tells_the_holders_that_a_plain_dictionary_would() -> None:
    postings, plain = with_keys(40), {}
    random, pool = Random(1), tokens(2, 300)
    for _ in range(1_500):
        token, key = random.choice(pool), random.randint(1, 40)
        tag = token % 31
        holders = plain.setdefault(token, {})
        shown = postings.show(token, key, tag, holders=100)
        if key in holders:
            assert shown is None
        else:
            assert sorted(shown or []) == sorted(holder << 5 | tag for holder in holders)
            holders[key] = tag


def test_what_thirty_have_shown_says_nothing_more() -> None:
    postings = with_keys(60)
    token = tokens(1, 1)[0]
    shown = [postings.show(token, key, 0, holders=30) for key in range(1, 40)]
    assert [len(found or ()) for found in shown[:30]] == list(range(30))
    assert shown[30:] == [None] * 9


def test_a_key_that_floods_the_table_makes_nobody_elses_tokens_forgotten() -> None:
    postings = with_keys(200)
    quiet = tokens(1, 20)
    for token in quiet:
        postings.show(token, 1, 0)
    for token in tokens(2, 60_000):
        postings.show(token, 2, 0)
    assert all(postings.show(token, 3, 0) == [1 << 5] for token in quiet)


def test_the_table_grows_with_the_keys_and_not_with_what_they_show() -> None:
    postings = with_keys(400)
    for key in range(1, 401):
        for token in tokens(key, 1_000):
            postings.show(token, key, 0)
    assert postings._used <= max(LEAST, A_KEY * 400)
    assert len(postings._table) * 8 < 400 * 1_100


def test_a_busy_key_keeps_its_newest_tokens() -> None:
    postings = with_keys(300)
    for round_ in range(30):
        for key in range(1, 300):
            for token in tokens(1_000 * key + round_, 20):
                postings.show(token, key, 0)
    old = sum(bool(postings.show(token, 300, 0)) for key in range(1, 300) for token in tokens(1_000 * key, 20)[:3])
    new = sum(bool(postings.show(token, 300, 0)) for key in range(1, 60) for token in tokens(1_000 * key + 29, 1))
    assert old < 0.2 * 897
    assert new > 40


def test_a_token_that_is_shown_again_and_again_stays() -> None:
    postings = with_keys(100)
    kept = tokens(7, 1)[0]
    postings.show(kept, 1, 3)
    for round_ in range(200):
        for key in range(2, 99):
            for token in tokens(1_000 * key + round_, 4):
                postings.show(token, key, 0)
        assert postings.show(kept, 1, 3) is None
    assert postings.show(kept, 100, 0) == [1 << 5 | 3]


def test_the_room_for_a_key_is_enough_for_one_generation_of_it() -> None:
    # INVARIANT: what one key may add between two sweeps has room beside what all keep
    assert AT_MOST <= A_KEY
    assert KEYS == 2**22 - 1
