"""Watchers are killed, and nothing that is in the stream is lost."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.register import Registry
from headgate.stores.documents import open_documents
from headgate.watch import open_stream
from headgate.watch.stream import Stream
from watch.stand_in import parcel, run, seen

CHILD = Path(__file__).with_name("child.py")
PATIENCE = 60.0
ME = b"worker 1"


@pytest.fixture(params=["sqlite", "valkey"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    return str(request.getfixturevalue("valkey").url)


class Crew:
    """Watching processes over one store."""

    def __init__(self, store: str) -> None:
        self.store = store
        self.children: list[subprocess.Popen[str]] = []

    def child(self) -> subprocess.Popen[str]:
        made = subprocess.Popen([sys.executable, str(CHILD), self.store], stdout=subprocess.PIPE, text=True)
        self.children.append(made)
        return made

    def end(self) -> None:
        for child in self.children:
            child.kill()
            child.communicate()


@pytest.fixture
def crew(store: str) -> Iterator[Crew]:
    made = Crew(store)
    yield made
    made.end()


def leads(child: subprocess.Popen[str]) -> None:
    assert child.stdout is not None
    assert child.stdout.readline() == "leads\n"


async def found(store: str, keys: set[str]) -> None:
    """Returns when the register has a group of these keys."""
    documents = open_documents(store)
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                register = await Registry(documents).read()
                if [set(group.members) for group in register.groups] == [keys]:
                    return
                await asyncio.sleep(0.01)
    finally:
        await documents.close()


async def put(stream: Stream, *numbers: int) -> None:
    await stream.put("0", [parcel(ME, n, seen(f"k{n}", 5)) for n in numbers])


def test_a_watcher_that_is_killed_is_followed_by_one_that_knows_all(crew: Crew) -> None:
    async def story() -> None:
        stream = open_stream(crew.store)
        first = crew.child()
        await asyncio.to_thread(leads, first)
        await put(stream, 0, 1)
        await found(crew.store, {"k0", "k1"})
        second = crew.child()
        await put(stream, 2)
        first.kill()
        await put(stream, 3)
        await asyncio.to_thread(leads, second)
        await found(crew.store, {"k0", "k1", "k2", "k3"})
        await put(stream, 1, 2)  # an answer that was lost
        second.kill()
        second.wait()
        await put(stream, 4)
        crew.child()
        await found(crew.store, {f"k{n}" for n in range(5)})
        await stream.close()

    run(story())
