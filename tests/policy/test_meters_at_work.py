"""From a policy's text to what a gate decides by it: sums, presets, different things."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from headgate.gate import Gate
from headgate.policy import load
from headgate.quota.ahead import thing
from headgate.quota.decision import Decision
from headgate.quota.facts import Call, Principal
from headgate.stores import open_store
from headgate.testing import ManualClock

POLICY = """\
headgate: v1
policy: meters
mode: enforce
on_store_error: closed
identify: {directory: keys.yaml}
scopes: {model: body.model}
meters:
  usage:         {preset: openai-usage}
  output_tokens: {reserve: body.max_tokens, reserve_default: 10}
  credits:       {sum: {input_tokens: 1, cached_tokens: 0.1, output_tokens: 5}, times: {by: model, big-*: 4}}
  parcels:       {distinct: path.parcel_id}
limits:
  month:    {meter: credits, per: org, quota: 1k/month}
  coverage: {meter: parcels, per: group, quota: 2/month, deny: {status: 403}}
linking:
  affiliated:
    - {orgs: [acme, acme_labs], reason: one company, until: 2199-12-31}
"""

ACME, LABS, OTHER = Principal("k1", "acme"), Principal("k2", "acme_labs"), Principal("k3", "other")


class Desk:
    """A gate, and calls by what their bodies and paths hold."""

    def __init__(self, gate: Gate, loop: asyncio.Runner) -> None:
        self.gate, self._loop = gate, loop

    def ask(self, who: Principal, **values: str) -> Decision:
        return self._loop.run(self.gate.admit(Call(who, lookup=lambda source, name: values.get(name, ""))))

    def settle(self, decision: Decision, used: Mapping[str, int] | None = None, handed_out: str = "") -> None:
        tariff = decision.tariff
        assert tariff is not None
        things = {"parcels": (thing(tariff.digest, "parcels", handed_out),)} if handed_out else {}
        self._loop.run(self.gate.settle(decision, used or {}, things))

    def used(self, who: Principal, limit: str) -> tuple[int, int]:
        seen = self._loop.run(self.gate.look(who))
        return next((found.used, found.held) for row, found in seen if row.id == limit)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    clock = ManualClock()
    with asyncio.Runner() as loop:
        yield Desk(Gate(load(file), open_store("memory://", clock=clock), peppers=(b"pepper",), clock=clock), loop)


def test_what_a_sum_holds_is_what_the_request_announces_by_the_price_of_its_model(desk: Desk) -> None:
    desk.ask(ACME)
    assert desk.used(ACME, "month") == (0, 50)
    desk.ask(ACME, max_tokens="20", model="big-7")
    assert desk.used(ACME, "month") == (0, 50 + 4 * 5 * 20)
    assert not desk.ask(ACME, max_tokens="30", model="big-7").allowed
    assert desk.ask(OTHER, max_tokens="30", model="big-7").allowed


def test_a_thing_that_was_handed_out_is_free_and_a_new_one_is_not(desk: Desk) -> None:
    for name in ("1", "2", "1"):
        decision = desk.ask(ACME, parcel_id=name)
        assert decision.allowed
        desk.settle(decision, handed_out=name)
    assert desk.used(ACME, "coverage") == (2, 0)
    assert desk.ask(ACME, parcel_id="2").allowed
    refused = desk.ask(ACME, parcel_id="3")
    assert [limit.id for limit, _ in refused.refusing()] == ["coverage"]
    assert desk.ask(ACME).allowed, "a request that names no parcel asks for none"


def test_orgs_of_one_customer_have_taken_the_union(desk: Desk) -> None:
    for who, name in ((ACME, "1"), (LABS, "1"), (LABS, "2"), (ACME, "2")):
        desk.settle(desk.ask(who, parcel_id=name), handed_out=name)
    assert desk.used(LABS, "coverage") == (2, 0)
    assert not desk.ask(LABS, parcel_id="3").allowed and desk.ask(OTHER, parcel_id="3").allowed


def test_what_was_asked_for_and_not_handed_out_was_not_taken(desk: Desk) -> None:
    desk.settle(desk.ask(ACME, parcel_id="1"))
    assert desk.used(ACME, "coverage") == (0, 0)
