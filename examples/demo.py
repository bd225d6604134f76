"""`make demo`: a real server, real clients, and a count of what was served held against what was allowed.

It makes the keys of four orgs (two of which are one customer), starts `llm_gateway` under uvicorn with two workers
that share a ledger, and asks it for more than it may give, with OpenAI's own client, streaming and not; now
and then a client walks away in the middle of a stream. At the end the origin's own log is counted: the exit code is
0 if the origin served exactly what the policy allows, 1 if not, 130 if it was stopped before.

    DEMO_SECONDS=30 python examples/demo.py [--json] [--kill] [--mode shadow] [--store redis]

`--kill` kills one worker half way with SIGKILL; the count must still be right. `--mode shadow` lets everything pass:
the verdict must then be that the origin served too much. A check that cannot fail proves nothing. `--store redis`
keeps the ledger in a Redis or Valkey that is started for the demo alone, instead of a SQLite file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from demo_callers import CAST, Caller, introduced, used
from demo_screen import Screen, summary
from demo_sheet import Sheet
from demo_stage import Server, Stage, Unready, ledger, serving
from demo_tally import Tally, origin, tally
from rich.console import Console

SETTLING = 30.0
"""Seconds within which all that was held must be settled; a killed worker's share is, when its lease ends."""

LONGEST = 3600
"""Seconds of the longest demo: an hour into it, a window of a day might end and make the count hard to read."""

BETWEEN_LOOKS = 1.0
"""Seconds between two questions about usage."""


@dataclass
class Demo:
    """One run, in order. `ended` is set when its time is up or somebody stops it."""

    stage: Stage
    seconds: float
    console: Console
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def played(self) -> Tally | None:
        """The whole demo; None if it was stopped before anything was asked."""
        sheet = Sheet(self.stage.policy)
        screen = Screen(self.console, sheet, self.seconds)
        screen.cast(CAST, self.stage.ledger[1])
        secrets = [await self.stage.new_key(o.name, o.plan) for o in CAST for _ in range(o.keys) if not self.stopped]
        if self.stopped:
            return None
        async with serving(self.stage) as (server, url), httpx.AsyncClient(base_url=url, trust_env=False) as client:
            callers = [await introduced(client, sheet, secret) for secret in secrets]
            if self.stopped:
                return None
            begun = time.time()
            async with asyncio.TaskGroup() as tasks:
                for caller in callers:
                    tasks.create_task(caller.drive(url, self.ended))
                tasks.create_task(self._watched(screen, callers, client))
                killing = tasks.create_task(self._killed(server, screen))
            elapsed = time.time() - begun
            await _settled(callers, client)
            if complaints := server.complaints():
                screen.say(f"the server complained:\n{complaints}")
        seen = [(caller.account, caller.seen) for caller in callers]
        return tally(sheet, seen, origin(self.stage.log), used(callers), elapsed, killing.result())

    @property
    def stopped(self) -> bool:
        """Whether there is nothing more to ask."""
        return self.ended.is_set()

    async def _watched(self, screen: Screen, callers: Sequence[Caller], client: httpx.AsyncClient) -> None:
        """Show how things stand until the time is up."""
        until = time.monotonic() + self.seconds
        with screen:
            while not self.stopped and (left := until - time.monotonic()) > 0:
                await _asked_usage(callers, client)
                screen.show(callers, left)
                await self._pause(min(BETWEEN_LOOKS, left))
        self.ended.set()

    async def _killed(self, server: Server, screen: Screen) -> bool:
        """From half way on, kill a worker in the middle of an answer, if that was asked for; whether it was done."""
        if not self.stage.kill:
            return False
        await self._pause(self.seconds / 2)
        while not self.stopped:
            worker = server.busy_worker()
            if worker is not None:
                os.kill(worker, signal.SIGKILL)
                screen.note(f"worker {worker} was killed with kill -9; uvicorn starts another in its place")
                return True
            await self._pause(0.005)
        return False

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), seconds)


async def _asked_usage(callers: Sequence[Caller], client: httpx.AsyncClient) -> None:
    for caller in callers:
        await caller.ask_usage(client)


async def _settled(callers: Sequence[Caller], client: httpx.AsyncClient) -> None:
    """Wait until nothing is held: what is under way when clients stop is settled behind their backs."""
    until = time.monotonic() + SETTLING
    while time.monotonic() < until:
        await _asked_usage(callers, client)
        if not any(row["held"] for caller in callers for row in caller.usage):
            return
        await asyncio.sleep(0.1)
    raise Unready("what is held by requests that have ended is not settled")


async def staged(options: argparse.Namespace, seconds: float, console: Console) -> Tally | None:
    """Run the demo in a folder of its own. The first ctrl-C ends it early and in order, the second at once."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    with tempfile.TemporaryDirectory(prefix="headgate-demo-") as folder, ledger(options.store, Path(folder)) as kept:
        demo = Demo(Stage(Path(folder), options.mode, options.kill, kept), seconds, console)

        def interrupted() -> None:
            if demo.stopped and task is not None:
                task.cancel()
            demo.ended.set()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, interrupted)
        return await demo.played()


def main() -> int:
    """The command; answers the exit code."""
    parser = argparse.ArgumentParser(description="Drive a limited LLM API; hold what it served against its policy.")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object and nothing else")
    parser.add_argument("--kill", action="store_true", help="kill one of the two workers half way")
    parser.add_argument("--mode", choices=("enforce", "shadow"), default="enforce", help="shadow refuses nobody")
    parser.add_argument("--store", choices=("sqlite", "redis"), default="sqlite", help="where the ledger is kept")
    options = parser.parse_args()
    try:
        seconds = float(os.environ.get("DEMO_SECONDS") or 30)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST:
        parser.error(f"DEMO_SECONDS is not a number of seconds, above 0 and at most {LONGEST}")
    # The figures for machines have standard output to themselves; what happens meanwhile is not for them.
    console = Console(stderr=True, quiet=True) if options.json else Console(highlight=False)
    try:
        found = asyncio.run(staged(options, seconds, console))
    except Unready as reason:
        print(f"demo: {reason}", file=sys.stderr)
        return 1
    except (asyncio.CancelledError, KeyboardInterrupt):
        found = None
    if found is None:
        print("demo: stopped", file=sys.stderr)
        return 130
    if options.json:
        print(json.dumps({"mode": options.mode, **found.figures()}, indent=2))
    else:
        summary(found, console)
    return 0 if found.holds else 1


if __name__ == "__main__":
    sys.exit(main())
