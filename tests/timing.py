"""How long something takes, whatever else this machine does meanwhile.

Law: no absolute time is asserted. Two pieces of work that are measured in turn, by this thread's own CPU time and the
best of several tries of each, keep their proportion. And a call that is to be over by its deadline is held against a
timer that was set beside it, on the same loop: by how much that was late, the machine was, and not the call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

TRIES = 7


def ratio(work: Callable[[], object], base: Callable[[], object], tries: int = TRIES) -> float:
    """How many times as long `work` takes as `base` does: the best of several tries of each, made in turn."""
    pairs = [(_seconds(work), _seconds(base)) for _ in range(tries)]
    return min(one for one, _ in pairs) / min(other for _, other in pairs)


def _seconds(work: Callable[[], object]) -> float:
    begun = time.thread_time()
    work()
    return time.thread_time() - begun


class Took(float):
    """How long (seconds) a call took. `own`: the same, without what a timer was late that was set beside it."""

    own: float


async def took(call: Awaitable[object], deadline: float) -> Took:
    """How long a call takes that should be over at its deadline; what it returns or raises is lost."""
    loop = asyncio.get_running_loop()
    begun, rang = loop.time(), loop.create_future()
    timer = loop.call_later(deadline, lambda: rang.set_result(loop.time()))
    await asyncio.gather(call, return_exceptions=True)
    seconds = Took(loop.time() - begun)
    seconds.own = float(seconds)
    if seconds > deadline:
        seconds.own -= max(0.0, min(seconds, await rang - begun) - deadline)
    timer.cancel()
    return seconds
