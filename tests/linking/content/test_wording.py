"""Which clauses are anybody's, and which are an operator's own."""

from headgate.linking.content.wording import COUNTED, MANY, ROOM, Wordings


def test_a_clause_that_many_orgs_use_is_nobodys_mark() -> None:
    wordings = Wordings()
    wordings.used(7, set(range(MANY)), all_orgs=100)
    assert wordings.of((7, 8)).own == ((8, False),)


def test_a_group_of_twenty_does_not_hide_behind_its_own_wording() -> None:
    wordings = Wordings()
    wordings.used(7, set(range(20)), all_orgs=100)
    assert wordings.of((7, 8)).own == ((7, False), (8, True))


def test_among_ten_thousand_orgs_it_takes_two_hundred_to_make_a_clause_common() -> None:
    wordings = Wordings()
    for org in range(199):
        wordings.used(7, set(range(MANY)) | {org}, all_orgs=10_000)
    assert wordings.of((7,)).own, "199 orgs are less than 2 % of them"
    wordings.used(7, {199}, all_orgs=10_000)
    assert not wordings.of((7,)).own


def test_a_template_is_its_common_clauses_in_their_order() -> None:
    wordings = Wordings()
    for clause in (1, 2, 3):
        wordings.boilerplate(clause)
    one, same, turned = (wordings.of(clauses).template for clauses in ((1, 2, 9), (1, 2, 8), (2, 1, 9)))
    assert one == same != turned
    assert wordings.of((1, 9)).template == 0, "one common clause makes no template"


def test_what_is_remembered_of_clauses_is_bounded_and_what_is_in_use_stays() -> None:
    wordings = Wordings()
    for clause in range(2 * ROOM + 10):
        wordings.boilerplate(clause)
        if clause % 1_000 == 0:
            wordings.of((5,))
    assert not wordings.of((5,)).own, "it was in use all the time"
    assert wordings.of((6,)).own, "it was not"
    for clause in range(COUNTED + 10):
        wordings.used(clause + 10**9, set(range(MANY)), all_orgs=10**5)
    assert len(wordings._counted) <= COUNTED
