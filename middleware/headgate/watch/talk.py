"""Questions to a fleet's servers that no decision waits for.

Law: a connection of its own, a deadline of its own. What a server does not answer is a StoreError, and the next call
looks for the server afresh; nothing is repeated here, for whoever asks knows what may be said twice.
"""

from __future__ import annotations

import asyncio
from binascii import crc_hqx
from collections.abc import Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from headgate.errors import StoreError
from headgate.stores.redis import faults
from headgate.stores.redis.address import Address, Where, named
from headgate.stores.redis.wire import opening
from headgate.stores.redis.wire.sentinel import Sentinels

PATIENCE = 2.0
"""Seconds that a server has for an answer: nobody's request waits meanwhile, and a fork for a snapshot may."""

SLOTS = 16_384

Words = tuple[str | bytes | int, ...]


class Talk:
    """Connections to the servers of an address, for one event loop. Nothing is connected to before the first call."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._links: dict[Where, AbstractConnection] = {}
        self._master: Where | None = None
        self._slots: list[tuple[int, int, Where]] = []
        self._turn = asyncio.Lock()

    async def ask(self, tag: bytes, *questions: Words) -> list[Any]:
        """The answers to commands whose keys all have this tag in braces, in one round trip. Raises StoreError, also
        for an error among the answers."""
        # One after the other: answers are told apart by their order alone.
        async with self._turn:
            return await self._asked(tag, questions)

    async def _asked(self, tag: bytes, questions: Sequence[Words]) -> list[Any]:
        where = await self._where(tag)
        answers = await self._said(where, questions)
        for answer in answers:
            if isinstance(answer, ResponseError):
                # Moved, a replica by now, full: whatever it is, the next call asks anew where to go.
                await self.drop()
                raise faults.replied(named(where), faults.reply_of(answer))
        return answers

    async def _where(self, tag: bytes) -> Where:
        address = self._address
        if address.shape == "sentinel":
            if self._master is None:
                self._master = await Sentinels(address, PATIENCE).master()
            return self._master
        if address.shape == "single":
            return address.servers[0]
        if not self._slots:
            self._slots = await self._mapped()
        slot = crc_hqx(tag, 0) % SLOTS
        for first, last, where in self._slots:
            if first <= slot <= last:
                return where
        self._slots = []
        raise StoreError(f"nobody in the cluster serves slot {slot}", transient=True)

    async def _mapped(self) -> list[tuple[int, int, Where]]:
        """The cluster's map, from the first node of the address that tells it."""
        fault: StoreError | None = None
        for where in self._address.servers:
            try:
                [told] = await self._said(where, (("CLUSTER", "SLOTS"),))
                if isinstance(told, ResponseError):
                    raise faults.replied(named(where), faults.reply_of(told))
                return [
                    (first, last, (master[0].decode() if master[0] else where[0], int(master[1])))
                    for first, last, master, *_ in told
                ]
            except StoreError as error:
                fault = error
            except (TypeError, ValueError, AttributeError, IndexError) as error:
                fault = faults.unreadable(named(where), type(error).__name__)
        assert fault is not None, "an address names a server at least"
        raise fault

    async def _said(self, where: Where, questions: Sequence[Words]) -> list[Any]:
        link = self._links.get(where)
        try:
            if link is None:
                link = self._links[where] = self._address.connection(where)
                await opening.made(link, named(where), PATIENCE)
            return await opening.said(link, named(where), PATIENCE, *questions)  # type: ignore[arg-type]
        except BaseException:
            # Also when called off: an answer that still comes would be taken for the next one's.
            self._links.pop(where, None)
            self._master, self._slots = None, []
            if link is not None:
                opening.dropped(link)
            raise

    async def drop(self) -> None:
        """Let go of all connections, and forget who serves what."""
        links, self._links = self._links, {}
        self._master, self._slots = None, []
        for link in links.values():
            await opening.gone(link)
