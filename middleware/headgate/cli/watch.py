"""`headgate watch`: look at what the workers of a fleet have seen, and say which keys belong together.

Law: it serves nobody and delays nobody. What it finds goes into the register, from which every worker has it within
seconds; what it learnt outlives it. Any number may run: one leads, the others stand by.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.policies import Policies, policy_of, settings
from headgate.cli.screen import note
from headgate.errors import HeadgateError, IdentityError, PolicyError, StoreError

if TYPE_CHECKING:
    from headgate.policy import Policy
    from headgate.settings import Settings
    from headgate.watch import Watcher

RELOAD = 5.0
"""Seconds between two looks at the policy: from which probability on a finding counts."""


def watch(
    once: Annotated[bool, typer.Option("--once", help="Look at what is there, say what was found, and end.")] = False,
    policies: Policies = None,
) -> None:
    """Look at what workers have seen, and publish which keys belong together. Runs until it is stopped.

    Needed beside Redis or Valkey. Beside SQLite a worker does it, unless HEADGATE_WATCH is `apart`.
    """
    from headgate.telemetry import log_to
    from headgate.watch import watches

    said = settings(policies)
    policy = policy_of(said)
    if said.store.startswith("memory:"):
        raise IdentityError("memory:// is each process's own: what workers saw cannot be looked at from here")
    if not watches(policy):
        raise IdentityError(
            f"the policy `{policy.name}` asks for no linked keys: write `linking: {{states: …}}` first"
        )
    log_to(said.log or "stderr", said.log_level)
    asyncio.run(_watched(said, policy, once=once))


async def _watched(said: Settings, policy: Policy, *, once: bool) -> None:
    from headgate.stores.documents import open_documents
    from headgate.watch import Watcher, open_stream
    from headgate.watch.publishing import Published
    from headgate.watch.watching import linker

    current = _Current(said, policy)
    documents = open_documents(said.store, durability=said.durability)
    watcher = Watcher(open_stream(said.store, said.watch_keep), linker(), Published(documents, current.policy))
    try:
        if once:
            await _once(watcher)
        else:
            await _until_stopped(watcher, current)
    finally:
        with suppress(StoreError):
            await documents.close()


async def _once(watcher: Watcher) -> None:
    tally, found = await watcher.once()
    keys = sum(len(one.members) for one in found)
    note(
        f"headgate: looked at {tally.observations:,} requests; {len(found):,} findings name {keys:,} keys: "
        "`headgate groups` shows them"
    )


async def _until_stopped(watcher: Watcher, current: _Current) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError, RuntimeError):  # where loops know no signals, ctrl-C ends it at once
            loop.add_signal_handler(number, stop.set)
    fresh = loop.create_task(current.kept_fresh())
    try:
        await watcher.run(stop)
    finally:
        fresh.cancel()
        await asyncio.gather(fresh, return_exceptions=True)


class _Current:
    """The policy that is in force: the last one that could be read."""

    def __init__(self, said: Settings, policy: Policy) -> None:
        self._said = said
        self._policy = policy

    def policy(self) -> Policy:
        return self._policy

    async def kept_fresh(self) -> None:
        """Read it again now and then. One that is broken changes nothing; the workers say what is wrong with it."""
        while True:
            await asyncio.sleep(RELOAD)
            with suppress(PolicyError, HeadgateError, OSError):
                self._policy = await asyncio.to_thread(policy_of, self._said)
