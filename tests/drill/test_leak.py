"""Nothing trivial tells an attacker: not a name, not a place in the log, not a fraction of a second.

A drill whose attackers could be told by such a thing would teach a detector that thing, and praise it for it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from math import log2

import pytest

from headgate.drill.world import Drill, attacks, world

SEEDS = range(1, 21)
"""Many small worlds: keys of one group come and go together, so that it is groups that count, not keys."""
AT_MOST = 0.05
"""By how much the area under the curve may differ from chance, one half."""


def area(attackers: Iterable[float], others: Iterable[float]) -> float:
    """The chance that an attacker's value is above another's: half, if it tells nothing."""
    ranked = sorted([(value, True) for value in attackers] + [(value, False) for value in others])
    found = at = 0.0
    sizes = Counter(is_one for _, is_one in ranked)
    while at < len(ranked):
        end = next((to for to in range(int(at), len(ranked)) if ranked[to][0] != ranked[int(at)][0]), len(ranked))
        found += sum(is_one for _, is_one in ranked[int(at) : end]) * (at + end + 1) / 2
        at = end
    return (found - sizes[True] * (sizes[True] + 1) / 2) / (sizes[True] * sizes[False])


def alike(features: dict[str, tuple[float, bool, int]]) -> float:
    """The area among keys that ask about as much: who asks more is seen earlier and later, attacker or not."""
    parts: dict[int, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for value, is_one, asked in features.values():
        parts[int(log2(asked))][not is_one].append(value)
    areas = [(area(*part), min(map(len, part))) for part in parts.values() if min(map(len, part)) > 5]
    return sum(found * weight for found, weight in areas) / sum(weight for _, weight in areas)


@pytest.fixture(scope="module", params=["llm", "data"])
def drawn(request: pytest.FixtureRequest) -> dict[str, dict[str, tuple[float, bool, int]]]:
    """Trivial features of every key of some worlds: (value, whether it attacks, how much it asks)."""
    found: dict[str, dict[str, tuple[float, bool, int]]] = defaultdict(dict)
    for seed in SEEDS:
        # A ramp is late by what it is; of the others nothing says when they are there.
        names = tuple(name for name in attacks(request.param, ["all"]) if name != "slow_ramp")
        made = world(Drill(kind=request.param, seed=seed, keys=240, per_key=10.0, size=4, attacks=names))
        members = {key for keys in made.members.values() for key in keys}
        asked: Counter[str] = Counter()
        sums: dict[str, Counter[str]] = defaultdict(Counter)
        first: dict[str, int] = {}
        for at, line in enumerate(made.requests):
            key = line.account.key
            asked[key] += 1
            first.setdefault(key, at)
            sums["mean time"][key] += line.at - made.begin
            sums["fraction of a second"][key] += line.at % 1
        total = sum(asked.values())
        for key, many in asked.items():
            values = {name: some[key] / many for name, some in sums.items()}
            values |= {"key": int(key[4:], 16), "org": int(made.orgs[key][4:], 16), "first line": first[key] / total}
            for name, value in values.items():
                found[name][key] = (value, key in members, many)
    return found


@pytest.mark.parametrize("name", ["key", "org", "first line", "mean time", "fraction of a second"])
def test_a_trivial_feature_tells_no_attacker(drawn: dict[str, dict[str, tuple[float, bool, int]]], name: str) -> None:
    assert abs(alike(drawn[name]) - 0.5) <= AT_MOST


def test_a_leak_would_be_seen(drawn: dict[str, dict[str, tuple[float, bool, int]]]) -> None:
    told = drawn["first line"].items()
    leaky = {key: (value + 0.15 * is_one, is_one, many) for key, (value, is_one, many) in told}
    assert alike(leaky) - 0.5 > 2 * AT_MOST
    assert area([2, 3], [1, 1]) == 1 and area([1, 1], [1, 1]) == 0.5
