"""The thread beside a worker's event loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headgate.errors import StoreError
from headgate.policy.compiled import Linking, Policy
from headgate.quota.facts import Call, Principal
from headgate.quota.identify import Identify
from headgate.register import Registry
from headgate.settings import Settings
from headgate.stores.documents import MemoryDocuments
from headgate.testing.servers import Server
from headgate.watch import beside, watching
from headgate.watch.memory import MemoryStream
from headgate.watch.redis import RedisStream
from headgate.watch.sqlite import SqliteStream
from headgate.watch.stream import Stream
from headgate.watch.watching import Watching
from watch.stand_in import Alike, Register, run

POLICY = Policy("doc", "0", "enforce", Identify(), (), linking=Linking(linked=970_000))
PATIENCE = 30.0


class Said(Call):
    __slots__ = ("body",)


def ask(watched: Watching, key: str, prompt: str = "Who is it?") -> None:
    call = Said(Principal(key, f"org of {key}"))
    call.body = {"prompt": prompt}
    watched.eye.saw(POLICY, call, {"path": "/", "headers": []}, time.time_ns() // 1_000, 200)


def until(true: Callable[[], Any]) -> None:
    """Returns when it is so; fails if that is never."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


@pytest.fixture(params=["memory", "sqlite"])
def stream(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Stream]:
    return MemoryStream if request.param == "memory" else lambda: SqliteStream(str(tmp_path / "watch"))


def test_what_a_worker_sees_is_learnt_from_and_published(stream: Callable[[], Stream]) -> None:
    register = Register()
    watched = Watching(b"pepper", stream, kind=lambda: Alike, findings=lambda: register)
    watched.start()
    for n in range(20):
        ask(watched, f"k{n}")
    until(lambda: register.groups and len(register.groups[0]) == 20)
    watched.stop()
    assert watched.eye.faults == 0


def test_a_worker_that_stops_leaves_its_last_requests_to_the_next_one(tmp_path: Path) -> None:
    def worker(register: Register) -> Watching:
        open_ = lambda: SqliteStream(str(tmp_path / "watch"))  # noqa: E731
        return Watching(b"pepper", open_, kind=lambda: Alike, findings=lambda: register)

    first, second = Register(), Register()
    one = worker(first)
    one.start()
    ask(one, "k0")
    one.stop()
    other = worker(second)
    other.start()
    ask(other, "k1")
    until(lambda: second.groups == [{"k0", "k1"}])
    other.stop()


def test_of_several_workers_one_learns_from_all(tmp_path: Path) -> None:
    registers = [Register() for _ in range(3)]
    workers = [
        Watching(b"pepper", lambda: SqliteStream(str(tmp_path / "watch")), kind=lambda: Alike,
                 findings=lambda register=register: register)
        for register in registers
    ]  # fmt: skip
    for n, worker in enumerate(workers):
        worker.start()
        ask(worker, f"k{n}")
    until(lambda: any(register.groups == [{"k0", "k1", "k2"}] for register in registers))
    assert sum(any(register.lists) for register in registers) == 1
    leader = next(n for n, register in enumerate(registers) if any(register.lists))
    workers.pop(leader).stop()
    del registers[leader]
    ask(workers[0], "k3")
    until(lambda: any(register.groups == [{"k0", "k1", "k2", "k3"}] for register in registers))
    for worker in workers:
        worker.stop()


def test_a_worker_of_a_fleet_passes_on_and_does_not_watch(valkey: Server) -> None:
    async def seen() -> bool:
        stream = RedisStream(valkey.url)
        await stream.leads()
        found = await stream.read({}, 100)
        await stream.close()
        return len(found) == 1

    assert not run(seen()), "from now on somebody watches"
    watched = beside(Settings(store=valkey.url), b"pepper", lambda: POLICY)
    assert watched is not None
    watched.start()
    ask(watched, "k0")
    until(lambda: run(seen()))
    watched.stop()


def test_a_thread_that_cannot_begin_harms_no_request(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Stream:
        raise StoreError("there is no such file", transient=False)

    watched = Watching(b"pepper", broken, kind=lambda: Alike)
    watched.start()
    ask(watched, "k0")
    until(lambda: "there is no such file" in caplog.text)
    watched.stop()


def test_a_stop_without_a_start_and_a_second_start_are_nothing() -> None:
    watched = Watching(b"pepper", MemoryStream, kind=lambda: Alike)
    watched.stop()
    watched.start()
    thread = watched._thread
    watched.start()
    assert watched._thread is thread
    watched.stop()
    watched.stop()


def test_findings_are_in_the_register_by_the_policys_probabilities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "linker", lambda: Alike)
    documents = MemoryDocuments()
    watched = beside(Settings(store="memory://"), b"pepper", lambda: POLICY, documents)
    assert watched is not None
    watched.start()
    ask(watched, "k0")
    ask(watched, "k1")
    until(lambda: run(Registry(documents).read()).groups)
    watched.stop()
    [group] = run(Registry(documents).read()).groups
    assert (group.state, set(group.members), group.orgs) == ("linked", {"k0", "k1"}, ("org of k0", "org of k1"))


@pytest.mark.parametrize(
    ("store", "watch", "flushes", "watches"),
    [
        ("memory://", "auto", True, True),
        ("memory://", "apart", False, False),
        ("sqlite:///a.db", "auto", True, True),
        ("sqlite:///a.db", "apart", True, False),
        ("redis://h", "auto", True, False),
        ("redis://h", "off", False, False),
    ],
)
def test_who_watches_is_the_settings_to_say(store: str, watch: Any, flushes: bool, watches: bool) -> None:
    watched = beside(Settings(store=store, watch=watch), b"pepper", lambda: POLICY)
    assert (watched is not None) == flushes
    assert bool(watched and watched._findings) == watches


def test_beside_a_store_of_counters_nothing_can_be_noted() -> None:
    with pytest.raises(StoreError, match="for linking"):
        beside(Settings(store="memcached://h:11211"), b"pepper", lambda: POLICY)
