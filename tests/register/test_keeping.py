"""The register as many workers change and follow it, on every store that keeps documents."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from headgate.errors import StoreError
from headgate.linking.finding import Evidence, Finding
from headgate.policy.compiled import Linking, Policy, Step
from headgate.quota.identify import Identify
from headgate.register import EMPTY, Following, Groups, Register, Registry, States, states_of
from headgate.register.groups import rules_of
from headgate.register.said import spoken
from headgate.register.written import NAME, written
from headgate.stores.documents import Document, Documents, MemoryDocuments, open_documents
from headgate.stores.redis.documents import RedisDocuments
from headgate.testing.servers import Server
from servers.proxy import Proxy
from servers.spoiling import Fate

POLICY = Policy("doc", "0", "enforce", Identify(), (), linking=Linking())
FINDING = Finding(
    {"k1": 1, "k2": 2}, ("acme", "zeta"), 0.99,
    (Evidence("templates", ("k1", "k2"), 9.0, "…"), Evidence("payment", ("k1", "k2"), 7.0, "one card")),
)  # fmt: skip


def link(*orgs: str, id: str = "") -> Callable[[Register], Register]:
    return lambda register: spoken(register, "link", orgs, reason="one invoice", actor="ann", at=7, id=id)


@pytest.fixture(params=["memory", "sqlite", "valkey"])
def two(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Documents, Documents]:
    """The documents of one store, as two workers have them."""
    if request.param == "memory":
        one = MemoryDocuments()
        return one, one
    if request.param == "valkey":
        server: Server = request.getfixturevalue("valkey")
        return open_documents(server.url), open_documents(server.url)
    uri = f"sqlite:///{tmp_path}/ledger.db"
    return open_documents(uri), open_documents(uri)


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict[str, Any]]]:
    """The events so far."""
    caplog.set_level("INFO", "headgate")
    return lambda: [json.loads(record.getMessage()) for record in caplog.records if record.name == "headgate"]


def run(two: tuple[Documents, Documents], story: Callable[[Documents, Documents], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        try:
            await story(*two)
        finally:
            for documents in two:
                await documents.close()

    asyncio.run(whole())


def test_what_one_worker_says_another_goes_by_after_its_next_look(two: tuple[Documents, Documents]) -> None:
    async def story(one: Documents, other: Documents) -> None:
        groups = Groups()
        following = Following(other, groups)
        assert not await following.look()
        await Registry(one).changed(link("a", "b"))
        assert groups.of(POLICY, "a", now=8) is None
        assert await following.look()
        found = groups.of(POLICY, "a", now=8)
        assert found is not None and found.orgs == {"a", "b"} and found is groups.of(POLICY, "b", now=9)
        version = groups.version
        assert not await following.look()
        assert groups.version == version

    run(two, story)


def test_many_who_speak_at_once_are_all_heard(two: tuple[Documents, Documents]) -> None:
    async def story(one: Documents, other: Documents) -> None:
        asked = [Registry(each).changed(link(f"a{n}", f"b{n}")) for n, each in enumerate([one, other] * 4)]
        asked.append(Registry(one).publish([FINDING], 9, States()))
        await asyncio.gather(*asked)
        register = await Registry(other).read()
        assert len(register.said) == 8 and len(register.groups) == 1
        assert len(register.changes) == 9

    run(two, story)


def test_what_is_published_again_writes_nothing(two: tuple[Documents, Documents]) -> None:
    async def story(one: Documents, other: Documents) -> None:
        await Registry(one).publish([FINDING], 9, States())
        version = await other.version(NAME)
        await Registry(other).publish([FINDING], 10, States())
        assert await other.version(NAME) == version

    run(two, story)


def test_a_register_that_grows_too_large_keeps_what_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.register.keeping.MOST", 600)
    many = FINDING._replace(evidence=tuple([item for item in FINDING.evidence for _ in range(9)]))

    async def story() -> None:
        documents = MemoryDocuments()
        await Registry(documents).publish([many], 9, States())
        [kept] = (await Registry(documents).read()).groups
        assert len(kept.evidence) == 2
        groups = Groups()
        await Following(documents, groups).look()
        assert groups.of(POLICY, "acme", now=9) is not None
        version = await documents.version(NAME)
        await Registry(documents).publish([many], 10, States())
        assert await documents.version(NAME) == version

    asyncio.run(story())


class LostReplies(MemoryDocuments):
    """Does what it is asked and does not say so, the first `lost` times."""

    lost = 1

    async def swap(self, name: str, body: str, expected: int, rid: bytes) -> bool:
        done = await super().swap(name, body, expected, rid)
        if self.lost:
            self.lost -= 1
            raise StoreError("the connection was lost before it answered", transient=True, unknown=True)
        return done


def test_a_change_whose_answer_was_lost_counts_once() -> None:
    documents = LostReplies()
    register = asyncio.run(Registry(documents).changed(link("a", "b")))
    assert len(register.said) == len(register.changes) == 1
    assert asyncio.run(Registry(documents).read()) == register


@pytest.mark.parametrize("fate", list(Fate))
def test_a_change_over_a_bad_line_counts_once(valkey: Server, fate: Fate) -> None:
    async def story() -> None:
        async with Proxy(valkey.address) as proxy:
            documents = RedisDocuments(proxy.url, wait=0.5)
            await Registry(documents).changed(link("a", "b"))
            proxy.spoil(fate, b"EVAL", skip=1)  # the reading goes through, the swap does not
            register = await Registry(documents).changed(link("c", "d"))
            assert [each.orgs for each in register.said] == [("a", "b"), ("c", "d")]
            assert len(register.changes) == 2
            await documents.close()

    asyncio.run(story())


def test_a_store_that_never_answers_says_that_it_may_have_been_done() -> None:
    documents = LostReplies()
    documents.lost = 99
    with pytest.raises(StoreError) as fault:
        asyncio.run(Registry(documents).changed(link("a", "b", id="l_x")))
    assert fault.value.unknown
    documents.lost = 0
    assert len(asyncio.run(Registry(documents).changed(link("a", "b", id="l_x"))).said) == 1


@pytest.mark.parametrize("body", ["{", "hello", '{"headgate-groups":2}', '{"headgate-groups":1,"register":[{}]}'])
def test_a_document_that_cannot_be_read_changes_nothing_and_is_not_written_over(
    two: tuple[Documents, Documents], body: str, events: Callable[[], list[dict[str, Any]]]
) -> None:
    async def story(one: Documents, other: Documents) -> None:
        groups = Groups()
        following = Following(other, groups)
        await Registry(one).changed(link("a", "b"))
        await following.look()
        good = await one.read(NAME)
        assert await one.swap(NAME, body, good.version, b"x" * 16)
        before = len(events())
        for _ in range(3):
            assert not await following.look()
        assert [each["event"] for each in events()[before:]] == ["headgate.groups.stale"], "once, not each second"
        assert "groups" in following.degraded
        assert groups.of(POLICY, "a", now=8) is not None, "the last good one stays in force"
        with pytest.raises(StoreError, match="groups"):
            await Registry(one).changed(link("c", "d"))
        spoilt = await one.read(NAME)
        assert spoilt.body == body
        assert await one.swap(NAME, good.body, spoilt.version, b"y" * 16)
        await following.look()
        assert following.degraded == ""

    run(two, story)


class Away(MemoryDocuments):
    away = False

    async def version(self, name: str) -> int:
        if self.away:
            raise StoreError("redis: nothing listens there", transient=True)
        return await super().version(name)


def test_a_worker_that_cannot_ask_goes_on_with_what_it_has_and_says_so() -> None:
    async def story() -> None:
        documents, groups = Away(), Groups()
        following = Following(documents, groups)
        await Registry(documents).changed(link("a", "b"))
        await following.look()
        documents.away = True
        await following.look()
        assert following.degraded == "redis: nothing listens there"
        assert groups.of(POLICY, "a", now=8) is not None
        documents.away = False
        await following.look()
        assert following.degraded == ""

    asyncio.run(story())


def test_a_document_that_is_gone_is_gone_by_and_said(events: Callable[[], list[dict[str, Any]]]) -> None:
    async def story() -> None:
        documents, groups = MemoryDocuments(), Groups()
        following = Following(documents, groups)
        await Registry(documents).changed(link("a", "b"))
        await following.look()
        documents._kept.clear()
        assert await following.look()
        assert groups.of(POLICY, "a", now=8) is None
        assert "headgate.groups.lost" in [each["event"] for each in events()]

    asyncio.run(story())


class Odd(MemoryDocuments):
    async def version(self, name: str) -> int:
        raise ZeroDivisionError("a fault of ours")


def test_no_fault_of_ours_ends_the_following(
    monkeypatch: pytest.MonkeyPatch, events: Callable[[], list[dict[str, Any]]]
) -> None:
    monkeypatch.setattr("headgate.register.keeping.PACE", 0)

    async def story() -> None:
        following = Following(Odd(), Groups())
        task = asyncio.create_task(following.follow())
        async with asyncio.timeout(30):
            while not events():
                await asyncio.sleep(0)
        for _ in range(9):
            await asyncio.sleep(0)
        assert len(events()) == 1, "said once"
        assert following.degraded == "ZeroDivisionError: a fault of ours"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())


def test_a_change_is_in_the_document_before_it_is_told(
    tmp_path: Path, events: Callable[[], list[dict[str, Any]]]
) -> None:
    """Killed between the writing and the log: it is in force, and the document says who did it."""
    code = (
        "import asyncio, os, signal, sys\n"
        "from headgate.register import Registry, keeping\n"
        "from headgate.register.said import spoken\n"
        "from headgate.stores.documents import open_documents\n"
        "keeping.tell = lambda changes: os.kill(os.getpid(), signal.SIGKILL)\n"
        "say = lambda r: spoken(r, 'link', ['a', 'b'], reason='one invoice', actor='ann', at=7)\n"
        "asyncio.run(Registry(open_documents(sys.argv[1])).changed(say))\n"
    )
    uri = f"sqlite:///{tmp_path}/ledger.db"
    assert subprocess.run([sys.executable, "-c", code, uri], check=False).returncode == -9
    groups = Groups()

    async def story() -> None:
        assert await Following(open_documents(uri), groups).look()
        [event] = events()
        assert event["event"] == "headgate.groups.taken"
        assert event["changes"] == [change.id for change in groups.register.changes]

    asyncio.run(story())
    assert groups.of(POLICY, "a", now=8) is not None
    assert [(change.what, change.actor) for change in groups.register.changes] == [("said", "ann")]


def test_each_change_is_told_once_by_who_made_it(events: Callable[[], list[dict[str, Any]]]) -> None:
    asyncio.run(Registry(MemoryDocuments()).publish([FINDING], 9, States()))
    [event] = events()
    assert (event["event"], event["what"]) == ("headgate.group.changed", "linked")
    assert (event["by"], event["orgs"], event["reason"]) == ("detector", ["acme", "zeta"], "…")


# The groups of one worker.


def test_the_version_moves_when_an_answer_may_and_not_otherwise() -> None:
    groups = Groups()
    groups.take(link("a", "b")(EMPTY))
    assert groups.version == 1
    groups.take(groups.register._replace(changes=()))
    assert groups.version == 1, "what is only told decides nothing"
    groups.take(EMPTY)
    assert groups.version == 2


def test_a_group_that_stays_is_the_same_object_when_others_change() -> None:
    groups = Groups()
    groups.take(link("a", "b")(EMPTY))
    before = groups.of(POLICY, "a", now=8)
    groups.take(spoken(groups.register, "link", ["c", "d"], reason="why", actor="ann", at=9))
    assert groups.of(POLICY, "a", now=9) is before


def test_the_clock_may_go_back() -> None:
    groups = Groups()
    groups.take(spoken(EMPTY, "link", ["a", "b"], reason="why", actor="ann", at=1, until=10))
    assert groups.of(POLICY, "a", now=11) is None
    assert groups.of(POLICY, "a", now=9) is not None


@pytest.mark.parametrize(
    ("ladder", "pooled"),
    [
        ((), 0),
        ((Step("linked", "pool", after=5), Step("linked", "throttle", after=9)), 5),
        ((Step("suspect", "flag"),), None),
        ((Step("linked", "pool"),), 0),
        ((Step("suspect", "pool", after=5),), None),
    ],
)
def test_what_the_ladder_says_of_pooling(ladder: tuple[Step, ...], pooled: int | None) -> None:
    assert rules_of(Policy("doc", "0", "enforce", Identify(), (), linking=Linking(), ladder=ladder)).pooled == pooled


def test_nothing_found_is_pooled_where_no_policy_asks_for_linking() -> None:
    assert rules_of(Policy("doc", "0", "enforce", Identify(), ())).pooled is None


def test_the_usual_states_hold_where_the_policy_names_none() -> None:
    assert states_of(POLICY) == States(700_000, 950_000)
    named = Policy("doc", "0", "enforce", Identify(), (), linking=Linking(suspect=600_000, linked=970_000))
    assert states_of(named) == States(600_000, 970_000)
    assert rules_of(named).linked == 970_000


def test_a_document_of_an_older_worker_is_not_mistaken_for_the_one_that_was_lost_in_a_failover() -> None:
    """A replica that missed the last swap becomes the master, and another swap comes in its stead."""

    async def story() -> None:
        lost, kept, groups = MemoryDocuments(), MemoryDocuments(), Groups()
        await lost.swap(NAME, written(link("a", "b")(EMPTY)), 0, b"one" * 4)
        following = Following(lost, groups)
        await following.look()
        await kept.swap(NAME, written(link("c", "d")(EMPTY)), 0, b"two" * 4)
        following._documents = kept
        assert await following.look()
        assert groups.of(POLICY, "c", now=8) is not None
        assert await kept.read(NAME) != Document()

    asyncio.run(story())
