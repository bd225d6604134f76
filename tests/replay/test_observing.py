"""From lines to observations: what resembles goes on as digests, and what says nothing does not."""

from __future__ import annotations

from typing import Any

from headgate.linking.observation import Observation
from headgate.policy.compiled import Dated
from headgate.replay.entry import Entry
from headgate.replay.observing import Observing

END = 1_000_000_000


def names(observation: Observation) -> set[str]:
    return {name for name, _ in observation.traits}


def entry(at: int = 0, **more: Any) -> Entry:
    told = {
        "payment": "card_1",
        "device": "d1",
        "plan": "free",
        "signup_ip": "198.51.100.9",
        "signup_ts": "1757248878",
    }
    known = {"ip": "203.0.113.7", "user_agent": "curl/8", "ja4": "t13", "traits": told, "status": 200}
    return Entry(at=at, **(known | more))


def seen(one: Entry, *ignored: tuple[str, str]) -> Observation:
    rules = tuple([Dated(subject, (name,), "says nothing", END) for subject, name in ignored])
    return Observing(b"pepper", rules).of("k1", "acme", one)


def test_what_resembles_is_told_and_a_plan_resembles_everybody() -> None:
    observation = seen(entry())
    assert names(observation) == {"payment", "device", "signup_network", "address", "network", "client"}
    assert observation.signup == 1_757_248_878_000_000


def test_served_and_denied_follow_the_status() -> None:
    told = [(status, seen(entry(status=status))) for status in (200, 304, 400, 429, 500, None)]
    assert [status for status, one in told if one.served] == [200, 304, None]
    assert [status for status, one in told if one.denied] == [429]


def test_ignored_evidence_makes_no_trait_until_the_entry_ends() -> None:
    assert names(seen(entry(), ("address", "203.0.113.0/24"))) >= {"client"}
    assert not names(seen(entry(), ("address", "203.0.113.0/24"))) & {"address", "network"}
    assert "signup_network" not in names(seen(entry(), ("address", "198.51.100.0/24")))
    for card, told in (("card_1", False), ("card_2", True)):
        assert ("payment" in names(seen(entry(), ("payment", card)))) is told
    assert "client" not in names(seen(entry(), ("software", "curl/8")))
    observing = Observing(b"pepper", (Dated("device", ("d1",), "says nothing", END),))
    told_at = [at for at in (END - 1, END, END + 1) if "device" in names(observing.of("k1", "acme", entry(at)))]
    assert told_at == [END, END + 1]


def test_what_the_policy_does_not_look_at_does_not_go_on() -> None:
    one = entry(prompt="Be brief.", resources=["doc:1"])
    known = {**(one.traits or {}), "email_domain": "x.example"}
    one.traits = known

    def looked_at(*signals: str) -> Observation:
        return Observing(b"pepper", (), signals).of("k1", "acme", one)

    assert names(looked_at()) >= {"email_domain", "payment", "client", "address"} and looked_at().clauses
    assert names(looked_at("payment")) == {"payment"} and not looked_at("payment").clauses
    assert names(looked_at("address")) == {"address", "network", "signup_network"}
    assert names(looked_at("software")) == {"client"}
    assert looked_at("prompts").clauses and not looked_at("prompts").runs and not names(looked_at("prompts"))
    assert looked_at("coverage").runs and not looked_at("coverage").clauses


def test_an_address_in_other_clothes_is_the_same_and_another_is_not() -> None:
    def address(text: str) -> dict[str, int]:
        return dict(seen(Entry(ip=text)).traits)

    assert address("::ffff:203.0.113.7") == address("203.0.113.7") != address("::ffff:203.0.113.8")
    assert address("2001:db8::1")["address"] == address("2001:DB8:0:0:ffff::2")["address"]
    assert address("not an address") == address("") == {}


def test_data_items_are_runs_and_a_path_is_one_only_where_it_is_asked_to_be() -> None:
    items = seen(Entry(resources=["doc:7", "doc:8", "doc:3"])).runs
    assert [(first, many) for _, first, many in items] == [(7, 2), (3, 1)]
    observing = Observing(b"pepper", ())
    one = Entry(path="/v1/documents/39394", status=200)
    assert observing.of("k1", "acme", one).runs == ()
    observing.paths = True
    assert [(first, many) for _, first, many in observing.of("k1", "acme", one).runs] == [(39394, 1)]
    assert observing.of("k1", "acme", Entry(path="/v1/documents/39394", status=404)).runs == ()


def test_nothing_raw_goes_on() -> None:
    observation = seen(entry(prompt="The canary sings. What does Acme sell?"))
    assert observation.clauses and observation.names
    kept = repr(observation._replace(key="", org=""))
    for text in ("canary", "Acme", "card_1", "203.0.113", "198.51", "curl", "t13"):
        assert text not in kept
