"""Turns: every subject runs a short round, one after the other, and the turns go round: A B C A B C ….

So what a neighbour on the machine disturbs falls on all of them, and two subjects are compared within a turn. The
figures are medians of a subject's rounds. In a round every caller asks again as soon as it is answered, until the
time is over.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

WARM_UP = 0.1
"""Seconds for which each turn runs before it counts: what has lapsed since the subject was last asked is there again,
and so are connections and scripts."""

Ask = Callable[[int], Awaitable[bool]]
"""Asks for the key of that number, and tells whether it was granted."""

Spent = Callable[[], float]
"""Seconds of CPU that the server has used so far."""


@dataclass(frozen=True, slots=True)
class Round:
    """One turn of one subject. Microseconds each, but for `rate`, which is how many a second."""

    rate: float
    cpu: float
    server: float
    p50: float
    p99: float


@dataclass(slots=True, eq=False)
class Cell:
    """What is measured: a subject's `ask` with so many limits and callers; each `ask` is `at_once` decisions."""

    name: str
    limits: int
    callers: int
    ask: Ask
    at_once: int = 1
    rounds: list[Round] = field(default_factory=list)

    def median(self, of: str) -> float:
        """The median of its rounds."""
        return statistics.median(getattr(each, of) for each in self.rounds)

    @property
    def noise(self) -> float:
        """Half of what lies between the quartiles of its rates, against their median."""
        if len(self.rounds) < 2:
            return 0.0
        low, middle, high = statistics.quantiles([each.rate for each in self.rounds], n=4)
        return (high - low) / 2 / middle

    def of(self, floor: Cell, what: str = "cpu") -> float:
        """The median of its own against the floor's of the same turn."""
        pairs = zip(self.rounds, floor.rounds, strict=True)
        return statistics.median(getattr(a, what) / getattr(b, what) for a, b in pairs)

    def beyond(self, floor: Cell) -> float:
        """The median of its CPU less the floor's of the same turn."""
        return statistics.median(a.cpu - b.cpu for a, b in zip(self.rounds, floor.rounds, strict=True))

    def told(self) -> dict[str, Any]:
        """The figures alone."""
        return {
            "name": self.name, "limits": self.limits, "callers": self.callers, "at_once": self.at_once,
            "noise": self.noise, "rounds": [asdict(each) for each in self.rounds],
            **{of: self.median(of) for of in ("rate", "cpu", "server", "p50", "p99")},
        }  # fmt: skip


async def turn(cell: Cell, seconds: float, spent: Spent) -> Round:
    """One round of one cell. Raises SystemExit if anything was refused: the figure would mean nothing."""
    took: list[float] = []
    clock, ask, callers = time.perf_counter, cell.ask, cell.callers

    async def caller(number: int, end: float) -> None:
        while (begun := clock()) < end:
            if not await ask(number):
                raise SystemExit(f"{cell.name} refused: the figure would mean nothing")
            took.append(clock() - begun)
            number += callers

    async def callers_until(end: float) -> None:
        await asyncio.gather(*[caller(number, end) for number in range(callers)])

    await callers_until(clock() + min(WARM_UP, seconds))
    took.clear()
    gc.collect()
    served = spent()
    begun, used = clock(), time.process_time()
    await callers_until(begun + seconds)
    used, passed = time.process_time() - used, clock() - begun
    served = spent() - served
    count = len(took) * cell.at_once
    cuts = statistics.quantiles(took, n=100) if len(took) > 1 else took * 99
    return Round(count / passed, used / count * 1e6, served / count * 1e6, cuts[49] * 1e6, cuts[98] * 1e6)


async def take_turns(cells: Sequence[Cell], seconds: float, rounds: int, spent: Spent) -> None:
    """So many rounds for each cell, in turns."""
    for _ in range(rounds):
        for cell in cells:
            cell.rounds.append(await turn(cell, seconds, spent))
