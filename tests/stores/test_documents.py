"""The shipped contract of documents on every store there is, and what is particular to each."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from headgate.errors import StoreError
from headgate.stores import SqliteStore
from headgate.stores.documents import Document, Documents, MemoryDocuments, open_documents
from headgate.stores.redis.doctor import rights, visit
from headgate.stores.redis.doctor.facts import Sample
from headgate.stores.redis.documents import RedisDocuments
from headgate.stores.redis.script.scripts import SCRIPT
from headgate.stores.sqlite import turn
from headgate.stores.sqlite.documents import SqliteDocuments
from headgate.testing.clusters import Cluster
from headgate.testing.documents import DocumentsContract
from headgate.testing.servers import Server
from servers.replicated import Replicated
from servers.sentinels import Sentinels


class TestInMemory(DocumentsContract):
    def make_documents(self) -> Documents:
        return MemoryDocuments()

    def make_peer(self, documents: Documents) -> Documents:
        return documents


class TestInAFile(DocumentsContract):
    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self._names = (f"{tmp_path}/led ger%{n}?#.db" for n in count())

    def make_documents(self) -> Documents:
        return open_documents(f"sqlite:///{next(self._names)}")

    def make_peer(self, documents: Documents) -> Documents:
        assert isinstance(documents, SqliteDocuments)
        return SqliteDocuments(documents._path)


class TestInAFileWhereProcessesCannotTakeTurns(TestInAFile):
    @pytest.fixture(autouse=True)
    def _without_turns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(turn, "fcntl", None)


class TestOnValkey(DocumentsContract):
    @pytest.fixture(autouse=True)
    def _there(self, valkey: Server) -> None:
        self.server, self.url = valkey, valkey.url

    def make_documents(self) -> Documents:
        self.server.flush()
        return open_documents(self.url)

    def make_peer(self, documents: Documents) -> Documents:
        return RedisDocuments(self.url)


class TestByTheRightsThatTheDoctorPrints(TestOnValkey):
    @pytest.fixture(autouse=True)
    def _there(self, valkey: Server) -> Iterator[None]:
        words = rights.line(rights.needed("single", False, SCRIPT.text.decode())).replace("'", "")
        valkey.ask(*words.replace("headgate", "few").replace("PASSWORD", "pw").split())
        self.server, self.url = valkey, valkey.url.replace("://", "://few:pw@")
        yield
        valkey.ask("ACL", "DELUSER", "few")


class TestOnACluster(DocumentsContract):
    @pytest.fixture(autouse=True)
    def _there(self, cluster: Cluster) -> None:
        self.server, self.url = cluster, cluster.url

    def make_documents(self) -> Documents:
        self.server.flush()
        return open_documents(self.url)

    def make_peer(self, documents: Documents) -> Documents:
        return RedisDocuments(self.url)


def test_a_store_of_another_kind_says_that_it_keeps_no_groups() -> None:
    with pytest.raises(StoreError, match=r"memcached://127\.0\.0\.1:11211 keeps no groups .* `linking\.affiliated`"):
        open_documents("memcached://127.0.0.1:11211")


# A file.


def test_reading_makes_no_file(tmp_path: Path) -> None:
    documents = SqliteDocuments(f"{tmp_path}/ledger.db")
    assert asyncio.run(documents.read("groups")) == Document()
    assert list(tmp_path.iterdir()) == []


def test_what_was_swapped_is_on_the_disk_before_it_is_acknowledged(tmp_path: Path) -> None:
    documents = SqliteDocuments(f"{tmp_path}/ledger.db")
    assert asyncio.run(documents.swap("groups", "1", 0, b"a" * 16))
    connection = documents._opened()
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    assert stat.S_IMODE(os.stat(f"{tmp_path}/ledger.db").st_mode) == 0o600


def test_the_ledger_and_its_documents_share_a_file(tmp_path: Path) -> None:
    async def story() -> None:
        store, documents = SqliteStore(f"{tmp_path}/ledger.db"), SqliteDocuments(f"{tmp_path}/ledger.db")
        await store.transact(())
        assert await documents.swap("groups", "1", 0, b"a" * 16)
        await store.transact(())
        assert (await documents.read("groups")).body == "1"
        await store.close()
        assert (await documents.read("groups")).body == "1"

    asyncio.run(story())


def test_another_programs_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    documents = SqliteDocuments(str(path))
    for asked in (documents.read("groups"), documents.swap("groups", "1", 0, b"a" * 16)):
        with pytest.raises(StoreError, match="another program's tables"):
            asyncio.run(asked)  # type: ignore[arg-type]


def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    path = tmp_path / "no.db"
    path.write_bytes(b"what is this" * 400)
    with pytest.raises(StoreError, match="no SQLite database"):
        asyncio.run(SqliteDocuments(str(path)).read("groups"))


def test_what_a_worker_was_told_outlives_it(tmp_path: Path) -> None:
    code = (
        "import asyncio, os, signal, sys\n"
        "from headgate.stores.sqlite.documents import SqliteDocuments\n"
        "assert asyncio.run(SqliteDocuments(sys.argv[1]).swap('groups', 'said', 0, b'a' * 16))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-I", "-c", code, f"{tmp_path}/ledger.db"], check=False)
    assert ended.returncode == -9
    assert asyncio.run(SqliteDocuments(f"{tmp_path}/ledger.db").read("groups")).body == "said"


# Servers.


def test_a_document_has_no_end_and_is_written_also_when_the_server_is_full(make_server: type[Server]) -> None:
    async def story(server: Server) -> None:
        documents = RedisDocuments(server.url)
        assert await documents.swap("groups", "1", 0, b"a" * 16)
        server.ask("CONFIG", "SET", "maxmemory", "1")
        version = await documents.version("groups")
        assert await documents.swap("groups", "2", version, b"b" * 16)
        await documents.close()

    server = make_server()
    asyncio.run(story(server))
    assert server.ask("PTTL", "hn{groups}") == -1


def test_the_doctor_does_not_miss_an_end_of_what_has_none(valkey: Server) -> None:
    async def story() -> None:
        documents = RedisDocuments(valkey.url)
        assert await documents.swap("groups", "1", 0, b"a" * 16)
        await documents.close()
        [seen] = (await visit.look(valkey.url, durability="fast", deadline=30)).servers
        assert seen.sample == Sample(1, 0, 0)

    asyncio.run(story())


def test_a_replicated_swap_waits_for_a_replica_and_says_that_it_may_be_done_where_none_has_it(
    primary: Replicated, valkey: Server
) -> None:
    async def story() -> None:
        documents = RedisDocuments(primary.primary.url, durability="replicated")
        assert await documents.swap("groups", "1", 0, b"a" * 16)
        await documents.close()
        alone = RedisDocuments(valkey.url, durability="replicated", wait=0.4)
        with pytest.raises(StoreError, match="no replica took it") as fault:
            await alone.swap("groups", "1", 0, b"a" * 16)
        assert fault.value.unknown
        assert await alone.read("groups") != Document(), "it was written, and not confirmed"
        await alone.close()

    asyncio.run(story())


def test_a_failover_is_followed(sentinels: Sentinels) -> None:
    async def story() -> None:
        documents = RedisDocuments(sentinels.url, durability="replicated", wait=30)
        assert await documents.swap("groups", "1", 0, b"a" * 16)
        version = await documents.version("groups")
        sentinels.primary.kill()
        async with asyncio.timeout(60):
            while True:
                try:
                    assert await documents.version("groups") == version
                    break
                except StoreError as fault:
                    assert fault.transient, fault
                    await asyncio.sleep(0.1)
        await documents.close()

    asyncio.run(story())


def test_a_server_that_is_away_is_named(valkey: Server) -> None:
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1: nothing listens there"):
        asyncio.run(RedisDocuments("redis://127.0.0.1:1").version("groups"))


def test_a_loop_that_ends_takes_its_connection_with_it(valkey: Server) -> None:
    documents = RedisDocuments(valkey.url)
    for n in range(3):
        assert asyncio.run(documents.swap("groups", f"{n}", asyncio.run(documents.version("groups")), bytes([n])))
    assert len(asyncio.run(_clients(documents))) == 0


async def _clients(documents: RedisDocuments) -> list[object]:
    return [loop for loop in documents._lines if not loop.is_closed()]


def test_a_cancelled_call_leaves_no_answer_for_the_next(valkey: Server) -> None:
    async def story() -> None:
        documents = RedisDocuments(valkey.url)
        assert await documents.swap("groups", "1", 0, b"a" * 16)
        for turns in range(20):
            asked = asyncio.ensure_future(documents.read("groups"))
            for _ in range(turns):  # wherever on its way it is
                await asyncio.sleep(0)
            asked.cancel()
            assert await documents.version("groups") > 0
        await documents.close()

    asyncio.run(story())
