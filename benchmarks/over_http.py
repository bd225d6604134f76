"""What is left of a bare app's throughput behind three limits that count in Redis: real HTTP, beside the peers.

    make bench
    python benchmarks/over_http.py [--seconds 1] [--rounds 5] [--only PART]… [--json FILE]

Each app runs in one uvicorn worker (httptools, uvloop where it is installed), a process of its own on loopback.
They take turns: A B C A B C …, a short round of 32 connections each, and a share is that of the bare app in the same
turn. The load comes from `wrk`, where it is installed, else from a generator of our own, which takes more CPU. Where
there are two cores or more, the worker has the last one to itself, and Redis and the load share the others: so it is
the worker's core that bounds, as on a machine of its own. The worker's CPU a request hardly feels the neighbours.

(Not named http.py: beside the other benchmarks that would hide Python's own `http`.)
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import apps
import uvicorn
from load import Load, by_wrk, from_here
from redis_server import named, server
from rich.console import Console
from rich.table import Table

from asgi import KEYS

LIMITS = 3
CONNECTIONS = 32
SECONDS = 1
ROUNDS = 5
WIDTH = 110
"""Of what is printed where there is no terminal to say it."""

STARTED_WITHIN = 20.0
"""Seconds that a worker may take to answer: all of them start at once on a machine that may be busy."""

SHARE = 0.8
"""What is aimed at: so much of the bare app's throughput is left."""

NOT_INSTALLED = 3
"""How a worker exits whose peer is not there."""

FRONTS = {front.name: front for front in (*apps.HEADGATE, *apps.PEERS)}


@dataclass(slots=True)
class Worker:
    """A process that serves one app, and its rounds (`cpu`: microseconds of its CPU a request, 0 where unknown)."""

    name: str
    floor: str
    process: subprocess.Popen[bytes]
    port: int
    loads: list[Load] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def median(self, of: str) -> float:
        """The median of its rounds."""
        return statistics.median(getattr(each, of) for each in self.loads)

    def share(self, floor: Worker) -> float:
        """The median of its throughput against the floor's of the same turn."""
        return statistics.median(a.rate / b.rate for a, b in zip(self.loads, floor.loads, strict=True))

    def told(self) -> dict[str, Any]:
        """The figures alone."""
        return {
            "name": self.name,
            "floor": self.floor,
            "cpu": self.cpu,
            "loads": [asdict(each) for each in self.loads],
        }

    def used(self) -> float:
        """Seconds of CPU so far; 0 on a system that does not tell."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def serve(name: str, uri: str, port: int) -> None:
    """Serve one app until the process is told to end."""
    config = {"host": "127.0.0.1", "port": port, "http": "httptools", "access_log": False, "log_level": "error"}
    async with AsyncExitStack() as stack:
        if name in FRONTS:
            app = await stack.enter_async_context(FRONTS[name].open(apps.bare(), uri, LIMITS))
        else:
            app = apps.BARE[name.removeprefix("bare ")]()
        await uvicorn.Server(uvicorn.Config(app, **config)).serve()


def loop_factory() -> Any:
    """uvloop's, where it is installed, as uvicorn itself chooses."""
    with suppress(ModuleNotFoundError):
        import uvloop

        return uvloop.new_event_loop
    return None


@contextmanager
def worker(name: str, floor: str, uri: str, cpus: set[int]) -> Iterator[Worker]:
    """A worker that answers. Raises SystemExit if it does not come up."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, __file__, "serve", name, uri, str(port)])
    if cpus:
        os.sched_setaffinity(process.pid, cpus)
    try:
        yield Worker(name, floor, process, port)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()


def awaited(started: Worker) -> bool:
    """Returns when it has served a request; whether what it serves is installed. Raises SystemExit where it fails."""
    end = time.monotonic() + STARTED_WITHIN
    while time.monotonic() < end and started.process.poll() is None:
        with suppress(OSError):
            asking = http.client.HTTPConnection("127.0.0.1", started.port, timeout=5)
            asking.request("GET", "/v1/hello", headers={"authorization": f"Bearer hg_{1:040d}"})
            answer = asking.getresponse()
            asking.close()
            if answer.status != 200:
                raise SystemExit(f"{started.name} answers {answer.status}: the figure would mean nothing")
            return True
        time.sleep(0.05)
    if started.process.poll() == NOT_INSTALLED:
        return False
    raise SystemExit(f"{started.name} did not serve within {STARTED_WITHIN:g} s")


def cores() -> tuple[set[int], set[int]]:
    """The cores of a worker, and those of Redis and the load; two empty sets where they cannot be told apart."""
    if not hasattr(os, "sched_getaffinity"):
        return set(), set()
    *others, last = sorted(os.sched_getaffinity(0))
    return ({last}, set(others)) if others else (set(), set())


def measured(options: argparse.Namespace, uri: str, theirs: set[int], stack: ExitStack) -> list[Worker]:
    """All workers with their rounds. The first turn warms up and is dropped."""
    chosen = [
        front for front in FRONTS.values() if not options.only or any(part in front.name for part in options.only)
    ]
    floors = dict.fromkeys(["Starlette", *[front.floor for front in chosen if front.floor]])
    wanted = [(f"bare {floor}", "") for floor in floors]
    wanted += [(front.name, f"bare {front.floor or 'Starlette'}") for front in chosen]
    workers = [stack.enter_context(worker(name, floor, uri, theirs)) for name, floor in wanted]
    workers = [each for each in workers if awaited(each)]
    script = stack.enter_context(tempfile.TemporaryDirectory())
    keys = [f"Bearer hg_{number:040d}" for number in range(KEYS)]
    for turn in range(options.rounds + 1):
        for each in workers:
            before = each.used()
            if options.wrk:
                load = by_wrk(options.wrk, each.port, keys, CONNECTIONS, options.seconds, Path(script))
            else:
                load = from_here(each.port, keys, CONNECTIONS, options.seconds)
            if load.refused:
                raise SystemExit(
                    f"{each.name}: {load.refused} requests were not served: the figure would mean nothing"
                )
            if turn:
                each.loads.append(load)
                each.cpu.append((each.used() - before) / load.count * 1e6)
    return workers


def table(workers: Sequence[Worker]) -> Table:
    """What was seen."""
    shown = Table(title=f"{LIMITS} limits on Redis, one worker, {CONNECTIONS} connections")
    for heading in ("", "of", "requests/s", "is left", "CPU, µs", "p50, ms", "p99, ms"):
        shown.add_column(heading, justify="right" if heading not in ("", "of") else "left", no_wrap=True)
    by_name = {each.name: each for each in workers}
    for each in workers:
        floor = by_name.get(each.floor)
        shown.add_row(
            each.name, each.floor, f"{each.median('rate'):,.0f}", f"{each.share(floor):.0%}" if floor else "",
            f"{statistics.median(each.cpu):.0f}", f"{each.median('p50'):.2f}", f"{each.median('p99'):.2f}",
        )  # fmt: skip
    return shown


def conclusions(workers: Sequence[Worker]) -> Iterator[str]:
    """What is left of the bare app's throughput, against what is aimed at."""
    by_name = {each.name: each for each in workers}
    for front in apps.HEADGATE:
        if front.name in by_name:
            left = by_name[front.name].share(by_name["bare Starlette"])
            yield f"{front.name}: {left:.0%} is left, ≥ {SHARE:.0%} aimed at: {'met' if left >= SHARE else 'missed'}"
    missing = [name for name in FRONTS if name not in by_name]
    if missing:
        yield f"Not measured (not installed, or not asked for): {'; '.join(missing)}."


def as_worker(name: str, uri: str, port: str) -> None:
    """Be one of the workers."""
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(serve(name, uri, int(port)))
    except ModuleNotFoundError:
        sys.exit(NOT_INSTALLED)


def main() -> None:
    """Measure and print; with `serve …`, be one of the workers."""
    if sys.argv[1:2] == ["serve"]:
        as_worker(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description="What is left of a bare app's throughput behind limits on Redis.")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of one round")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", action="append", default=[], metavar="PART", help="those with PART in their name")
    parser.add_argument("--wrk", default=shutil.which("wrk"), help="its program; '' for our own generator")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures, every round of them")
    options = parser.parse_args()
    theirs, ours = cores()
    if ours:
        os.sched_setaffinity(0, ours)  # the load's own, which wrk inherits
    with server(ours) as uri, ExitStack() as stack:
        where = named(uri)
        workers = measured(options, uri, theirs, stack)
    how = "wrk" if options.wrk else "our own generator"
    pinned = f"the worker on core {max(theirs)}, Redis and the load on the others" if theirs else "no cores set apart"
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(table(workers))
    for line in conclusions(workers):
        console.print(line)
    console.print(
        f"{where}; load from {how}; {pinned}; {options.rounds} rounds of {options.seconds} s each, in turns."
    )
    if options.json:
        figures = {"server": where, "load": how, "pinned": bool(theirs), "apps": [each.told() for each in workers]}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
