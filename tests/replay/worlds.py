"""Small logs and policies to replay, and a linker that finds what it is told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headgate.linking import Evidence, Finding, Observation
from headgate.policy import Policy, load
from headgate.replay import Asked, Lines, LogFile, Replay, Report

NOON = 1_773_144_000
"""2026-03-10 12:00 UTC: a moment from which an hour stays within its day."""

HEAD = """\
headgate: v1
policy: little
mode: enforce
zone: UTC
on_store_error: closed
identify: {key: [header.authorization.bearer], anonymous: refuse}
plans: [free, build]
"""


def policy_of(folder: Path, rest: str, head: str = HEAD) -> Policy:
    file = folder / "headgate.yaml"
    file.write_text(head + rest, encoding="utf-8")
    return load([file])


def line(at: float, key: str = "k1", org: str | None = "acme", **more: Any) -> dict[str, Any]:
    """A request `at` seconds past noon."""
    return {"ts": NOON + at, "key": key, "org": org, "method": "POST", "path": "/v1/x", "status": 200} | more


def log_of(folder: Path, lines: Sequence[Mapping[str, Any] | str], name: str = "log.jsonl") -> str:
    file = folder / name
    texts = [one if isinstance(one, str) else json.dumps(one) for one in lines]
    file.write_text("\n".join([*texts, ""]), encoding="utf-8")
    return str(file)


@dataclass
class Told:
    """A linker that finds these groups of keys, each key from its `since`-th request on."""

    told: Sequence[Sequence[str]] = ()
    since: int = 1
    confidence: float = 0.97
    seen: list[Observation] = field(default_factory=list)
    met: dict[str, int] = field(default_factory=dict)
    at: dict[str, int] = field(default_factory=dict)

    def saw(self, observation: Observation) -> None:
        self.seen.append(observation)
        self.met[observation.key] = self.met.get(observation.key, 0) + 1
        if self.met[observation.key] == self.since:
            self.at[observation.key] = observation.at

    def groups(self) -> list[tuple[Mapping[str, int], float]]:
        return [(found.members, found.confidence) for found in self.findings()]

    def findings(self) -> list[Finding]:
        found = []
        for keys in self.told:
            there = sorted([self.at[key] for key in keys if key in self.at])
            if len(there) > 1:
                members = {key: max(self.at[key], there[1]) for key in keys if key in self.at}
                why = Evidence("templates", tuple(members), 9.5, "they share 14 templates that nobody else has")
                found.append(Finding(members, (), self.confidence, (why,)))
        return found


def replayed(
    policy: Policy, *logs: str, linking: Told | None = None, most: int | None = None, **asked: Any
) -> Report:
    what = Asked(policy, linking or Told(), b"pepper of the tests", **asked)
    running = Replay(what, [Lines(LogFile(name)) for name in logs])
    running.run()
    return running.report(most=most)
