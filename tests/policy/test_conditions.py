"""`when` and `unless`: what meets them, what an attacker cannot make of them, what they cost."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.policy import load
from headgate.quota.facts import Call, Principal
from headgate.quota.globs import glob_test
from headgate.quota.match import Limit
from timing import ratio

ACME = Principal("k_1", "acme", "build", claims={"project": "p7"}, tags=frozenset({"reasoning"}))

Make = Callable[[str], Limit]


@pytest.fixture
def limit(tmp_path: Path) -> Make:
    """The limit `x` of a small policy, with the given conditions."""

    def made(conditions: str) -> Limit:
        file = tmp_path / "policy.yaml"
        file.write_text(
            "headgate: v1\npolicy: p\nmode: enforce\non_store_error: closed\nplans: [free, build, scale]\n"
            "identify: {directory: keys.yaml, traits: {country: header.x-country, ja4: header.x-ja4}}\n"
            "scopes: {project: claim.project, model: body.model}\n"
            f"limits:\n  x: {{meter: requests, per: key, rate: 1/s, {conditions}}}\n"
        )
        return load(file).limits[0]

    return made


def applies(limit: Limit, call: Call) -> bool:
    assert limit.applies is not None
    return limit.applies(call)


def at(*paths: str, route: str = "", method: str = "GET") -> Call:
    return Call(ACME, method, paths, route)


def saying(**values: str) -> Call:
    return Call(ACME, lookup=lambda source, name: values.get(f"{source}_{name.replace('-', '_')}", ""))


def test_a_star_stands_for_slashes_too_and_nothing_else_has_a_meaning(limit: Make) -> None:
    chat = limit("when: {route: /v1/chat/*}")
    assert applies(chat, at("/v1/chat/completions")) and applies(chat, at("/v1/chat/a/b"))
    assert not applies(chat, at("/v1/chat")) and not applies(chat, at("/V1/chat/x"))
    dots = limit("when: {route: [/a.b, '/x/*/y', '/**/z']}")
    assert [applies(dots, at(path)) for path in ("/a.b", "/aXb", "/x/1/2/y", "/x/y", "/q/w/z")] == [
        True, False, True, False, True,
    ]  # fmt: skip


def test_a_limit_applies_if_any_form_of_the_path_or_the_template_matches(limit: Make) -> None:
    items = limit("when: {route: '/v1/items/{id}'}")
    assert applies(items, at("/v1/items/5", route="/v1/items/{id}"))
    assert not applies(items, at("/v1/items/5"))
    export = limit("when: {route: /export/*}")
    assert applies(export, at("/x/export", "/export/all"))


def test_an_exemption_holds_only_if_every_form_of_the_path_matches(limit: Make) -> None:
    spared = limit("unless: {route: /public/*}")
    assert not applies(spared, at("/public/a"))
    assert applies(spared, at("/admin", "/public/../admin"))
    assert applies(spared, at("/public/a", route="/{anything}"))
    assert not applies(spared, at("/public/a", route="/public/{name}"))
    template = limit("unless: {route: '/items/{id}'}")
    assert not applies(template, at("/items/5", route="/items/{id}")) and applies(template, at("/items/5"))


def test_fields_are_anded_and_lists_are_ored(limit: Make) -> None:
    both = limit("when: {route: [/a, /b], method: [POST, put], plan: build}")
    assert applies(both, at("/b", method="PUT")) and applies(both, at("/a", method="POST"))
    assert not applies(both, at("/a", method="GET")) and not applies(both, at("/c", method="POST"))
    assert not applies(both, Call(Principal("k", "o", "free"), "POST", ("/a",)))


def test_an_exemption_needs_all_its_fields(limit: Make) -> None:
    spared = limit("when: {method: GET}, unless: {plan: [build, scale], route: /cheap}")
    assert not applies(spared, at("/cheap"))
    assert applies(spared, at("/dear")) and applies(spared, Call(Principal("k", "o", "free"), paths=("/cheap",)))
    assert not applies(spared, at("/dear", method="POST"))


def test_callers_are_told_by_key_org_and_tag(limit: Make) -> None:
    assert applies(limit("when: {key: k_*}"), at("/")) and not applies(
        limit("when: {key: '*'}"), Call(Principal("", ""))
    )
    assert applies(limit("when: {org: [bolt, acme]}"), at("/")) and not applies(limit("when: {org: ac}"), at("/"))
    tagged = limit("when: {tag: reason*}")
    assert applies(tagged, at("/")) and applies(tagged, Call(Principal("k", "o"), tags=frozenset({"reasons"})))
    assert not applies(tagged, Call(Principal("k", "o")))


def test_scopes_traits_and_sources_are_compared_and_nothing_matches_nothing(limit: Make) -> None:
    big = limit("when: {model: 'big-*'}")
    assert applies(big, saying(body_model="big-1")) and not applies(big, saying(body_model="small"))
    assert not applies(limit("when: {model: '*'}"), saying())
    assert applies(limit("unless: {header.x-internal: '*'}"), saying())
    assert not applies(limit("unless: {header.x-internal: '*'}"), saying(header_x_internal="1"))
    assert applies(limit("when: {project: p7}"), saying()) and applies(
        limit("when: {ja4: t13*}"), saying(trait_ja4="t13d")
    )


def test_a_country_is_a_trait_or_a_claim_and_norway_needs_no_quotes(limit: Make) -> None:
    nordic = limit("when: {country: [NO, se]}")
    assert applies(nordic, saying(trait_country="no")) and not applies(nordic, saying(trait_country="DE"))
    assert applies(nordic, Call(Principal("k", "o", claims={"country": "SE"}))) and not applies(nordic, saying())


def test_addresses_are_compared_as_they_are_charged(limit: Make) -> None:
    inside = limit("when: {ip: [198.51.100.0/24, '2001:db8::/48']}")
    told = {
        "198.51.100.7": True,
        "198.51.101.7": False,
        "2001:db8:0:5::/64": True,
        "2001:db9::/64": False,
        "unknown": False,
    }
    assert {address: applies(inside, Call(ACME, network=address)) for address in told} == told


def test_a_callable_decides_and_one_that_fails_exempts_nobody(
    limit: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "hatch_rules.py").write_text(
        "def posts(call): return call.method == 'POST'\ndef broken(call): raise RuntimeError('no')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    posts = limit("when: {python: 'hatch_rules:posts'}")
    assert applies(posts, at("/", method="POST")) and not applies(posts, at("/"))
    assert applies(limit("when: {python: 'hatch_rules:broken'}"), at("/"))
    assert applies(limit("unless: {python: 'hatch_rules:broken'}"), at("/"))


def test_each_test_is_kept_with_its_text(limit: Make) -> None:
    made = limit("when: {route: [/a, '/b/*'], method: POST}, unless: {plan: scale}")
    assert [text for text, _ in made.conditions] == [
        "when route: [/a, /b/*]",
        "when method: POST",
        "unless plan: scale",
    ]
    assert [test(at("/b/1")) for _, test in made.conditions] == [True, False, False]


def test_a_glob_takes_linear_time_whatever_is_sent() -> None:
    test = glob_test(["/*a*a*a*a*a*a*a*a*a*a*a*b", "/*/*/*/*/*/x"])

    def asked(length: int) -> None:
        assert not test("/" + "a" * length) and not test("/" * length)

    assert ratio(lambda: asked(160_000), lambda: asked(20_000)) < 24, "eight, and not its square"


@given(st.text("ab/*", min_size=1, max_size=8), st.text("ab/\n", max_size=10))
def test_globs_match_as_their_definition_says(glob: str, text: str) -> None:
    def matches(glob: str, text: str) -> bool:
        if not glob:
            return not text
        if glob[0] == "*":
            return any(matches(glob[1:], text[at:]) for at in range(len(text) + 1))
        return text[:1] == glob[0] and matches(glob[1:], text[1:])

    assert glob_test([glob])(text) == matches(glob, text)


def test_a_match_takes_little_more_than_what_one_would_write_by_hand(limit: Make) -> None:
    made = limit("when: {route: /v1/chat/*, method: [POST, PUT]}")
    assert made.applies is not None
    test, call, chat = made.applies, at("/v1/chat/completions", method="POST"), re.compile("/v1/chat/.*", re.DOTALL)

    def by_hand(call: Call) -> bool:
        return call.method in ("POST", "PUT") and any(chat.fullmatch(path) for path in call.paths)

    def often(test: Callable[[Call], bool]) -> None:
        for _ in range(2_000):
            assert test(call)

    assert ratio(lambda: often(test), lambda: often(by_hand)) < 3  # measured: a third
