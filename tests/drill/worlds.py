"""Small worlds for the tests, written once each and read as a detector and a scorer would read them."""

from __future__ import annotations

import atexit
import json
from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, NamedTuple

from headgate.drill.world import Drill, attacks, world
from headgate.drill.writing import write


class Seen(NamedTuple):
    """What stands in the three files."""

    folder: Path
    lines: list[dict[str, Any]]
    labels: dict[str, Any]
    meta: dict[str, Any]

    def by_key(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for line in self.lines:
            found[line["key"]].append(line)
        return found

    def members(self, scenario: str) -> list[list[str]]:
        return [group["keys"] for group in self.labels["groups"].values() if group["scenario"] == scenario]

    def family(self, scenario: str) -> list[str]:
        return next(one["keys"] for one in self.labels["hard_negatives"].values() if one["scenario"] == scenario)


def read(folder: Path, name: str = "log.jsonl") -> Seen:
    lines = []
    for text in (folder / name).read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    labels, meta = (json.loads((folder / file).read_text()) for file in ("labels.json", "meta.json"))
    return Seen(folder, lines, labels, meta)


@lru_cache(maxsize=8)
def seen(kind: str, *attack: str, malformed: int = 0, **said: Any) -> Seen:
    """A world of these attacks, small unless said otherwise."""
    folder = Path(mkdtemp(prefix="drill-"))
    atexit.register(rmtree, folder, ignore_errors=True)
    asked = {"keys": 250, "days": 3.0, "per_key": 20.0, "seed": 1, **said}
    write(world(Drill(kind=kind, attacks=attacks(kind, list(attack)), **asked)), folder, malformed=malformed)
    return read(folder)
