"""What is left of a bare app's streaming throughput with its tokens metered: chunks a second, over HTTP and not.

    make bench
    python benchmarks/streams.py [--rounds 7] [--chunks 2000] [--streams 8] [--json FILE]

A stream is an answer of OpenAI's chat completions: chunks of 290 bytes, one `send` each, the usage at the end. Four
bare apps stand for what there is (stream_apps.py): two that hand out bytes that lie ready (the hardest to stand
before: nothing but the server is left to pay for), one that writes its chunks as a model's server does, and a gateway
that relays a model's stream line by line. They take turns in short rounds of one run, and a share is that of the bare
app in the same turn: only shares mean anything on another machine.

Over HTTP each app is one uvicorn worker (httptools, uvloop where it is installed) in a process of its own; the load
reads raw sockets and counts chunks. Where there are two cores or more, the worker has the last one to itself. Beside
the chunks a second stands the worker's CPU a chunk, which hardly feels the neighbours: `by CPU` is the share of the
chunks that a worker could send if nothing else bound it. In process there is no socket, and so nothing but what each
app adds: CPU a chunk, with a `send` that does nothing.

`metered`: all that a stream takes was held before (`reserve: 100k`). `extended`: 64 tokens were, and it asks for more
as it grows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from rich.console import Console
from rich.table import Table
from starlette.types import ASGIApp, Receive
from stream_apps import BARE, BODY, PART, UPSTREAM, metered, relaying

SHARE = 0.9
"""What is aimed at over HTTP: so much of the bare app's throughput is left."""

STARTED_WITHIN = 20.0
"""Seconds that a worker may take to answer."""

FRONTS = {"bare": "", "metered": "100k", "extended": "64"}
"""What is before them: by name, what is held; "" for nothing."""


@dataclass(slots=True)
class Subject:
    """One app with what is before it, and its rounds: chunks a second, and microseconds of CPU a chunk."""

    app: str
    front: str
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    pid: int = 0
    port: int = 0

    def build(self, chunks: int) -> ASGIApp:
        app = BARE[self.app](chunks)
        return metered(app, FRONTS[self.front]) if FRONTS[self.front] else app

    def share(self, floor: Subject) -> float:
        """The median of its throughput against the floor's of the same turn."""
        return statistics.median(a / b for a, b in zip(self.rates, floor.rates, strict=True))

    def added(self, floor: Subject) -> float:
        """Microseconds of CPU that it adds to a chunk."""
        return statistics.median(a - b for a, b in zip(self.cpu, floor.cpu, strict=True))

    def by_cpu(self, floor: Subject) -> float:
        """Its share, if the worker's CPU alone were what bounds; 0 where that is not known."""
        spent = statistics.median(self.cpu)
        return statistics.median(floor.cpu) / spent if spent else 0.0

    def used(self) -> float:
        """Seconds of CPU so far of its worker's one thread; 0 on a system that does not tell."""
        try:
            return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0]) / 1e9
        except (OSError, ValueError):
            return 0.0


def subjects(apps: Iterable[str]) -> list[Subject]:
    """All of them, each bare one before what is measured against it."""
    return [Subject(app, front) for app in apps for front in FRONTS]


async def serve(app: str, front: str, chunks: int, port: int) -> None:
    """Serve one until the process is told to end."""
    options: dict[str, Any] = {"http": "httptools", "access_log": False, "log_level": "error", "lifespan": "off"}
    served = Subject(app, front).build(chunks)
    await uvicorn.Server(uvicorn.Config(served, host="127.0.0.1", port=port, **options)).serve()


def loop_factory() -> Any:
    """uvloop's, where it is installed, as uvicorn itself chooses."""
    with suppress(ModuleNotFoundError):
        import uvloop

        return uvloop.new_event_loop
    return None


@contextmanager
def working(subject: Subject, chunks: int, cpus: set[int]) -> Iterator[None]:
    """A worker that answers. Raises SystemExit if it does not come up."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        subject.port = probe.getsockname()[1]
    command = [sys.executable, __file__, "serve", subject.app, subject.front, str(chunks), str(subject.port)]
    process = subprocess.Popen(command)
    subject.pid = process.pid
    if cpus:
        os.sched_setaffinity(process.pid, cpus)
    try:
        until = time.monotonic() + STARTED_WITHIN
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", subject.port), timeout=1):
                break
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{subject.app}, {subject.front}: does not answer")
            time.sleep(0.02)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()


ASK = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer hg_key\r\n"
    b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
)


async def read(port: int, chunks: int) -> None:
    """One stream, to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(ASK)
    size, found = 0, b""
    while part := await reader.read(262_144):
        size += len(part)
        found = found or part
    writer.close()
    if not found.startswith(b"HTTP/1.1 200") or size < chunks * len(PART):
        raise SystemExit(f"a stream was not served whole: {found[:200]!r}")


async def over_http(subject: Subject, chunks: int, streams: int) -> None:
    """One round of a worker: so many streams at once."""
    used, begun = subject.used(), time.perf_counter()
    await asyncio.gather(*[read(subject.port, chunks) for _ in range(streams)])
    passed, count = time.perf_counter() - begun, chunks * streams
    subject.rates.append(count / passed)
    subject.cpu.append((subject.used() - used) / count * 1e6)


async def in_process(subject: Subject, app: ASGIApp, chunks: int, streams: int) -> None:
    """One round without sockets."""
    sent = 0

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal sent
        sent += 1

    def receiving() -> Receive:
        asked = iter([{"type": "http.request", "body": BODY, "more_body": False}])

        async def receive() -> MutableMapping[str, Any]:
            message = next(asked, None)
            if message is None:
                await asyncio.Event().wait()
            return message or {}

        return receive

    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": "/v1/chat/completions", "raw_path": b"/v1/chat/completions", "query_string": b"",
        "root_path": "", "client": ("192.0.2.7", 40_000), "server": ("127.0.0.1", 8_000),
        "headers": [(b"host", b"x"), (b"authorization", b"Bearer hg_key"), (b"content-type", b"application/json")],
    }  # fmt: skip
    used, begun = time.process_time(), time.perf_counter()
    await asyncio.gather(*[app(dict(scope), receiving(), send) for _ in range(streams)])
    passed, count = time.perf_counter() - begun, chunks * streams
    if sent < count:
        raise SystemExit(f"{subject.app}, {subject.front}: was not served")
    subject.rates.append(count / passed)
    subject.cpu.append((time.process_time() - used) / count * 1e6)


async def measured(rounds: int, chunks: int, streams: int) -> tuple[list[Subject], list[Subject]]:
    """All of them, over HTTP and in process, in turns; the first round warms up and is dropped."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    own = {cores[-1]} if len(cores) > 1 else set[int]()
    wired, alone = subjects(BARE), subjects([app for app in BARE if BARE[app] is not relaying])
    apps = [(subject, subject.build(chunks)) for subject in alone]
    with ExitStack() as stack:
        model = Subject("plain ASGI, ready chunks", "bare")
        stack.enter_context(working(model, chunks, set(cores) - own))
        os.environ[UPSTREAM] = f"http://127.0.0.1:{model.port}/v1/chat/completions"
        for subject in wired:
            stack.enter_context(working(subject, chunks, own))
        if own:
            os.sched_setaffinity(0, set(cores) - own)
        for _ in range(rounds + 1):
            for subject in wired:
                await over_http(subject, chunks, streams)
        if own:
            os.sched_setaffinity(0, set(cores))
    for _ in range(rounds + 1):
        for subject, app in apps:
            await in_process(subject, app, chunks, streams)
    for subject in (*wired, *alone):
        del subject.rates[0], subject.cpu[0]
    return wired, alone


WIDTH = 110
"""Of what is printed where there is no terminal to say it."""


def shown(title: str, found: Sequence[Subject]) -> Table:
    """A table of them."""
    table = Table(title=title)
    for name in ("", "", "chunks/s", "of bare", "by CPU", "CPU, µs a chunk", "added"):
        table.add_column(name, justify="left" if not name else "right")
    floor = found[0]
    for subject in found:
        floor = subject if subject.front == "bare" else floor
        cpu, rate = statistics.median(subject.cpu), statistics.median(subject.rates)
        told = [f"{subject.share(floor):.2f}", f"{subject.by_cpu(floor):.2f}", f"{subject.added(floor):.1f}"]
        share, by_cpu, added = ["", "", ""] if subject is floor else told
        table.add_row(subject.app, subject.front, f"{rate:,.0f}", share, by_cpu, f"{cpu:.1f}", added)
    return table


def figures(found: Sequence[Subject]) -> list[dict[str, Any]]:
    """The same for machines: each with its share of the bare one."""
    rows, floor = [], found[0]
    for subject in found:
        floor = subject if subject.front == "bare" else floor
        shares = {"share": subject.share(floor), "by_cpu": subject.by_cpu(floor), "added": subject.added(floor)}
        rows.append({**asdict(subject), **shares})
    return rows


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["serve"]:
        app, front, chunks, port = sys.argv[2:]
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(serve(app, front, int(chunks), int(port)))
        return
    options = argparse.ArgumentParser(description="Streaming throughput with tokens metered.")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--chunks", type=int, default=2_000)
    options.add_argument("--streams", type=int, default=8)
    options.add_argument("--json", type=Path, default=None)
    given = options.parse_args()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        wired, alone = runner.run(measured(given.rounds, given.chunks, given.streams))
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(shown(f"Streams over uvicorn (aimed at: {SHARE} of bare)", wired))
    console.print(shown("In process", alone))
    if given.json is not None:
        told = {"http": figures(wired), "process": figures(alone)}
        given.json.write_text(json.dumps(told))


if __name__ == "__main__":
    main()
