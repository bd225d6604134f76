"""What was probably meant: one rule for fields, settings, plans and keys."""

from __future__ import annotations

import pytest

from headgate.nearest import _distance, nearest, suggestion
from timing import ratio


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("mater", ("meter", "per"), "meter"),
        ("kye", ("key", "org"), "key"),
        ("LIMIT", ("limits", "plans"), "limits"),
        ("colour", ("country", "rollout"), ""),  # a likeness of letters is not enough
        ("path", ("python",), ""),
        ("headgate", ("headgate-keys", "orgs"), "headgate-keys"),
        ("headgate", ("headgate-keys", "headgate-test"), ""),
        ("k_4", ("k_1", "k_2", "k_3"), "k_3"),
        ("ab", (), ""),
        ("", ("", "-a"), ""),
    ],
)
def test_the_nearest_word_is_offered_if_it_is_near(word: str, known: tuple[str, ...], meant: str) -> None:
    assert nearest(word, known) == meant
    assert suggestion(word, known) == (f"; did you mean `{meant}`?" if meant else "")


def test_among_fifty_thousand_keys_it_is_found_in_a_moment() -> None:
    known = [f"k_{number * 2654435761 % 16**12:012x}" for number in range(50_000)]
    wanted = known[31_415]
    word = wanted[:5] + wanted[6] + wanted[5] + wanted[7:] + "0"

    def found() -> None:
        assert nearest(word, known) == wanted

    def compared() -> None:
        """A tenth of them, each to its last letter."""
        for other in known[::10]:
            _distance(word, other, len(word))

    assert ratio(found, compared, tries=1) < 30  # measured: seven, for most are given up half-way
