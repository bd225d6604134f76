"""Small named documents beside the ledger: what few change and many read, such as who is linked to whom.

Law: a document is read whole and replaced whole, and only by who knows what stands there: a swap names the version
that it replaces, and where another one stands it does nothing. A swap that was acknowledged is durable, whoever is
killed and wherever the power goes; one that is said twice counts once. No document ends by itself.

Nothing here is in the way of a request: a document is read once a second by each worker, and written now and then.
"""

from __future__ import annotations

import re
import threading
from hashlib import blake2b
from typing import Final, Literal, NamedTuple, Protocol

from headgate.clock import Clock, wall_clock
from headgate.errors import StoreError

MOST: Final = 8 * 1024 * 1024
"""Characters of the longest document: some 50,000 linked keys with what speaks for it."""

REMEMBERED: Final = 32
"""Swaps of a document that are remembered, so that a repeat is known. Few change it, and a repeat comes within
seconds."""

DRAWN: Final = 32
"""Bits of a version that its swap's id gives; the others, of 63, count. A store keeps versions as text or as 64 bits.
"""

NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")


class Document(NamedTuple):
    """A document as it stands. One that was never written has the version 0 and no body."""

    version: int = 0
    body: str = ""


class Documents(Protocol):
    """Where documents are kept: shown by `headgate.testing.documents.DocumentsContract`.

    Names are small letters, digits and dashes; bodies are text of at most `MOST` characters. Each method raises
    StoreError where the store does not do it; of `swap`, `unknown` says that it may have been done: it may be said
    again with the same id, and then tells what became of it.
    """

    async def version(self, name: str) -> int:
        """The version that stands now; 0 where there is none. Cheap."""

    async def read(self, name: str) -> Document:
        """The document as it stands now."""

    async def swap(self, name: str, body: str, expected: int, rid: bytes) -> bool:
        """Replace the version `expected` (0: none); whether that was done, by this call or by one before it with the
        same `rid`."""

    async def close(self) -> None:
        """Let go of files and connections. It opens again when it is used."""


def next_version(expected: int, rid: bytes) -> int:
    """The version that a swap makes: greater than what it replaces, and not what another swap would make of it.

    So a repeat is known from somebody else's swap; and where a failover loses a swap and another one comes in its
    stead, whoever had read the lost one sees that it is gone. (Two ids give one version once in four billion times.)

    >>> one, other = next_version(0, b"one"), next_version(0, b"other")
    >>> one >> 32, one != other, next_version(one, b"one") >> 32
    (1, True, 2)
    """
    drawn = int.from_bytes(blake2b(rid, digest_size=DRAWN // 8).digest(), "big")
    return ((expected >> DRAWN) + 1 << DRAWN) | drawn


def checked(name: str, body: str = "") -> None:
    """Raises StoreError for a name or a body that no store takes."""
    if not NAME.fullmatch(name):
        raise StoreError(f"a document's name is small letters, digits and dashes; got {name[:40]!r}", transient=False)
    if len(body) > MOST:
        raise StoreError(f"document `{name}`: it would be longer than {MOST:,} characters", transient=False)


class MemoryDocuments:
    """Documents in this process, for as long as it lives; for any number of threads and event loops.

    >>> import asyncio
    >>> documents = MemoryDocuments()
    >>> asyncio.run(documents.swap("groups", "{}", 0, b"one")), asyncio.run(documents.swap("groups", "{}", 0, b"two"))
    (True, False)
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Document, tuple[int, ...]]] = {}
        self._turn = threading.Lock()

    async def version(self, name: str) -> int:
        """The version that stands now."""
        return (await self.read(name)).version

    async def read(self, name: str) -> Document:
        """The document as it stands now."""
        checked(name)
        return self._kept.get(name, (Document(), ()))[0]

    async def swap(self, name: str, body: str, expected: int, rid: bytes) -> bool:
        """Replace the version `expected`."""
        checked(name, body)
        made = next_version(expected, rid)
        with self._turn:
            found, before = self._kept.get(name, (Document(), ()))
            if found.version != expected:
                return made in before
            self._kept[name] = Document(made, body), (made, *before)[:REMEMBERED]
        return True

    async def close(self) -> None:
        """Nothing to let go of; what is kept stays."""


def open_documents(
    uri: str, *, clock: Clock = wall_clock, durability: Literal["fast", "replicated"] = "fast"
) -> Documents:
    """The documents of the store that a URI names (see `open_store`). Nothing is opened before the first use.

    Raises StoreError for a URI that names no store, and for a store of another kind than headgate's own: counters
    without a compare-and-set cannot keep a document that several change.

    >>> type(open_documents("memory://")).__name__, type(open_documents("sqlite:///headgate.db")).__name__
    ('MemoryDocuments', 'SqliteDocuments')
    """
    # Looked at as the ledger's is, so that what is wrong with a URI is told in the same words.
    from headgate.stores import keeping, open_store
    from headgate.stores.sqlite import SqliteStore

    foreign = keeping(uri)
    if foreign is not None:
        raise StoreError(
            f"{foreign.name} keeps no groups that are linked while headgate runs: it has no documents that several "
            "workers may change; use sqlite:/// or redis://, or declare groups in the policy's `linking.affiliated`",
            transient=False,
        )
    store = open_store(uri, clock=clock, durability=durability)
    if isinstance(store, SqliteStore):
        from headgate.stores.sqlite.documents import SqliteDocuments

        return SqliteDocuments(store._path, clock=clock)
    if uri.startswith("memory:"):
        return MemoryDocuments()
    from headgate.stores.redis.documents import RedisDocuments

    return RedisDocuments(uri, durability=durability)
