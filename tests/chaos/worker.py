"""A worker process: a whole headgate before an app that counts. It is told what to do, one order a line.

`python worker.py COUNT`: COUNT is the file in which the app counts. Orders and answers are JSON, one a line:

    {"do": "open", "store": URI, "policy": FILE, "hours": 0}     opens a gate; its clock is so many hours off
    {"do": "ask", "secret": …, "times": n, "tasks": n, "address": …}     answers the statuses: {"200": n, "429": n}
    {"do": "hold", "secret": …, "times": n, "address": …}        answers when so many requests are being served, or refused
    {"do": "let go"}                                             lets them be answered: their statuses
    {"do": "close"}
"""  # noqa: E501

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos.house import House, Origin, house

HOUR = 3_600


class Worker:
    def __init__(self, file: Path) -> None:
        self.origin = Origin(file)
        self.stack = AsyncExitStack()
        self.house: House | None = None
        self.held: list[asyncio.Task[int]] = []

    async def told(self, order: dict[str, Any]) -> Any:
        name = order.pop("do").replace(" ", "_")
        return await getattr(self, name)(**order)

    async def open(self, store: str, policy: str, hours: float = 0) -> None:
        await self.close()
        set_clock(hours)
        self.house = await self.stack.enter_async_context(house(store, Path(policy), origin=self.origin))

    async def close(self) -> None:
        await self.stack.aclose()

    async def ask(self, secret: str, times: int, tasks: int, address: str) -> Counter[int]:
        assert self.house is not None
        return await self.house.asked(secret, times, tasks, address)

    async def hold(self, secret: str, times: int, address: str) -> int:
        assert self.house is not None
        self.origin.holding = True
        before = self.origin.served
        self.held = [asyncio.create_task(self.house.status(secret, address)) for _ in range(times)]
        while self.origin.served - before + sum(task.done() for task in self.held) < times:
            await asyncio.sleep(0.001)
        return self.origin.served - before

    async def let_go(self) -> Counter[int]:
        self.origin.let_go.set()
        return Counter(await asyncio.gather(*self.held))


REAL = time.time_ns, time.time


def set_clock(hours: float) -> None:
    """This process's wall clock is off by so much, as on a machine whose clock was never set."""
    off = hours * HOUR
    time.time_ns = lambda: REAL[0]() + int(off * 10**9)
    time.time = lambda: REAL[1]() + off


async def main(file: Path) -> None:
    worker = Worker(file)
    while line := await asyncio.to_thread(sys.stdin.readline):
        answer = await worker.told(json.loads(line))
        print(json.dumps(answer), flush=True)
    await worker.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
