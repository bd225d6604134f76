"""Between the request path and the thread that digests."""

from __future__ import annotations

from headgate.watch.ring import Glimpse, Ring


def glimpse(key: str, said: str = "") -> Glimpse:
    return Glimpse(7, key, "acme", 200, (said,) if said else (), (), "/", None, None, (), {})


def test_what_was_put_in_comes_out_in_order() -> None:
    ring = Ring()
    assert all(ring.put(glimpse(key)) for key in "abc")
    assert [one.key for one in ring.taken(2)] == ["a", "b"]
    assert [one.key for one in ring.taken(2)] == ["c"]
    assert ring.taken(2) == []


def test_a_full_ring_loses_what_is_new_and_counts_it() -> None:
    ring = Ring(most=2)
    assert [ring.put(glimpse(key)) for key in "abcd"] == [True, True, False, False]
    assert (ring.lost, [one.key for one in ring.taken(9)]) == (2, ["a", "b"])
    assert ring.put(glimpse("e")), "there is room again"


def test_beyond_its_letters_a_request_is_noted_without_its_prompt() -> None:
    ring = Ring(most_letters=10)
    for key in "abc":
        ring.put(glimpse(key, "12345"))
    assert ring.cut == 1
    assert [one.said for one in ring.taken(9)] == [("12345",), ("12345",), ()]
    ring.put(glimpse("d", "1234567890"))
    assert ring.taken(1)[0].said == ("1234567890",), "what was taken makes room"
