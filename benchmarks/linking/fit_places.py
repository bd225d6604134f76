"""Says how well `linking.places` does on labelled worlds, with its weights as they are or some changed.

    python benchmarks/linking/fit_places.py WORLD_DIR… [NAME=VALUE …]

A world is a directory as `headgate drill` writes it: log.jsonl (or .gz) and labels.json. NAME is a constant of
`headgate.linking.places.weights`. Figures: precision and recall over pairs of keys of different orgs in findings of
at least .95; benign keys in such findings; requests a second; bytes a key. Not part of CI: it is how the weights were
chosen, and how they are to be chosen again. Choose on some worlds, report on others, and count the looks at these.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

from headgate.linking.observation import Blind, Observation, runs, traits
from headgate.linking.places import Places, weights

BLIND = Blind(b"a bench")
SURE = 0.95


def observations(world: Path) -> Iterator[Observation]:
    """The requests of a world's log; lines that cannot be read are left out."""
    log = next(path for path in sorted(world.glob("log.jsonl*")) if path.suffix in (".jsonl", ".gz"))
    with (gzip.open if log.suffix == ".gz" else open)(log, "rt", encoding="utf-8") as lines:
        for line in lines:
            try:
                yield _observed(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError):
                continue


def _observed(line: dict[str, Any]) -> Observation:
    told = {name: value for name, value in (line.get("traits") or {}).items() if name not in ("plan", "signup_ip")}
    found = traits(BLIND, told) + BLIND.network(line.get("ip") or "")
    if line.get("user_agent") or line.get("ja4"):
        found += (("client", BLIND("client", f"{line.get('user_agent')}|{line.get('ja4')}")),)
    status = line["status"]
    return Observation(
        int(line["ts"] * 1e6), line["key"], line.get("org") or "", status < 400, status == 429,
        runs=runs(BLIND, line.get("resources") or ()), traits=found,
    )  # fmt: skip


def figures(world: Path) -> str:
    """One line of figures of a world."""
    seen, places, orgs = list(observations(world)), Places(), dict[str, str]()
    begun = time.process_time()
    for observation in seen:
        places.saw(observation)
    took = time.process_time() - begun
    for observation in seen:
        orgs[observation.key] = observation.org or observation.key
    labels = json.loads((world / "labels.json").read_text())
    group = {key: name for name, told in labels["groups"].items() for key in told["keys"]}
    right = wrong = 0
    benign: set[str] = set()
    for finding in places.findings():
        if finding.confidence >= SURE:
            benign |= {key for key in finding.members if key not in group}
            for a, b in combinations(finding.members, 2):
                if orgs[a] != orgs[b]:
                    true = a in group and group[a] == group.get(b)
                    right, wrong = right + true, wrong + (not true)
    whole = sum(
        [
            orgs.get(a) != orgs.get(b)
            for told in labels["groups"].values()
            for a, b in combinations([key for key in told["keys"] if key in orgs], 2)
        ]
    )
    precision = right / (right + wrong) if right + wrong else 1.0
    return (
        f"{world.name}: precision {precision:.3f}, recall {right / whole if whole else 1.0:.3f}, "
        f"benign linked {len(benign)} of {len(orgs) - len(group)}, {len(seen) / took:,.0f} requests/s, "
        f"{places.__sizeof__() / max(1, len(orgs)):,.0f} bytes a key"
    )


def main() -> None:
    """Take in the arguments, and say the figures."""
    for argument in sys.argv[1:]:
        name, changed, value = argument.partition("=")
        if changed:
            setattr(weights, name, type(getattr(weights, name))(float(value)))
    for argument in sys.argv[1:]:
        if "=" not in argument:
            print(figures(Path(argument)), flush=True)


if __name__ == "__main__":
    main()
