"""Real accounts of real operators: 43,052 of a bridge's users, by whom they sent to and had from.

Who shares a counterparty with whom makes one blob of most. Labels are themselves made from connections, so the
precision is a lower bound of the truth and the recall means nothing; `docs/linking.md` has the figures.
"""

import csv
import io
import sys
from collections import Counter, defaultdict
from itertools import combinations
from math import log
from pathlib import Path

import pytest

from headgate.linking.content.groups import Groups
from headgate.linking.content.keys import Keys

DATA = Path(__file__).parents[2].parent / "shared" / "data"
FEW = 20  # holders of a counterparty that tells anything: an exchange has thousands
PRIOR = 9.0  # nats against a pair: less than half of what two of 43,052 have, so that formation alone must bear it


def rows(name: str) -> list[dict[str, str]]:
    path = DATA / f"{name}.csv.zst"
    if not path.exists():
        pytest.skip(f"the real accounts are not here: {path}")
    if sys.version_info >= (3, 14):
        from compression import zstd

        text = zstd.decompress(path.read_bytes())
    else:
        import zstandard

        text = zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read()
    return list(csv.DictReader(io.StringIO(text.decode())))


def holders(edges: list[dict[str, str]], users: int) -> dict[int, set[int]]:
    """Who holds which counterparty; an account is held by itself as well."""
    held: dict[int, set[int]] = defaultdict(set, {user: {user} for user in range(users)})
    for edge in edges:
        src, dst = int(edge["src"]), int(edge["dst"])
        for one, other in ((src, dst), (dst, src)):
            if one >= 0:
                held[other].add(one)
    return held


def evidence(held: dict[int, set[int]], users: int) -> dict[tuple[int, int], float]:
    """Nats of each pair by rarity: the strongest shared counterparty, half of the second, a quarter of the third."""
    shared: dict[tuple[int, int], list[float]] = defaultdict(list)
    for who in held.values():
        if 2 <= len(who) <= FEW:
            for pair in combinations(sorted(who), 2):
                shared[pair].append(log(users / len(who)))
    best = {pair: sorted(nats, reverse=True)[:3] for pair, nats in shared.items()}
    return {pair: sum(n * part for n, part in zip(nats, (1, 0.5, 0.25), strict=False)) for pair, nats in best.items()}


def precision(groups: list[set[int]], label: dict[int, str]) -> float:
    right = of = 0
    for keys in groups:
        many = Counter(label[key] for key in keys if label[key])
        right += sum(n * (n - 1) // 2 for n in many.values())
        of += many.total() * (many.total() - 1) // 2
    return right / of


def strangers(groups: list[set[int]], label: dict[int, str]) -> int:
    """The most keys of a group that are not of its largest operator."""
    counts = [Counter(label[key] for key in keys if label[key]) for keys in groups]
    return max(many.total() - max(many.values()) for many in counts if many)


def chained(held: dict[int, set[int]]) -> list[set[int]]:
    """The naive way: whoever shares a counterparty belongs together."""
    root: dict[int, int] = {}

    def top(key: int) -> int:
        while root.setdefault(key, key) != key:
            root[key] = root[root[key]]
            key = root[key]
        return key

    for who in held.values():
        first, *others = sorted(who)
        for other in others:
            root[top(first)] = top(other)
    groups: dict[int, set[int]] = defaultdict(set)
    for key in list(root):
        groups[top(key)].add(key)
    return list(groups.values())


def test_real_accounts_do_not_chain() -> None:
    users = rows("hop-sybil-users")
    label = {int(user["user"]): user["group"] for user in users}
    held = holders(rows("hop-sybil-edges"), len(users))
    assert max(map(len, chained(held))) > 20_000, "sharing a counterparty no longer makes one blob of them"

    keys = Keys()
    number = {user: keys.number(str(user), f"org{user}") for user in label}
    groups = Groups(keys)
    for (a, b), nats in sorted(evidence(held, len(users)).items(), key=lambda pair: (-pair[1], pair[0])):
        groups.tied(number[a], number[b], nats - PRIOR)
    groups.settle(sorted(number.values()), at=1)
    found = [{int(keys.ids[key]) for key in group.keys} for group in groups.all.values()]
    assert sum(map(len, found)) > 10_000
    assert precision(found, label) >= 0.95
    assert strangers(found, label) <= 10
