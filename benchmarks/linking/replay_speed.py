"""How fast a log is replayed, where the time goes, and what is kept of a key.

    python benchmarks/linking/replay_speed.py [LOG…] [--lines 60000] [--rounds 3] [--json FILE]

Without a log, `headgate drill` writes one of prompts and one of data items first. CPU time of one core, the best of
the rounds, for a neighbour on the machine only ever makes it slower. Each part is measured by itself on the same
lines: reading (unpacking, cutting, JSON), the observation (digests), the decision (both ledgers), the linker; `whole`
is `headgate replay` without the printing. Bytes a key are what tracemalloc finds after the run, the linker's apart:
of few keys, most of it is what is kept of addresses and clauses, which is bounded.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from headgate.cli import app
from headgate.linking import Finding, Observation
from headgate.linking.linker import Linker
from headgate.policy import load
from headgate.policy.compiled import Policy
from headgate.replay import Asked, Lines, LogFile, Replay
from headgate.replay.callers import Callers
from headgate.replay.entry import Entry
from headgate.replay.figures import figures
from headgate.replay.ledgers import Ledgers
from headgate.replay.observing import Observing

PEPPER = b"pepper of the benchmark"

POLICY = """\
headgate: v1
policy: operator
mode: enforce
zone: UTC
on_store_error: closed
identify: {key: header.authorization.bearer, anonymous: refuse}
plans: [free, starter, build, pro, scale, enterprise, public, member, bulk]
meters:
  u: {preset: openai-usage}
  taken: {sum: {input_tokens: 1, output_tokens: 1}}
limits:
  rpm: {meter: requests, per: key, rate: {free: 60/min, starter: 120/min, default: 3k/min}}
  day: {meter: taken, per: group, quota: {free: 200k/day, starter: 600k/day, pro: 2M/day, default: 20M/day}}
"""


class Nothing:
    """A linker that finds nothing and costs nothing."""

    def saw(self, observation: Observation) -> None:
        """One more request."""

    def groups(self) -> list[Any]:
        """None."""
        return []

    def findings(self) -> list[Finding]:
        """None."""
        return []


def best(rounds: int, work: Callable[[], Any]) -> tuple[float, Any]:
    """The least CPU time of some rounds, and what the last one answered."""
    least, found = float("inf"), None
    for _ in range(rounds):
        begun = time.process_time()
        found = work()
        least = min(least, time.process_time() - begun)
    return least, found


def measured(log: str, policy: Policy, rounds: int) -> dict[str, Any]:
    """Microseconds a line of each part, lines a second of the whole, and bytes a key."""
    reading, entries = best(rounds, lambda: [entry for part in Lines(LogFile(log)).entries() for entry in part])
    parts = {
        "reading": reading,
        "observation": best(rounds, lambda: _observed(entries))[0],
        "decision": best(rounds, lambda: _decided(entries, policy))[0],
    }
    seen = _observed(entries)
    parts["linker"] = best(rounds, lambda: _linked(seen))[0]
    parts["whole"] = best(rounds, lambda: _replayed(log, policy, Linker()))[0]
    keys = len({entry.key for entry in entries})
    return {
        "log": Path(log).name,
        "lines": len(entries),
        "keys": keys,
        "microseconds": {name: round(seconds / len(entries) * 1e6, 2) for name, seconds in parts.items()},
        "lines_per_second": round(len(entries) / parts["whole"]),
        "bytes_per_key": {"replay": _kept(log, policy, Nothing()) // keys, "linker": _kept_by_linker(seen) // keys},
    }


def _observed(entries: list[Entry]) -> list[Observation]:
    observing = Observing(PEPPER, ())
    return [observing.of(entry.key or "", entry.org or "", entry) for entry in entries]


def _decided(entries: list[Entry], policy: Policy) -> None:
    callers = Callers(policy)
    ledgers = Ledgers(policy, figures(policy, claims=False), callers)
    for entry in entries:
        who = callers.of(entry.key or "", entry)
        if who is not None:
            ledgers.decide(who, entry)


def _linked(seen: list[Observation]) -> Linker:
    linker = Linker()
    for observation in seen:
        linker.saw(observation)
    return linker


def _replayed(log: str, policy: Policy, linking: Any) -> Replay:
    replay = Replay(Asked(policy, linking, PEPPER), [Lines(LogFile(log))])
    replay.run()
    replay.report()
    return replay


def _kept(log: str, policy: Policy, linking: Any) -> int:
    """Bytes that a replay holds at its end, after the lines are gone."""
    tracemalloc.start()
    replay = _replayed(log, policy, linking)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert replay.entries, "it was read"
    return held


def _kept_by_linker(seen: list[Observation]) -> int:
    tracemalloc.start()
    linker = _linked(seen)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    linker.groups()
    return held


def drilled(folder: Path, kind: str) -> str:
    """A log of about 60,000 lines, written by `headgate drill`."""
    app(["drill", str(folder / kind), "--kind", kind, "--seed", "1", "--days", "2"], standalone_mode=False)
    return str(folder / kind / "log.jsonl")


def cut(log: str, folder: Path, most: int) -> str:
    """The first lines of a log, as a plain file."""
    lines: list[bytes] = []
    for block in LogFile(log).blocks():
        lines += block.split(b"\n") if not lines else [lines.pop() + block.split(b"\n")[0], *block.split(b"\n")[1:]]
        if len(lines) > most:
            break
    path = folder / f"{Path(log).parent.name}-{Path(log).name.removesuffix('.zst').removesuffix('.gz')}"
    path.write_bytes(b"\n".join(lines[:most]))
    return str(path)


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("logs", nargs="*")
    asked.add_argument("--lines", type=int, default=60_000)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--json", type=Path)
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "policy.yaml").write_text(POLICY, encoding="utf-8")
        policy = load(folder / "policy.yaml")
        logs = options.logs or [drilled(folder, kind) for kind in ("llm", "data")]
        rows = [measured(cut(log, folder, options.lines), policy, options.rounds) for log in logs]
    shown = Table("log", "lines", "keys", *rows[0]["microseconds"], "lines/s", "B a key", "of it linker", box=None)
    for row in rows:
        kept = row["bytes_per_key"]
        cells = [row["log"], row["lines"], row["keys"], *row["microseconds"].values(), row["lines_per_second"]]
        shown.add_row(*[str(cell) for cell in (*cells, kept["replay"] + kept["linker"], kept["linker"])])
    Console().print("headgate replay: µs of CPU a line", shown)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
