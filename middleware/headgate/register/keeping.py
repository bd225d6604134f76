"""The register as workers share it: changed by whoever has something to say, followed by whoever decides.

Law: a change is made of what stands there, and of nothing older: if somebody was faster it is made anew, and what was
asked for is in the document before it is told. The document says itself what changed, when and by whom, so that
nobody's death between the writing and the log hides anything. A worker that cannot read it goes on with what it has,
and says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from headgate.errors import StoreError
from headgate.ids import new_id
from headgate.linking.finding import Finding
from headgate.register.entries import Change, Register, States
from headgate.register.found import published, slimmed
from headgate.register.groups import Groups
from headgate.register.written import NAME, read, written
from headgate.stores.documents import MOST, Document, Documents
from headgate.telemetry import events

PACE = 1.0
"""Seconds between two looks: with the time that a look takes, a change is in force everywhere within two."""

TRIES = 20
"""How often a change is made anew because somebody was faster: a dozen people and a detector never need so many."""

REPEATS = 3
"""How often a swap is said again that was not heard of."""

TOLD = 32
"""Changes that one event names."""


class Registry:
    """The register of a store, for who changes it.

    >>> from headgate.register.said import spoken
    >>> from headgate.stores.documents import MemoryDocuments
    >>> registry = Registry(MemoryDocuments())
    >>> link = lambda register: spoken(register, "link", ["a", "b"], reason="one invoice", actor="ann", at=7)
    >>> asyncio.run(registry.changed(link)).said[0].orgs
    ('a', 'b')
    """

    def __init__(self, documents: Documents) -> None:
        self.documents = documents

    async def read(self) -> Register:
        """The register as it stands. Raises StoreError where it cannot be had, or cannot be read."""
        return read((await self.documents.read(NAME)).body)

    async def publish(
        self, findings: Sequence[Finding], now: int, states: States, *, whole: bool = False
    ) -> Register:
        """Take the detector's findings into the register (see `register.found`). Raises StoreError."""
        return await self.changed(lambda register: published(register, findings, now, states, whole=whole))

    async def changed(self, change: Callable[[Register], Register]) -> Register:
        """The register after a change, which is in the document when this returns, and told.

        `change` makes a register of the one that stands, and may be called several times; if it answers the very one
        that it was given, nothing is written. Raises StoreError, and whatever `change` raises: then nothing was done,
        save that a StoreError is `unknown`.
        """
        for _ in range(TRIES):
            found = await self.documents.read(NAME)
            before = read(found.body)
            after = change(before)
            if after is before:
                return before
            body = written(after)
            if len(body) > MOST:
                body = written(slimmed(after))
            if await self._swapped(found, body):
                tell(news(before, after))
                return after
        raise StoreError(f"the document `{NAME}` is changed by others all the time; try again", transient=True)

    async def _swapped(self, found: Document, body: str) -> bool:
        rid = new_id()
        for attempt in range(REPEATS):
            try:
                return await self.documents.swap(NAME, body, found.version, rid)
            except StoreError as fault:
                if not fault.unknown or attempt == REPEATS - 1:
                    raise
        raise AssertionError("a swap is answered or fails")


class Following:
    """What keeps a worker's groups up to date. `degraded` says why the last look failed; "" while all is well."""

    def __init__(self, documents: Documents, groups: Groups) -> None:
        self.degraded = ""
        self.version = 0
        self._documents = documents
        self._groups = groups

    async def look(self) -> bool:
        """Take the register over if it has changed; whether it had. Never raises StoreError."""
        try:
            if await self._documents.version(NAME) == self.version:
                self._well()
                return False
            found = await self._documents.read(NAME)
            # In a thread: a register of thousands of groups takes longer to read than a request should wait.
            register = await asyncio.to_thread(self._prepared, found.body)
        except StoreError as fault:
            if self.degraded != str(fault):
                self.degraded = str(fault)
                events.warning("headgate.groups.stale", reason=self.degraded, serving=self.version)
            return False
        self._well()
        if self.version and not found.version:
            # It may have been removed by hand, so it is gone by; but nobody should have to guess.
            events.warning("headgate.groups.lost", reason="the document is gone from the store", serving=0)
        fresh = news(self._groups.register, register)
        self.version = found.version
        self._groups.take(register)
        events.info(
            "headgate.groups.taken",
            version=found.version, groups=len(register.groups), changes=[change.id for change in fresh[:TOLD]],
        )  # fmt: skip
        return True

    async def follow(self) -> None:
        """Look once a second, for ever."""
        while True:
            try:
                await self.look()
            except Exception as fault:  # of ours: it must not end the looking
                before, self.degraded = self.degraded, f"{type(fault).__name__}: {fault}"
                if before != self.degraded:
                    events.error("headgate.groups.error", reason=self.degraded)
            await asyncio.sleep(PACE)

    def _prepared(self, body: str) -> Register:
        register = slimmed(read(body))  # a worker keeps what decides; who asks why reads the document
        self._groups.prepare(register)
        return register

    def _well(self) -> None:
        if self.degraded:
            self.degraded = ""
            events.info("headgate.groups.fresh", version=self.version)


def news(before: Register, after: Register) -> list[Change]:
    """The changes that a register tells and the one before did not, the oldest first."""
    known = {change.id for change in before.changes}
    return [change for change in reversed(after.changes) if change.id not in known]


def tell(changes: Sequence[Change]) -> None:
    """One event a change."""
    for change in changes:
        events.info(
            "headgate.group.changed", what=change.what,
            change=change.id, subject=change.subject, orgs=list(change.orgs), by=change.actor, reason=change.reason,
        )  # fmt: skip
