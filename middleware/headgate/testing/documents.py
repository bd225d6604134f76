"""The contract that every store of documents keeps, as tests: subclass `DocumentsContract` and say how one is made.

    class TestMyDocuments(DocumentsContract):
        def make_documents(self):
            return MyDocuments(fresh_database())

        def make_peer(self, documents):
            return another_workers(documents)

Law: the suite knows the `Documents` protocol and nothing of any store; what it asks of one it asks of all.
"""

# ruff: noqa: D102 - the name of each test is its sentence

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any

import pytest

from headgate.errors import StoreError
from headgate.stores.documents import MOST, REMEMBERED, Document, Documents

Story = Callable[[Any, Documents, Documents], Coroutine[Any, Any, None]]


def told(story: Story) -> Callable[[Any], None]:
    """A story of two workers that share a store, run on an event loop of its own."""

    @wraps(story)
    def test(self: DocumentsContract) -> None:
        async def whole() -> None:
            one = self.make_documents()
            other = self.make_peer(one)
            try:
                await story(self, one, other)
            finally:
                await one.close()
                await other.close()

        asyncio.run(whole())

    del test.__wrapped__  # pytest would take the story's parameters for fixtures
    return test


class DocumentsContract:
    """Every test is a promise. A subclass makes the documents; its name must begin with `Test`."""

    def make_documents(self) -> Documents:
        """Documents of a store where nothing stands yet."""
        raise NotImplementedError

    def make_peer(self, documents: Documents) -> Documents:
        """The same as another worker has them."""
        raise NotImplementedError

    @told
    async def test_what_was_never_written_is_nothing_and_has_no_version(
        self, one: Documents, other: Documents
    ) -> None:
        assert await one.read("groups") == Document(0, "")
        assert await one.version("groups") == 0

    @told
    async def test_what_one_worker_writes_all_read_as_it_was_written(self, one: Documents, other: Documents) -> None:
        body = '{"é": "\\n\u2028", "zero": "\\u0000"}' + "x" * 100_000
        assert await one.swap("groups", body, 0, b"a" * 16)
        found = await other.read("groups")
        assert found.body == body
        assert found.version == await other.version("groups") > 0

    @told
    async def test_only_who_has_read_what_stands_there_replaces_it(self, one: Documents, other: Documents) -> None:
        assert await one.swap("groups", "1", 0, b"a" * 16)
        first = await other.version("groups")
        assert not await other.swap("groups", "stale", 0, b"b" * 16)
        assert await other.swap("groups", "2", first, b"c" * 16)
        assert not await one.swap("groups", "stale", first, b"d" * 16)
        assert (await one.read("groups")).body == "2"
        assert await one.version("groups") > first

    @told
    async def test_of_many_at_once_one_swaps(self, one: Documents, other: Documents) -> None:
        for turn in range(3):
            before = await one.version("groups")
            asked = [w.swap("groups", f"{n}", before, bytes([turn, n]) * 8) for n, w in enumerate([one, other] * 5)]
            done = await asyncio.gather(*asked)
            assert sum(done) == 1
            assert (await one.read("groups")).body == str(done.index(True))

    @told
    async def test_a_swap_that_is_said_twice_counts_once_and_says_so_both_times(
        self, one: Documents, other: Documents
    ) -> None:
        assert await one.swap("groups", "1", 0, b"a" * 16)
        version = await one.version("groups")
        assert await one.swap("groups", "1", 0, b"a" * 16)
        assert await one.version("groups") == version
        # Others went on before the repeat came: it was done, and is not done again.
        for n in range(REMEMBERED // 2):
            assert await other.swap("groups", f"later {n}", await other.version("groups"), bytes([n]) * 16)
        assert await one.swap("groups", "1", 0, b"a" * 16)
        assert (await one.read("groups")).body == f"later {REMEMBERED // 2 - 1}"

    @told
    async def test_a_swap_that_lost_stays_lost_when_it_is_said_again(self, one: Documents, other: Documents) -> None:
        assert await one.swap("groups", "1", 0, b"a" * 16)
        assert not await other.swap("groups", "lost", 0, b"b" * 16)
        assert not await other.swap("groups", "lost", 0, b"b" * 16)

    @told
    async def test_ids_that_differ_in_one_byte_are_two(self, one: Documents, other: Documents) -> None:
        """As those of two processes do, whose counters begin alike."""
        for at in range(16):
            expected = await one.version("groups")
            first, second = bytes(16), bytes([int(n == at) for n in range(16)])
            assert await one.swap("groups", f"first {at}", expected, first)
            assert not await other.swap("groups", "second", expected, second)
            assert await one.swap("groups", f"first {at}", expected, first)
        assert (await other.read("groups")).body == "first 15"

    @told
    async def test_documents_do_not_touch_each_other(self, one: Documents, other: Documents) -> None:
        assert await one.swap("groups", "1", 0, b"a" * 16)
        assert await one.swap("watch", "2", 0, b"a" * 16)
        assert ((await other.read("groups")).body, (await other.read("watch")).body) == ("1", "2")

    @told
    async def test_what_no_store_takes_is_refused_in_words(self, one: Documents, other: Documents) -> None:
        refused: list[tuple[Awaitable[Any], str]] = [
            (one.swap("groups", "x" * (MOST + 1), 0, b"a" * 16), "longer than"),
            (one.swap("../groups", "x", 0, b"a" * 16), "small letters"),
            (one.read("Groups"), "small letters"),
            (one.version(""), "small letters"),
        ]
        for asked, words in refused:
            with pytest.raises(StoreError, match=words):
                await asked
        assert await one.version("groups") == 0

    @told
    async def test_it_opens_again_after_it_was_closed(self, one: Documents, other: Documents) -> None:
        assert await one.swap("groups", "1", 0, b"a" * 16)
        await one.close()
        assert (await one.read("groups")).body == "1"
