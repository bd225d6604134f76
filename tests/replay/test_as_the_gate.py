"""A replay decides what the gate would have decided, request by request."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headgate import Gate, open_store
from headgate.policy import Policy
from headgate.quota.facts import Call, Principal
from headgate.replay import Asked, Lines, LogFile, Replay
from headgate.replay.counting import Counting
from headgate.replay.entry import Entry
from headgate.replay.ledgers import Verdict
from headgate.testing import ManualClock

from .worlds import NOON, Told, log_of, policy_of

POLICY = """\
meters:
  u: {preset: openai-usage}
  output_tokens: {reserve: 20}
  rows: {from: app, reserve: 2, max: 9}
  credits: {sum: {input_tokens: 1, output_tokens: 5}}
limits:
  rpm: {meter: requests, per: key, rate: {free: 4/min, build: 20/min}, burst: 2}
  posts: {meter: requests, per: [org, ip], rate: 9/min, when: {method: POST, route: /v1/*}}
  rows: {meter: rows, per: org, rolling: 40/1h}
  day: {meter: credits, per: group, quota: {free: 2k/day, build: 4k/day}}
  out: {meter: output_tokens, per: key, total: 900, mode: shadow}
linking:
  affiliated: [{orgs: [org0, org1], reason: one owner, until: 2099-01-01}]
"""

lines = st.lists(
    st.fixed_dictionaries(
        {
            "pause": st.sampled_from([0, 1, 7, 40, 2_000, 50_000]),
            "key": st.integers(0, 3),
            "method": st.sampled_from(["GET", "POST"]),
            "ip": st.sampled_from(["192.0.2.1", "2001:db8::1"]),
            "tokens_in": st.integers(0, 300),
            "tokens_out": st.integers(0, 90),
            "records": st.integers(0, 12),
        }
    ),
    max_size=40,
)


@given(lines)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_replay_decides_as_the_gate_does(tmp_path: Path, lines: list) -> None:
    policy = policy_of(tmp_path, POLICY)
    at, entries = NOON, []
    for line in lines:
        at += line["pause"]
        key = line["key"]
        told = {"plan": "build" if key == 3 else "free"}
        entries.append(line | {"ts": at, "key": f"k{key}", "org": f"org{key}", "path": "/v1/x", "traits": told})
    log = log_of(tmp_path, entries or ["{}"])
    running = Replay(Asked(policy, Told(), b"pepper"), [Lines(LogFile(log))])
    running.counting = watched = Watched()
    running.run()
    assert watched.refused == asyncio.run(_by_the_gate(policy, entries))


class Watched(Counting):
    """Keeps the verdicts, one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[tuple[str, ...]] = []

    def decided(self, key: str, entry: Entry, pooled: Verdict, alone: Verdict) -> None:
        self.refused.append(alone.refused)
        super().decided(key, entry, pooled, alone)


async def _by_the_gate(policy: Policy, entries: list) -> list[tuple[str, ...]]:
    clock = ManualClock(now=NOON * 1_000_000)
    gate = Gate(policy, open_store("memory://", clock=clock), peppers=(b"pepper",), clock=clock)
    who = {f"k{n}": Principal(f"k{n}", f"org{n}", "build" if n == 3 else "free") for n in range(4)}
    found = []
    for entry in entries:
        clock.advance(entry["ts"] - clock() / 1_000_000)
        network = "192.0.2.1" if entry["ip"] == "192.0.2.1" else "2001:db8::/64"
        call = Call(who[entry["key"]], entry["method"], (entry["path"],), network=network)
        decision = await gate.admit(call)
        found.append(tuple([refusal.limit for refusal in decision.refusals]))
        used = {"input_tokens": entry["tokens_in"], "output_tokens": entry["tokens_out"]}
        credits = used["input_tokens"] + 5 * used["output_tokens"]
        await gate.settle(decision, used | {"rows": min(entry["records"], 9), "credits": credits})
    return found


def test_the_comparison_can_fail(tmp_path: Path) -> None:
    entry = {"ts": NOON, "key": "k0", "method": "POST", "ip": "192.0.2.1", "path": "/v1/x"}
    entry |= {"tokens_in": 0, "tokens_out": 0, "records": 0}
    found = asyncio.run(_by_the_gate(policy_of(tmp_path, POLICY), [entry] * 12))
    assert ("rpm",) in found and () in found and json.dumps(found) != "[]"
