"""How a plan asks: commands that each lie in one slot, side by side.

Law: what is asked for is on its way when the call returns, in the order of the calls; nothing is waited for and no
task is made. An answer is an outcome or the fault that stands in its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from headgate.errors import StoreError
from headgate.quota.command import Command, Outcome
from headgate.stores.redis.script.parcel import Parcelled

Said: TypeAlias = Command | Parcelled
"""What may be said to one slot."""

Ask: TypeAlias = "Callable[[Sequence[Said], int | None], asyncio.Future[list[Outcome]]]"
"""Puts commands of one slot on their way, and promises their outcomes. Raises StoreError at once or later."""

Answer: TypeAlias = Outcome | BaseException


def begun(ask: Ask, command: Said, now: int | None) -> asyncio.Future[list[Outcome]]:
    """One command on its way; a fault comes with the answer at the earliest."""
    try:
        return ask((command,), now)
    except Exception as fault:
        future: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        future.set_exception(fault)
        return future


async def each(ask: Ask, commands: Iterable[Said], now: int | None) -> list[Answer]:
    """The answers to commands that may lie in different slots. Never raises a fault."""
    answers = await asyncio.gather(*[begun(ask, command, now) for command in commands], return_exceptions=True)
    return [answer if isinstance(answer, BaseException) else answer[0] for answer in answers]


async def stopped(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancels them and waits until they have ended. Nobody asks for their faults any more."""
    under_way = [task for task in tasks if task.cancel() or not task.cancelled()]
    if under_way:
        await asyncio.wait(under_way)
    for task in under_way:
        if not task.cancelled():
            task.exception()


def gravest(faults: Iterable[BaseException]) -> BaseException:
    """Of several faults the one that matters: a mistake before a fault of the store, the unknown before the known."""
    return max(faults, key=lambda fault: (not isinstance(fault, StoreError), getattr(fault, "unknown", True)))
