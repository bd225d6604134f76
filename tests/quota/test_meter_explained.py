"""What `explain` says of meters that are made of others, and of those that count different things."""

from __future__ import annotations

from typing import Any

from headgate.quota.explain import described, explained
from headgate.quota.facts import Call, Principal
from headgate.quota.match import Limit, tariff
from headgate.quota.meter import BUILT_IN_METERS, MILLION, Meter, Sum
from headgate.quota.window import Total

ACME = Principal("k1", "acme")


def told(meter: Meter, **values: str) -> dict[str, str]:
    """The lines of one limit on a meter, by their labels; the verdict under ""."""
    limit = Limit("l", meter, ("org",), {"": Total(1_000)})
    lines = tariff((limit,), (), ACME, None, 0, digest=lambda parts: repr(parts).encode(), scopes={}, lot=0)
    call = Call(ACME, lookup=lambda source, name: values.get(name, ""))
    [one] = explained((limit,), (), call, lines, 0)
    verdict, *rest = described(one, "UTC", {})
    return {"": verdict.removeprefix("l: ")} | {line[:18].strip(): line[18:] for line in rest}


def test_a_sum_is_told_as_the_price_list_that_it_is() -> None:
    output = Meter("output_tokens", "preset.openai-usage", reserve=40, reserve_from=("body.max_tokens",))
    prices = Sum(
        {"cached_tokens": MILLION // 10, "output_tokens": 5 * MILLION}, "body.model", (("big", 2 * MILLION),)
    )
    cached = Meter("cached_tokens", "preset.openai-usage")
    said = told(Meter("credits", "sum", sum=prices, parts=(cached, output)), model="big", max_tokens="7")
    assert said["counts"] == "credits (0.1 cached_tokens + 5 output_tokens, times a factor by body.model) per org"
    assert (
        said["asks"] == "70 held ahead, from body.max_tokens; what its meters come to is charged instead, afterwards"
    )


def test_all_places_where_a_request_may_announce_an_amount_are_told() -> None:
    most = ("body.max_tokens", "body.max_completion_tokens", "body.max_output_tokens")
    output = Meter("output_tokens", "preset.openai-usage", 40, most, ("body.n", "body.best_of"))
    assert told(output, max_tokens="7", n="2")["asks"] == (
        "14 held ahead, from the largest of body.max_tokens, body.max_completion_tokens and body.max_output_tokens "
        "times the largest of body.n and body.best_of; what the response reports is charged instead, afterwards"
    )
    images = Meter("images", "app", reserve=1, reserve_times=("body.n",))
    assert told(images, n="4")["asks"].startswith("4 held ahead, times body.n; ")


def test_a_thing_that_is_named_is_told_and_a_request_without_one_asks_nothing() -> None:
    parcels = Meter("parcels", "distinct.path.parcel_id")
    named = told(parcels, parcel_id="81723")
    assert (named[""], named["counts"]) == ("applies", "different parcels per org")
    assert named["asks"] == "path.parcel_id as one thing, held if it is new, and charged if it is handed out"
    nothing = told(parcels)
    assert nothing[""] == "asks nothing: no path.parcel_id in the request" and "asks" not in nothing


def test_each_origin_of_a_count_has_its_words() -> None:
    def afterwards(source: str, **more: Any) -> str:
        return (
            told(Meter("m", source, reserve=3, **more))["asks"]
            .split("; what ")[1]
            .removesuffix(" is charged instead, afterwards")
        )

    assert {source: afterwards(source) for source in ("app", "preset.a+b", "distinct.app", "header.x-cost")} == {
        "app": "the app reports",
        "preset.a+b": "the response reports",
        "distinct.app": "was handed out and is new",
        "header.x-cost": "the response's x-cost says",
    }
    held = [name for name, meter in BUILT_IN_METERS.items() if not meter.known_before]
    assert [afterwards(BUILT_IN_METERS[name].source) for name in held] == ["was received", "was sent", "was received"]
