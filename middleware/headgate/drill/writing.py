"""Writes a world down: the log, its labels, and what was true of it.

Law: the log alone is what a detector reads; nothing of who is who is in it. It is written as it is drawn, line by
line: what is held grows with the keys, never with the log.

The lines are those that `headgate replay` reads (docs/command-line.md); labels.json and meta.json: docs/drill.md.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from random import Random
from typing import Any

from headgate.drill.accounts import PLANS
from headgate.drill.work import Request
from headgate.drill.world import World

POINTS = 80
"""Points of time at which a key's takings are told at most."""


class Written:
    """What was written, for whoever asked: how many lines of which kinds, and where."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder = folder
        self.log = log
        self.events = 0
        self.malformed = 0
        self.bytes = 0


class Taken:
    """What a key took for its operator, as it grew: at most `POINTS` points, evenly thinned, the last always there.

    >>> taken = Taken()
    >>> for at in range(1000):
    ...     taken.add(float(at), (1, 10, 0, 2))
    >>> told = taken.told()
    >>> len(told["ts"]) <= POINTS, told["ts"][0], told["requests"][-1], told["records"][-1]
    (True, 0.0, 1000, 2000)
    """

    def __init__(self) -> None:
        self._sum = (0, 0, 0, 0)
        self._points: list[tuple[float, tuple[int, int, int, int]]] = []
        self._every = 1
        self._last = 0.0

    def add(self, at: float, much: tuple[int, int, int, int]) -> None:
        """Count one request: (requests, bytes, tokens, records). A late line counts at the time of the one before."""
        at = max(at, self._last)
        requests, size, tokens, records = self._sum
        self._sum = (requests + much[0], size + much[1], tokens + much[2], records + much[3])
        self._last = at
        if requests % self._every == 0:
            self._points.append((at, self._sum))
            if len(self._points) >= POINTS:
                del self._points[1::2]
                self._every *= 2

    def told(self) -> dict[str, list[Any]]:
        """The points, as meta.json holds them."""
        points = list(self._points)
        if self._sum[0] and points[-1][1] != self._sum:
            points.append((self._last, self._sum))
        told: dict[str, list[Any]] = {"ts": [round(at, 3) for at, _ in points]}
        for which, name in enumerate(("requests", "bytes", "tokens", "records")):
            told[name] = [sums[which] for _, sums in points]
        return told


def write(made: World, folder: Path, name: str = "log.jsonl", malformed: int = 0) -> Written:
    """Write a world to a folder, which is made if it is not there. Raises OSError where it cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    done = Written(folder, folder / name)
    taken: dict[str, dict[str, Taken]] = {
        group: {key: Taken() for key in keys} for group, keys in made.members.items()
    }
    random = Random(f"{made.drill.seed} writing")
    # Spoilt lines lie anywhere in the first part of the log; how long it will be is not known yet.
    expected = int(made.drill.keys * made.drill.days * made.drill.per_key * 0.6) + malformed + 1
    spoilt = set(random.sample(range(1, expected), malformed)) if malformed else set()
    with opened(done.log) as out:
        for request in made.requests:
            text = line(random, request, made.drill.traits)
            out(text)
            done.events += 1
            done.bytes += len(text)
            made.seen.add(request.account.key)
            if request.group:
                work = request.work
                much = (1, work.size, work.tokens_in + work.tokens_out, len(work.items or ()))
                taken[request.group][request.account.key].add(request.at, much)
            if done.events in spoilt:
                out(_broken(random, text))
                done.malformed += 1
        for _ in range(malformed - done.malformed):  # the log was shorter than that
            out("null\n")
            done.malformed += 1
    _forget_silent(made)
    _labels(made, folder / "labels.json")
    _meta(made, done, taken, folder / "meta.json")
    return done


@contextmanager
def opened(log: Path) -> Iterator[Callable[[str], object]]:
    """A log to write lines of text to: plain, or packed as its name says."""
    if log.suffix == ".gz":
        # No time and no name inside: the same world is the same file.
        with log.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
            yield lambda text: packed.write(text.encode())
    elif log.suffix == ".zst":
        with log.open("wb") as raw, _zstandard(raw) as packed:
            yield lambda text: packed.write(text.encode())
    else:
        with log.open("w", encoding="utf-8", newline="\n") as plain:
            yield plain.write


def _zstandard(raw: Any) -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd

        return zstd.ZstdFile(raw, "wb", level=6)
    import zstandard

    return zstandard.ZstdCompressor(level=6).stream_writer(raw, closefd=False)


def line(random: Random, request: Request, traits: bool = True) -> str:
    """A request as a line of the log. Traits come on a key's first line, and on about a quarter of the others.

    Without traits, there is neither account nor address nor software in it.
    """
    account, work = request.account, request.work
    head = account.head
    told = not head or random.random() < 0.25
    if not head:
        head = account.head = f'"key":"{account.key}","org":"{account.org}",'
        account.told = f',"traits":{json.dumps(account.traits)}'
    parts = [
        f'{{"ts":{request.at:.3f},{head}"method":"{work.method}","path":"{work.path}","status":{request.status},'
        f'"bytes_out":{work.size}'
    ]
    if traits:
        parts.append(
            f',"ip":"{request.address}","user_agent":{_text(account.client[0])},"ja4":{_text(account.client[1])}'
        )
    if work.tokens_in:
        parts.append(f',"tokens_in":{work.tokens_in},"tokens_out":{work.tokens_out}')
    if work.items is not None:
        items = '","'.join(work.items)
        parts.append(f',"records":{len(work.items)},"resources":{f"[{chr(34)}{items}{chr(34)}]" if items else "[]"}')
    if work.prompt is not None and account.prompts:
        parts.append(f',"prompt":{quoted(work.prompt)}')
    if told and traits:
        parts.append(account.told)
    parts.append("}\n")
    return "".join(parts)


def _text(value: str | None) -> str:
    return "null" if value is None else quoted(value)


def _broken(random: Random, text: str) -> str:
    """A line that is none: cut short, no object, no JSON at all."""
    form = random.randrange(4)
    if form == 0:
        return text[: len(text) // 2] + "\n"
    return ("[1,2,3]\n", "-- rotated --\n", "null\n")[form - 1]


def _forget_silent(made: World) -> None:
    """Leave out the keys that never asked for anything: no log tells of them. A group needs two that did."""
    made.orgs = {key: org for key, org in made.orgs.items() if key in made.seen}
    made.members = {name: [key for key in keys if key in made.seen] for name, keys in made.members.items()}
    made.members = {name: keys for name, keys in made.members.items() if len(keys) > 1}
    alike = {
        name: (what, [key for key in keys if key in made.seen]) for name, (what, keys) in made.look_alikes.items()
    }
    made.look_alikes = {name: (what, keys) for name, (what, keys) in alike.items() if keys}
    for name, common in made.shared.items():
        made.shared[name] = {trait: [key for key in keys if key in made.seen] for trait, keys in common.items()}


def _labels(made: World, file: Path) -> None:
    groups = {name: {"scenario": made.plots[name].scenario, "keys": keys} for name, keys in made.members.items()}
    hard = {name: {"scenario": scenario, "keys": sorted(keys)} for name, (scenario, keys) in made.look_alikes.items()}
    file.write_text(json.dumps({"groups": groups, "hard_negatives": hard}, indent=1) + "\n", encoding="utf-8")


def _plans(kind: str) -> dict[str, dict[str, int]]:
    unit = "tokens_per_day" if kind == "llm" else "records_per_day"
    return {plan.name: {"requests_per_minute": plan.a_minute, unit: plan.a_day} for plan in PLANS[kind]}


def _meta(made: World, done: Written, taken: dict[str, dict[str, Taken]], file: Path) -> None:
    groups: dict[str, Any] = {}
    for name, keys in made.members.items():
        drawn = made.plots[name]
        told = {key: one.told() for key, one in taken[name].items()}
        totals = {
            unit: sum(one[unit][-1] for one in told.values() if one[unit])
            for unit in ("requests", "bytes", "tokens", "records")
        }
        params = {"fam": drawn.scenario, "dom": made.drill.kind, "overlap": drawn.overlap, "cover": drawn.cover}
        params |= {"jitter": drawn.jitter, "duplicates": drawn.duplicates, "share": drawn.share}
        groups[name] = {
            "scenario": drawn.scenario,
            "n_keys": len(keys),
            "n_orgs": len({made.orgs[key] for key in keys}),
            "difficulty": drawn.difficulty,
            "params": params,
            "shared": made.shared[name],
            "totals": totals,
            "taken": told,
        }
    hard = sum(len(keys) for _, keys in made.look_alikes.values())
    meta = {
        "preset": "drill",
        "seed": made.drill.seed,
        "domain": made.drill.kind,
        "drill": asdict(made.drill),
        "scenarios": sorted({one.scenario for one in made.plots.values()}),
        "hard_negatives": sorted({scenario for scenario, _ in made.look_alikes.values()}),
        "t0": made.begin,
        "t1": made.end,
        "events": done.events,
        "malformed_lines": done.malformed,
        "raw_bytes": done.bytes,
        "keys": len(made.orgs),
        "attack_keys": sum(len(keys) for keys in made.members.values()),
        "hard_negative_keys": hard,
        "plans": _plans(made.drill.kind),
        "groups": groups,
        "orgs": made.orgs,
    }
    file.write_text(json.dumps(meta, separators=(",", ":")) + "\n", encoding="utf-8")
