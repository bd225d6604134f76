"""What one decision costs over Redis: one, three and six limits, one caller and 64, beside the peers and the floors.

    make bench
    python benchmarks/decisions.py [--seconds 0.3] [--rounds 5] [--only PART]… [--json FILE]

The server is a process of its own (`redis_server`), so that the client's CPU is the client's alone. Throughput and
latency feel every neighbour on the machine; CPU a decision does much less, and least the last column: it stands
against one `EVALSHA` of a script that does nothing, sent by redis-py, in the same turn (`turns`). `±` is half of what
lies between the quartiles of the throughput. Latency is as a caller sees it: of many at once, most of it is waiting
for the others. Every figure holds the loop of the caller that asks, about 2 µs of CPU.

Then the same in process through whole middlewares: an ASGI call from scope to the last message, without sockets to
the client, and CPU added to the bare app of the same turn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import MutableMapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import apps
import peers
from redis_server import named, server, spent
from rich.console import Console
from rich.table import Table
from turns import Ask, Cell, take_turns

from asgi import receive, scope_for

SECONDS = 0.3
ROUNDS = 5
CALLERS = (1, 64)
REQUESTS_AT_ONCE = 32
LIMITS_OF_A_REQUEST = 3
WIDTH = 116
"""Of what is printed where there is no terminal to say it."""

CPU_OF_EVALSHA = 0.25
P50_OF_EVALSHA = 1.2
P50_OF_SIX = 500.0
ADDED = 60.0
"""What is aimed at: with three limits CPU at 64 callers and latency of one alone, both against one EVALSHA; with six
limits microseconds of one alone; and microseconds of CPU that the middleware adds to a request. Beside them
`times_the_best_peer` of each subject."""


async def decisions(stack: AsyncExitStack, uri: str, only: Sequence[str], missing: list[str]) -> list[Cell]:
    """The cells of the first part. Who is not installed is noted in `missing`."""
    cells: list[Cell] = []
    for subject in (*peers.FLOORS, *peers.HEADGATE, peers.ONE_BY_ONE, *peers.PEERS):
        if subject is not peers.EVALSHA and not wanted(subject.name, only):
            continue
        try:
            for limits in subject.counts:
                decide = await stack.enter_async_context(subject.way(uri, limits))
                ask = partial(by_number, decide)
                # What gathers many by itself is one caller.
                callers = CALLERS if subject.at_once == 1 else CALLERS[:1]
                cells += [Cell(subject.name, limits, each, ask, subject.at_once) for each in callers]
        except ModuleNotFoundError as fault:
            missing.append(f"{subject.name} ({fault.name})")
    return cells


def by_number(decide: peers.Decide, number: int) -> Any:
    """Asks for the key of that number."""
    return decide(peers.NAMES[number % peers.KEYS])


async def requests(
    stack: AsyncExitStack, uri: str, only: Sequence[str], missing: list[str]
) -> list[tuple[Cell, Cell]]:
    """The cells of the second part, each with its floor."""
    bare: dict[str, Cell] = {}
    pairs: list[tuple[Cell, Cell]] = []
    for front in (apps.DICTIONARY, *apps.HEADGATE, *apps.PEERS):
        if front is not apps.DICTIONARY and not wanted(front.name, only):
            continue
        try:
            app = await stack.enter_async_context(front.open(apps.answer, uri, LIMITS_OF_A_REQUEST))
            if front.floor not in bare:
                below = apps.BARE[front.floor]() if front.floor else apps.answer
                bare[front.floor] = Cell(f"bare {front.floor or 'ASGI'}", 0, REQUESTS_AT_ONCE, served_by(below))
            cell = Cell(front.name, LIMITS_OF_A_REQUEST, REQUESTS_AT_ONCE, served_by(app))
            pairs.append((cell, bare[front.floor]))
        except ModuleNotFoundError as fault:
            missing.append(f"{front.name} ({fault.name})")
    return pairs


def served_by(app: Any) -> Ask:
    """One request of a key, from its scope to the last message; whether it was answered by 200."""

    async def ask(number: int) -> bool:
        status = 0

        async def send(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]

        await app(scope_for(number), receive, send)
        return status == 200

    return ask


def wanted(name: str, only: Sequence[str]) -> bool:
    """Whether a subject is among those asked for; none asked for is all."""
    return not only or any(part in name for part in only)


def table(cells: list[Cell], callers: int) -> Table:
    """The decisions of so many callers; what gathers by itself stands with the many."""
    shown = Table(title=f"{'one caller alone' if callers == 1 else f'{callers} callers at once'}: a decision (µs)")
    for heading in ("", "limits", "a second", "±", "p50", "p99", "server", "CPU", "of EVALSHA"):
        shown.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    floor = floor_of(cells, callers)
    chosen = sorted((cell for cell in cells if cell.callers * cell.at_once == callers), key=lambda cell: cell.limits)
    for number, cell in enumerate(chosen):
        if number and cell.limits != chosen[number - 1].limits:
            shown.add_section()
        shown.add_row(
            cell.name, str(cell.limits or "–"), f"{cell.median('rate'):,.0f}", f"{cell.noise:.0%}",
            f"{cell.median('p50'):,.0f}", f"{cell.median('p99'):,.0f}", f"{cell.median('server'):.1f}",
            f"{cell.median('cpu'):.1f}", f"{cell.of(floor):.2f} ×",
        )  # fmt: skip
    return shown


def floor_of(cells: Sequence[Cell], callers: int) -> Cell:
    """The EVALSHA that the decisions of so many callers are held against."""
    return next(cell for cell in cells if cell.name == peers.EVALSHA.name and cell.callers == callers)


def added(pairs: list[tuple[Cell, Cell]]) -> Table:
    """The second part."""
    shown = Table(title=f"{LIMITS_OF_A_REQUEST} limits, {REQUESTS_AT_ONCE} requests at once: CPU added to a request")
    for heading in ("", "on", "added, µs", "±", "requests a second", "p50, µs", "p99, µs"):
        shown.add_column(heading, justify="right" if heading not in ("", "on") else "left", no_wrap=True)
    for cell, floor in pairs:
        shown.add_row(
            cell.name, floor.name, f"{cell.beyond(floor):.1f}", f"{cell.noise:.0%}", f"{cell.median('rate'):,.0f}",
            f"{cell.median('p50'):,.0f}", f"{cell.median('p99'):,.0f}",
        )  # fmt: skip
    return shown


class Targets:
    """What is aimed at, and what was seen."""

    def __init__(self, cells: list[Cell]) -> None:
        self.table = Table(title="against what is aimed at")
        for heading in ("", "aim", "seen", " "):
            self.table.add_column(heading, justify="right" if heading.strip() else "left")
        self._cells = cells
        self._at = {(cell.name, cell.limits, cell.callers): cell for cell in cells}

    def row(self, name: str, seen: float, aim: float, unit: str = "×", *, least: bool = False) -> None:
        """One of them; `least`: what is seen should be no less."""
        met = seen >= aim if least else seen <= aim
        aimed = f"{'≥' if least else '≤'} {aim:g} {unit}"
        self.table.add_row(name, aimed, f"{seen:.2f} {unit}", "met" if met else "missed")

    def decisions(self) -> None:
        """Those of the first part."""
        (one, many), at = CALLERS, self._at
        rivals = [at[peer.name, 3, many] for peer in peers.PEERS if (peer.name, 3, many) in at]
        best = max(rivals, key=lambda rival: rival.median("rate"), default=None)
        for ours in peers.HEADGATE:
            if (ours.name, 3, many) not in at:
                continue
            at_once, alone = at[ours.name, 3, many], at[ours.name, 3, one]
            of_one = at_once.of(floor_of(self._cells, many))
            self.row(f"{ours.name}: CPU, {many} callers, of one EVALSHA's", of_one, CPU_OF_EVALSHA)
            if best is not None:
                times = at_once.of(best, "rate")
                self.row(f"{ours.name}: {many} callers, of {best.name}", times, ours.times_the_best_peer, least=True)
            p50 = alone.of(floor_of(self._cells, one), "p50")
            self.row(f"{ours.name}: p50 alone, of one EVALSHA's", p50, P50_OF_EVALSHA)
            self.row(f"{ours.name}: p50 alone, six limits", at[ours.name, 6, one].median("p50"), P50_OF_SIX, "µs")

    def requests(self, pairs: list[tuple[Cell, Cell]]) -> None:
        """Those of the second part."""
        ours = {front.name for front in apps.HEADGATE}
        for cell, floor in pairs:
            if cell.name in ours:
                self.row(f"{cell.name}: CPU added to a request", cell.beyond(floor), ADDED, "µs")


async def measured(uri: str, options: argparse.Namespace) -> tuple[list[Cell], list[tuple[Cell, Cell]], list[str]]:
    """Both parts, and who is missing."""
    missing: list[str] = []
    async with AsyncExitStack() as stack:
        cells = await decisions(stack, uri, options.only, missing)
        pairs = await requests(stack, uri, options.only, missing)
        # What is compared stands side by side in a turn.
        asked = sorted(cells, key=lambda cell: (cell.callers * cell.at_once, cell.limits))
        asked += [*dict.fromkeys([floor for _, floor in pairs]), *[cell for cell, _ in pairs]]
        await take_turns(asked, options.seconds, options.rounds, partial(spent, uri))
    return cells, pairs, missing


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What one decision costs over Redis.")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of one round")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", action="append", default=[], metavar="PART", help="those with PART in their name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures, every round of them")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    with server() as uri:
        where = named(uri)
        cells, pairs, missing = asyncio.run(measured(uri, options))
    for callers in CALLERS:
        console.print(table(cells, callers))
    console.print(added(pairs))
    targets = Targets(cells)
    targets.decisions()
    targets.requests(pairs)
    console.print(targets.table)
    console.print(f"{where}; {options.rounds} rounds of {options.seconds:g} s each, in turns.")
    if missing:
        console.print(f"Not installed, so not measured: {', '.join(missing)}.")
    if options.json:
        figures = {
            "server": where, "decisions": [cell.told() for cell in cells],
            "requests": [{**cell.told(), "added": cell.beyond(floor), "floor": floor.name} for cell, floor in pairs],
        }  # fmt: skip
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
