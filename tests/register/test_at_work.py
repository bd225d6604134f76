"""What is linked while workers run: two gates over one store, and who is charged for what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from headgate.clock import SECOND
from headgate.gate import Gate
from headgate.linking.finding import Evidence, Finding
from headgate.policy.compiled import Linking, Policy, Step
from headgate.quota.facts import Call, Principal
from headgate.quota.identify import Identify
from headgate.quota.match import Limit
from headgate.quota.meter import BUILT_IN_METERS
from headgate.quota.window import Total
from headgate.register import Following, Register, Registry, States
from headgate.register.said import spoken, undone
from headgate.service import Service
from headgate.settings import Settings
from headgate.stores import open_store
from headgate.stores.documents import Documents, MemoryDocuments, open_documents
from headgate.testing import ManualClock
from headgate.testing.servers import Server

TEN = (Limit("life", BUILT_IN_METERS["requests"], ("group",), {"": Total(10)}),)
POLICY = Policy("doc", "0", "enforce", Identify(), TEN, linking=Linking())
LATER = (Step("linked", "pool", after=60 * SECOND),)
ACME, ZETA, OTHER = Principal("k1", "acme"), Principal("k2", "zeta"), Principal("k3", "other")
FINDING = Finding(
    {"k1": 1, "k2": 2}, ("acme", "zeta"), 0.99,
    (Evidence("templates", ("k1", "k2"), 9.0, "…"), Evidence("payment", ("k1", "k2"), 7.0, "one card")),
)  # fmt: skip


class Worker:
    """One worker's gate, and what follows the register for it."""

    def __init__(self, gate: Gate, documents: Documents) -> None:
        self.gate, self.documents = gate, documents
        self.following = Following(documents, gate.tariffs.groups)

    async def served(self, who: Principal, times: int) -> int:
        return sum([(await self.gate.admit(Call(who))).allowed for _ in range(times)])

    async def used(self, who: Principal) -> int:
        [(_, now)] = await self.gate.look(who)
        return now.used

    async def close(self) -> None:
        await self.documents.close()
        await self.gate.close()


Story = Callable[[Worker, Worker, ManualClock], Coroutine[Any, Any, None]]
Play = Callable[..., None]


@pytest.fixture(params=["memory", "sqlite", "valkey"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Play:
    """Two workers over one store act out a story, by a clock that is moved by hand."""

    def played(story: Story, policy: Policy = POLICY) -> None:
        async def whole() -> None:
            clock = ManualClock()
            pairs: list[tuple[Any, Documents]]
            if request.param == "memory":
                pairs = [(open_store("memory://", clock=clock), MemoryDocuments())] * 2
            else:
                uri = f"sqlite:///{tmp_path}/ledger.db"
                if request.param == "valkey":
                    server: Server = request.getfixturevalue("valkey")
                    uri = server.url
                pairs = [(open_store(uri, clock=clock, deadline=30), open_documents(uri)) for _ in range(2)]
            one, other = [
                Worker(Gate(policy, store, peppers=(b"p" * 32,), clock=clock, deadline=30), documents)
                for store, documents in pairs
            ]
            try:
                await story(one, other, clock)
            finally:
                await one.close()
                await other.close()

        asyncio.run(whole())

    return played


def linked(*orgs: str) -> Callable[[Register], Register]:
    return lambda register: spoken(register, "link", orgs, reason="one invoice", actor="ann", at=7)


def test_orgs_that_are_linked_share_a_limit_on_every_worker_and_what_they_used_before_counts(play: Play) -> None:
    async def story(one: Worker, other: Worker, clock: ManualClock) -> None:
        assert await one.served(ACME, 4) == 4
        assert await other.served(ZETA, 3) == 3
        assert await other.served(OTHER, 2) == 2
        await Registry(one.documents).changed(linked("acme", "zeta"))
        for worker in (one, other):
            assert await worker.following.look()
        assert await one.used(ACME) == await other.used(ZETA) == 7
        assert await other.served(ZETA, 9) + await one.served(ACME, 9) == 3
        assert await other.served(OTHER, 9) == 8, "others are others"

    play(story)


def test_who_is_unlinked_goes_on_with_what_it_alone_has_used(play: Play) -> None:
    async def story(one: Worker, other: Worker, clock: ManualClock) -> None:
        await Registry(one.documents).changed(linked("acme", "zeta"))
        for worker in (one, other):
            await worker.following.look()
        assert await one.served(ACME, 4) + await other.served(ZETA, 9) == 10
        said = [each.id for each in (await Registry(other.documents).read()).said]
        await Registry(other.documents).changed(lambda r: undone(r, said, reason="a mistake", actor="bob", at=8))
        for worker in (one, other):
            await worker.following.look()
        assert (await one.used(ACME), await one.used(ZETA)) == (4, 6)
        assert await other.served(ACME, 9) == 6

    play(story)


def test_a_group_that_grows_counts_what_the_new_one_has_used(play: Play) -> None:
    async def story(one: Worker, other: Worker, clock: ManualClock) -> None:
        await Registry(one.documents).changed(linked("acme", "zeta"))
        for worker in (one, other):
            await worker.following.look()
        assert await one.served(ACME, 2) + await other.served(ZETA, 2) + await one.served(OTHER, 3) == 7
        await Registry(one.documents).changed(linked("zeta", "other"))
        for worker in (one, other):
            await worker.following.look()
        assert await one.used(ACME) == await other.used(OTHER) == 7
        assert await one.served(OTHER, 9) == 3

    play(story)


def test_what_the_detector_finds_is_pooled_when_the_ladder_says_and_nobody_need_look_for_that(play: Play) -> None:
    async def story(one: Worker, other: Worker, clock: ManualClock) -> None:
        await Registry(one.documents).publish([FINDING], clock.now, States())
        for worker in (one, other):
            await worker.following.look()
        assert await one.served(ACME, 4) + await other.served(ZETA, 4) == 8
        clock.advance(59)
        assert await one.served(ACME, 4) == 4, "found, and not pooled yet"
        clock.advance(1)
        assert await one.served(ACME, 1) + await other.served(ZETA, 1) == 0

    play(story, Policy("doc", "0", "enforce", Identify(), TEN, linking=Linking(), ladder=LATER))


def test_a_link_that_ends_ends_by_itself(play: Play) -> None:
    async def story(one: Worker, other: Worker, clock: ManualClock) -> None:
        now, until = clock.now, clock.now + 60 * SECOND
        await Registry(one.documents).changed(
            lambda r: spoken(r, "link", ["acme", "zeta"], reason="for a trial", actor="ann", at=now, until=until)
        )
        await other.following.look()
        assert await other.served(ACME, 5) + await other.served(ZETA, 9) == 10
        clock.advance(60)
        assert await other.served(ACME, 9) == 5

    play(story)


def test_a_kept_tariff_is_used_until_the_groups_in_force_are_others(play: Play) -> None:
    async def story(one: Worker, other: Worker, clock: ManualClock) -> None:
        first = one.gate.tariff(OTHER)
        await one.following.look()
        assert one.gate.tariff(OTHER) is first
        await Registry(other.documents).changed(linked("acme", "zeta"))
        await one.following.look()
        assert one.gate.tariff(OTHER) is not first
        assert one.gate.tariff(ACME).group is not None

    play(story)


# The service, by the wall clock.

TEXT = """\
headgate: v1
policy: test
mode: enforce
on_store_error: closed
identify: {key: [header.x-api-key], directory: keys.yaml, anonymous: refuse}
limits: {life: {meter: requests, per: group, total: 10}}
"""


def service_in(home: Path, store: str) -> Service:
    (home / "headgate.yaml").write_text(TEXT)
    (home / "keys.yaml").write_text("headgate-keys: v1\norgs: {acme: {}, zeta: {}}\nkeys: []\n")
    return Service(Settings(policies=str(home / "headgate.yaml"), store=store, pepper="p" * 32), environ={})


@pytest.mark.parametrize("kind", ["sqlite", "valkey"])
def test_two_services_go_by_a_link_without_being_asked_to(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate.register.keeping.PACE", 0.02)
    uri = request.getfixturevalue("valkey").url if kind == "valkey" else f"sqlite:///{tmp_path}/ledger.db"

    async def story() -> None:
        one, other = services = [service_in(tmp_path, uri) for _ in range(2)]
        for service in services:
            await service.start()
        documents = open_documents(uri)
        await Registry(documents).changed(linked("acme", "zeta"))
        await documents.close()
        async with asyncio.timeout(30):
            while not all(service.gate.tariff(ACME).group for service in services):
                await asyncio.sleep(0.01)
        assert [service.stale for service in services] == ["", ""]
        served = [await (one, other)[n % 2].gate.admit(Call((ACME, ZETA)[n % 3 == 0])) for n in range(14)]
        assert sum([each.allowed for each in served]) == 10
        for service in services:
            await service.stop()

    asyncio.run(story())


def test_a_service_with_a_spoilt_register_serves_by_the_last_good_one_and_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        service = service_in(tmp_path, f"sqlite:///{tmp_path}/ledger.db")
        service.prepare()
        assert service.documents is not None
        await Registry(service.documents).changed(linked("acme", "zeta"))
        assert await service.regroup()
        found = await service.documents.read("groups")
        await service.documents.swap("groups", found.body[:50], found.version, b"torn")
        assert not await service.regroup()
        assert "the document `groups` cannot be read: it is torn" in service.stale
        assert service.gate.tariff(ACME).group is not None
        await service.stop()

    asyncio.run(story())


def test_in_one_process_a_detector_and_its_gate_share_their_documents(tmp_path: Path) -> None:
    async def story() -> None:
        service = service_in(tmp_path, "memory://")
        service.prepare()
        documents = service.documents
        assert documents is not None
        # A detector has a thread and a loop of its own.
        await asyncio.to_thread(lambda: asyncio.run(Registry(documents).changed(linked("acme", "zeta"))))
        assert await service.regroup()
        assert service.gate.tariff(ZETA).group is not None
        await service.stop()

    asyncio.run(story())


def test_a_store_that_keeps_no_groups_follows_none(tmp_path: Path) -> None:
    service = service_in(tmp_path, "memcached://127.0.0.1:11211")
    service.prepare()
    assert (service.documents, service.stale) == (None, "")
    assert not asyncio.run(service.regroup())
