"""Workers whose ledger goes away: what each request was answered, how long that took, and how late this machine was.

Law: a request must be answered by its deadline, whatever has become of the store. What the machine takes away from
this process by serving others is measured beside it, and is no request's fault; but only if the usual request, with
nothing taken off, is in time as well.
"""

from __future__ import annotations

import asyncio
import gc
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from chaos.house import House, Origin, house, secret_of
from headgate.errors import StoreError

DEADLINE_MS = 25
"""As long as a worker waits for its store by default."""

GRACE = 0.010
"""Seconds by which a decision may come after the deadline."""

MARGIN = 0.010
"""Seconds more for what the metronome does not see: the steps of a request that stand behind those of others."""

TICK = 0.002

PATIENCE = 30.0
"""Seconds until a ledger that is there must have answered."""

WAYS = ("open", "closed", "local")

LIMIT = 100
"""What a limit grants whose worker has a share: a tenth of it."""

SHARE = 10

PLENTY = 1_000_000


def policy(way: str, limit: int) -> str:
    """So many requests a day for each key, each of which holds a place while it is served; and what is done without
    the store."""
    return f"""\
headgate: v1
policy: outage
mode: enforce
on_store_error: {way}
identify: {{key: [header.x-api-key], directory: "python:chaos.house:whose", anonymous: refuse}}
limits:
  calls: {{meter: requests, per: key, quota: {limit}/day, anchor: first_use}}
  streams: {{meter: streams, per: key, max: 10k, lease: 10s}}
"""


class Told(NamedTuple):
    """What one request was answered: when it was made (the loop's time), how long it took until the answer began, and
    the answer."""

    begun: float
    took: float
    status: int
    headers: dict[bytes, bytes]


class App(Origin):
    """The protected app; counts apart how requests came in: "" by the ledger's grant, `open` and `local` without."""

    def __init__(self) -> None:
        super().__init__()
        self.let_in: Counter[str] = Counter()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.let_in[scope["state"]["headgate"].degraded] += 1
        await super().__call__(scope, receive, send)


class Worker:
    """A house, its app, and one caller of its own."""

    def __init__(self, way: str, org: str, one: House, app: App) -> None:
        self.way = way
        self.house = one
        self.app = app
        self.secret = secret_of(org)

    async def asked(self) -> Told:
        """One request."""
        time, answered = asyncio.get_running_loop().time, list[float]()
        begun = time()
        status, headers = await self.house.answer(self.secret, begins=lambda: answered.append(time()))
        return Told(begun, answered[0] - begun, status, headers)

    async def in_touch(self, within: float = PATIENCE) -> float:
        """Ask until the ledger has granted it; how long (seconds) that took."""
        loop = asyncio.get_running_loop()
        begun, before = loop.time(), self.app.let_in[""]
        while self.app.let_in[""] == before:
            assert loop.time() - begun < within, f"{self.way}: the ledger grants nothing within {within:g} s"
            await self.asked()
            await asyncio.sleep(0.005)
        return loop.time() - begun

    async def charged(self) -> int:
        """What the ledger says, once nothing is owed to it any more."""
        until = asyncio.get_running_loop().time() + PATIENCE
        while True:
            try:
                return (await self.house.quiet(self.secret))["calls"][0]
            except StoreError:  # this machine is busy, and the deadline short
                assert asyncio.get_running_loop().time() < until


class Staff:
    """Makes workers of one ledger, within `async with`."""

    def __init__(self, store: str, folder: Path, *, deadline_ms: int = DEADLINE_MS) -> None:
        self.store = store
        self._folder = folder
        self._deadline_ms = deadline_ms
        self._stack = AsyncExitStack()
        self._number = 0

    async def __aenter__(self) -> Staff:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def worker(self, way: str, limit: int = PLENTY, org: str = "") -> Worker:
        """One more; it has not spoken to its ledger yet. `org`: whose requests it gets, if others get them, too."""
        self._number += 1
        file, app = self._folder / f"{way}-{limit}.yaml", App()
        file.write_text(policy(way, limit))
        opened = house(self.store, file, origin=app, deadline_ms=self._deadline_ms)
        one = await self._stack.enter_async_context(opened)
        return Worker(way, org or f"org-{self._number}", one, app)

    async def one_of_each(self) -> list[Worker]:
        """A worker for each way, and a second one for `local`, whose share is each worker's own."""
        return [await self.worker(way, LIMIT if way == "local" else PLENTY) for way in (*WAYS, "local")]


async def at_a_rate(workers: Sequence[Worker], rate: float, seconds: float) -> dict[Worker, list[Told]]:
    """Requests to all workers in turn, so many a second together, whether or not they are answered."""
    loop = asyncio.get_running_loop()
    begun, number = loop.time(), 0
    asked: list[tuple[Worker, asyncio.Task[Told]]] = []
    while (now := loop.time() - begun) < seconds:
        while number < now * rate:
            worker = workers[number % len(workers)]
            asked.append((worker, asyncio.create_task(worker.asked())))
            number += 1
        await asyncio.sleep(0.5 / rate)
    told: dict[Worker, list[Told]] = {worker: [] for worker in workers}
    for worker, task in asked:
        told[worker].append(await task)
    return told


class Metronome:
    """Ticks beside what is measured, and knows when the loop could not."""

    def __init__(self) -> None:
        self._due: list[float] = []
        self._came: list[float] = []

    async def run(self) -> None:
        """Tick until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK
            await asyncio.sleep(TICK)
            if (came := loop.time()) - due > TICK / 4:
                self._due.append(due)
                self._came.append(came)

    def late(self, begun: float, ended: float) -> float:
        """For how long (seconds) of this time the loop ran late."""
        late, at = 0.0, bisect_left(self._came, begun)
        while at < len(self._due) and self._due[at] < ended:
            late += min(ended, self._came[at]) - max(begun, self._due[at])
            at += 1
        return late

    def punctual(self, told: Iterable[Told], deadline: float = DEADLINE_MS / 1_000) -> None:
        """Each was answered by its deadline: the usual one as it is, every one without what the loop was late."""
        told = list(told)
        took = sorted(one.took for one in told)
        assert took[len(took) // 2] <= deadline + GRACE, f"the usual request waited {took[len(took) // 2]:.3f} s"
        for one in told:
            own = one.took - self.late(one.begun, one.begun + one.took)
            assert own <= deadline + GRACE + MARGIN, f"{one.status}: {own:.3f} of {one.took:.3f} s were its own"


@asynccontextmanager
async def metronome() -> AsyncIterator[Metronome]:
    """One that ticks meanwhile, in a process that does not stop to look for garbage."""
    ticking = Metronome()
    with uncollected():
        task = asyncio.create_task(ticking.run())
        try:
            yield ticking
        finally:
            await asyncio.sleep(2 * TICK)  # the lateness of the last request is known a tick later
            task.cancel()


@contextmanager
def uncollected() -> Iterator[None]:
    """What other tests have left is not gone through again and again meanwhile."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def by_the_policy(
    told: dict[Worker, list[Told]], before: dict[Worker, Counter[str]], *, at_times: bool = False
) -> None:
    """What was answered while the ledger was away is what each limit's `on_store_error` says, and nothing else.
    `at_times`: it was there in between."""
    for worker, answers in told.items():
        statuses = Counter(one.status for one in answers)
        let_in = worker.app.let_in - before[worker]
        assert at_times or not let_in[""]
        if worker.way == "open":
            assert set(statuses) <= {200}
            assert set(let_in) <= {"", "open"}, "who was let in without the ledger is marked so"
        elif worker.way == "closed":
            assert set(statuses) <= {200, 503}, "an outage is no quota: never a 429"
            assert set(let_in) <= {""}
        else:
            assert set(statuses) <= ({200, 429, 503} if at_times else {200, 503})
            assert worker.app.let_in["local"] <= SHARE, "a tenth of the limit for each worker"
            assert at_times or worker.app.let_in["local"] == SHARE or not statuses[503]
        turned_away(one for one in answers if one.status == 503)


def turned_away(told: Iterable[Told]) -> None:
    """Who is turned away is told when to come back: in 1 to 5 seconds, and not all at one moment."""
    waits = [int(one.headers[b"retry-after-ms"]) for one in told]
    assert all(1_000 <= wait < 5_000 for wait in waits)
    if len(waits) > 50:
        assert len(set(waits)) > len(waits) // 3
        assert max(waits) - min(waits) > 2_000


def let_in(workers: Iterable[Worker]) -> dict[Worker, Counter[str]]:
    return {worker: Counter(worker.app.let_in) for worker in workers}


async def squared(worker: Worker) -> None:
    """The ledger was charged what it granted; of who was let in without it, it knows at most that they came.

    Where it was away for less than ten seconds: longer, and nobody can tell any more what is to be undone."""
    charged, granted = await worker.charged(), worker.app.let_in[""]
    if worker.way == "open":
        assert granted <= charged <= granted + worker.app.let_in["open"]
    else:
        assert charged == granted
