"""The commands of one tick of an event loop that travel as one script call, and what became of them.

Law: a batch is answered as a whole, once. It may be sent again, for every command in it may be repeated: its identity
is the `rid`, not the sending. Whether it may have been done is known of it at any time: `flying` while a server has
it and has not answered, `doubtful` when one has had it and never did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from headgate.errors import StoreError
from headgate.quota.command import Outcome
from headgate.stores.redis import faults
from headgate.stores.redis.script.codec import Packed, arguments, outcome
from headgate.stores.redis.script.scripts import SCRIPT, SCRIPT_FULL
from headgate.stores.redis.wire.asking import Said
from headgate.stores.redis.wire.connection import ErrorReply, pack

if TYPE_CHECKING:
    from headgate.stores.redis.wire.line import Line
    from headgate.stores.redis.wire.node import Node

Ask = tuple["asyncio.Future[list[Outcome]]", Sequence[Said], int | None]
"""Who waits, and for the outcomes of which commands, said at which instant (None: the server's)."""

TOGETHER: Final = 32
"""Commands of one script call at most: a server serves nobody else meanwhile, and 32 take it less than a
millisecond."""

ASKING: Final = pack(("ASKING",))


class Batch:
    """Commands under way. `asks`: who waits; empty when nobody does any more. `due`: until when (the loop's time).

    `tag`: what their keys share; None where there is one server. `node`: who has it, since its `turn`. `full`,
    `whole`, `asking`: how it is said: to a server that is full, with the script's text, to one that is taking over
    its slot."""

    __slots__ = (
        "asking", "asks", "doubtful", "due", "flying", "full", "hops", "line", "node", "packs", "reply", "tag",
        "tries", "turn", "whole",
    )  # fmt: skip

    def __init__(self, line: Line, tag: bytes | None, due: float) -> None:
        self.line = line
        self.tag = tag
        self.due = due
        self.asks: list[Ask] = []
        self.packs: list[Packed] = []
        self.node: Node | None = None
        self.reply: list[Any] | None = None
        self.tries = self.hops = self.turn = 0
        self.flying = self.doubtful = self.full = self.whole = self.asking = False

    def add(self, ask: Ask, packs: Sequence[Packed]) -> None:
        """One more call, with its commands as they go over the wire."""
        self.asks.append(ask)
        self.packs += packs

    def packed(self) -> bytes:
        """The question as it goes over the wire."""
        self.tries += 1
        self.flying = True
        script = SCRIPT_FULL if self.full else SCRIPT
        head = ("EVAL", script.text) if self.whole else ("EVALSHA", script.sha)
        question = pack((*head, *arguments(self.packs, self.tag, full=self.full)))
        return ASKING + question if self.asking else question

    def answered(self, reply: Any) -> None:
        """The server's answer: outcomes in the commands' order, or an error."""
        self.flying = False
        if not self.asks:
            return  # too late: everybody was told so
        node = self.node
        assert node is not None, "an answer comes from a node"
        if node.breaker.failures:
            node.breaker.succeeded()
        if type(reply) is list:
            if node.replicated:
                # What one server knows is no answer yet: until a replica knows it, too, it may get lost.
                self.reply, self.doubtful = reply, True
            else:
                self.finish(reply)
        elif type(reply) is ErrorReply:
            self.line.refused(self, node, reply)
        else:
            self._unreadable(self.line.over(self), f"a {type(reply).__name__} for outcomes")

    def finish(self, reply: list[Any]) -> None:
        """Everybody is told their outcomes."""
        asks = self.line.over(self)
        if len(reply) != len(self.packs):
            self._unreadable(asks, f"{len(reply)} outcomes for {len(self.packs)} commands")
            return
        at = 0
        for ask in asks:
            future, commands, _ = ask
            after = at + len(commands)
            if not future.done():
                try:
                    if len(commands) == 1:  # nearly always; on Python 3.11 a comprehension is a call of its own
                        future.set_result([outcome(commands[0], reply[at])])
                    else:
                        future.set_result([outcome(c, r) for c, r in zip(commands, reply[at:after], strict=True)])
                except Exception as error:
                    # Whatever the codec stumbles over is this caller's alone; the others have their answers.
                    self._unreadable([ask], f"{type(error).__name__}: {error}")
            at = after

    def fail(self, fault: StoreError) -> None:
        """Everybody is told the fault; each of them an exception of their own."""
        unknown = self.flying or self.doubtful
        for future, _, _ in self.line.over(self):
            if not future.done():
                future.set_exception(faults.again(fault, unknown=unknown))

    def _unreadable(self, asks: Sequence[Ask], why: str) -> None:
        name = self.node.name if self.node is not None else ""
        for future, _, _ in asks:
            if not future.done():
                future.set_exception(faults.unreadable(name, why))
