"""What a policy lets linking see of a request."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from headgate.linking.observation import LONGEST, Blind
from headgate.policy.compiled import Dated, Linking, Policy
from headgate.quota.facts import Principal
from headgate.quota.identify import Identify, Source
from headgate.watch.sight import Sight, handed_out, said

PEPPER = Blind(b"pepper")
CANARY = "Mallory Canarius"
NOW = 1_000_000
WAY = Identify(traits={"ja4": Source.parse("header.x-ja4"), "device": Source.parse("header.x-device")})
CALLER = Principal("k1", "acme", traits={"payment": "card-1", "email_domain": "x.example", "signup_ts": "5"})


def policy(**linking: Any) -> Policy:
    return Policy("doc", "0", "enforce", WAY, (), linking=Linking(**linking))


def seen(policy: Policy, *, body: Any = None, status: int = 200, things: tuple[str, ...] = (), **scope: Any) -> Any:
    sight = Sight(policy)
    headers = [(b"user-agent", b"curl/8"), (b"x-ja4", b"t13d"), (b"x-device", b"d-1"), (b"cookie", b"secret")]
    scope = {"method": "GET", "path": "/v1/docs/17", "headers": headers, "path_params": {"doc": 17}, **scope}
    scope.setdefault("client", ("198.51.100.7", 4711))
    glimpse = sight.glimpse(CALLER, NOW, status, scope, body, things)
    return sight.observation(glimpse, PEPPER)


def test_without_named_signals_everything_that_is_there_is_looked_at() -> None:
    found = seen(policy(), body={"prompt": f"Be brief. Who is {CANARY}?"})
    names = {name for name, _ in found.traits}
    assert names == {"payment", "email_domain", "client", "device", "address", "network"}
    assert found.clauses[0] == PEPPER("clause", "be brief") and len(found.clauses) == 2
    assert found.runs == ((PEPPER("collection", "/v1/docs/{doc}:"), 17, 1),)
    assert (found.key, found.org, found.served, found.signup) == ("k1", "acme", True, 5_000_000)


@pytest.mark.parametrize(
    ("signals", "traits", "clauses", "runs"),
    [
        (("payment",), {"payment"}, False, False),
        (("prompts",), set(), True, False),
        (("coverage",), set(), False, True),
        (("address",), {"address", "network"}, False, False),
        (("software",), {"client"}, False, False),
        (("device",), {"device"}, False, False),
        (("handoff", "coactivity"), set(), False, False),
    ],
)
def test_what_the_policy_does_not_name_is_not_looked_at(
    signals: tuple[str, ...], traits: set[str], clauses: bool, runs: bool
) -> None:
    found = seen(policy(signals=signals), body={"prompt": "Be brief."})
    assert {name for name, _ in found.traits} == traits
    assert (bool(found.clauses), bool(found.runs)) == (clauses, runs)


def test_what_the_policy_ignores_makes_no_trait_until_that_ends() -> None:
    ignore = (
        Dated("address", ("198.51.100.0/24",), "campus", 2 * NOW),
        Dated("payment", ("card-1",), "reseller", 2 * NOW),
        Dated("device", ("d-1",), "kiosk", 2 * NOW),
        Dated("software", ("t13d",), "the SDK", 2 * NOW),
    )
    assert {name for name, _ in seen(policy(ignore=ignore)).traits} == {"email_domain"}
    ended = tuple([replace(one, until=NOW) for one in ignore])
    assert len(seen(policy(ignore=ended)).traits) == 6


def test_a_customers_network_is_ignored_where_it_lies_in_an_ignored_one() -> None:
    ignore = (Dated("address", ("2001:db8::/32",), "carrier", 2 * NOW),)
    sight = Sight(policy(signals=("address",), ignore=ignore))

    def traits(address: str) -> int:
        scope = {"path": "/", "headers": [], "client": (address, 4711)}
        glimpse = sight.glimpse(CALLER, NOW, 200, scope, None, ())
        return len(sight.observation(glimpse, PEPPER).traits)

    assert (traits("2001:db8:1::7"), traits("2001:db9::7"), traits("198.51.100.7")) == (0, 2, 2)
    assert ip_network("2001:db8:1::/64").subnet_of(ip_network("2001:db8::/32"))  # type: ignore[arg-type]


def test_nothing_raw_stays() -> None:
    found = seen(policy(), body={"prompt": f"Who is {CANARY}?"}, things=("secret-plan:7",))
    written = repr(found)
    for raw in (CANARY, "mallory", "card-1", "198.51.100", "curl", "t13d", "d-1", "secret-plan", "x.example"):
        assert raw.lower() not in written.lower()


def test_what_was_refused_or_failed_handed_nothing_out() -> None:
    assert (seen(policy(), status=429).denied, seen(policy(), status=429).runs) == (True, ())
    assert (seen(policy(), status=500).served, seen(policy(), status=500).runs) == (False, ())


def test_what_the_app_names_goes_before_the_routes_parameters() -> None:
    found = seen(policy(), things=("doc:3", "doc:4"))
    assert found.runs == ((PEPPER("collection", "doc:"), 3, 2),)


def test_the_last_question_and_the_instructions_are_a_conversations_prompt() -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "First?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": [{"type": "text", "text": "Second?"}, {"type": "image_url", "image_url": {}}]},
    ]
    assert said({"messages": turns}) == ("Be brief.", "Second?")
    assert said({"instructions": "Be kind.", "input": turns[1:2]}) == ("Be kind.", "First?")
    assert said({"input": "Once"}) == said({"prompt": ["Once"]}) == ("Once",)


@pytest.mark.parametrize(
    "body",
    [
        {}, {"messages": None}, {"messages": 7}, {"messages": [7]}, {"messages": [{}]}, {"messages": []},
        {"prompt": {"a": 1}}, {"input": [[1, 2]]}, {"system": 5, "messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "content": [None, 3, {"text": 4}]}]},
    ],
)  # fmt: skip
def test_a_body_of_another_shape_says_nothing(body: dict[str, Any]) -> None:
    assert said(body) == ()


def test_no_more_than_the_longest_is_carried_and_instructions_hide_no_question() -> None:
    long = "x" * (3 * LONGEST)
    for body in (
        {"prompt": long},
        {"system": long, "messages": [{"role": "user", "content": long}]},
        {"messages": [{"role": "user", "content": [{"text": long}] * 1_000}]},
        {"prompt": ["x" * 100] * 10_000},
    ):
        assert sum(map(len, said(body))) <= LONGEST, json.dumps(body)[:40]
    assert said({"system": long, "messages": [{"role": "user", "content": "Why?"}]})[1] == "Why?"


def test_ids_in_a_path_are_neighbours_in_one_collection() -> None:
    assert handed_out("/v1/docs/8", {"doc": 8}) == ["/v1/docs/{doc}:8"]
    assert handed_out("/orgs/7/docs/8", {"org": 7, "doc": 8}) == ["/orgs/{org}/docs/8:7", "/orgs/7/docs/{doc}:8"]
    assert handed_out("/v1/docs/8x", {"doc": 8}) == []


def test_a_header_that_is_no_text_is_read_all_the_same_and_one_beyond_measure_is_not() -> None:
    def traits(value: bytes) -> list[str]:
        found = seen(policy(signals=("software",)), headers=[(b"user-agent", value)])
        return [name for name, _ in found.traits]

    assert (traits(b"\xff\x00"), traits(b"x" * 100_000)) == (["client"], [])


def test_only_what_is_read_is_a_data_item_and_a_path_that_ends_in_a_number_is_one() -> None:
    assert seen(policy(), path_params=None).runs == ((PEPPER("collection", "/v1/docs/"), 17, 1),)
    assert seen(policy(), path="/v1/docs", path_params={}).runs == ()
    assert seen(policy(), method="POST").runs == ()
    assert seen(policy(), method="POST", things=("doc:3",)).runs == ((PEPPER("collection", "doc:"), 3, 1),)


def test_software_is_the_agent_and_the_handshake_together() -> None:
    def client(*headers: tuple[bytes, bytes]) -> list[tuple[str, int]]:
        return list(seen(policy(signals=("software",)), headers=headers).traits)

    both = client((b"user-agent", b"curl/8"), (b"x-ja4", b"t13d"))
    assert both == [("client", PEPPER("client", "curl/8|t13d"))]
    assert client((b"user-agent", b"curl/8")) == [("client", PEPPER("client", "curl/8|None"))]
    assert client() == []


def test_the_network_of_a_sign_up_is_a_trait_of_its_own() -> None:
    sight = Sight(policy())
    caller = Principal("k1", "acme", "free", traits={"signup_ip": "203.0.113.9", "plan": "free"})
    glimpse = sight.glimpse(caller, NOW, 200, {"path": "/", "headers": []}, None, ())
    found = dict(sight.observation(glimpse, PEPPER).traits)
    assert found["signup_network"] == dict(PEPPER.network("203.0.113.9"))["network"]
    assert set(found) == {"signup_network"}


def test_an_address_is_what_the_gate_charges() -> None:
    way = Identify(proxies=(ip_network("10.0.0.0/8"),), proxy_header=b"x-forwarded-for")
    sight = Sight(Policy("doc", "0", "enforce", way, (), linking=Linking(signals=("address",), linked=970_000)))

    def address(peer: str | None, *forwarded: bytes) -> tuple[tuple[str, int], ...]:
        headers = [(b"x-forwarded-for", line) for line in forwarded]
        scope = {"path": "/", "headers": headers, "client": (peer, 1) if peer else None}
        return sight.observation(sight.glimpse(CALLER, NOW, 200, scope, None, ()), PEPPER).traits

    assert address("10.0.0.1", b"6.6.6.6, 198.51.100.7") == PEPPER.network("198.51.100.7")
    assert address("198.51.100.8", b"6.6.6.6") == PEPPER.network("198.51.100.8"), "no proxy of ours"
    assert address(None) == (), "a socket of this host has no address"
