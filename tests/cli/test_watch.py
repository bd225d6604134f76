"""`headgate watch`."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from headgate.register import Registry
from headgate.stores.documents import open_documents
from headgate.watch import open_stream, watching
from watch.stand_in import Alike, parcel, seen

from .conftest import Run

STORE = "sqlite:///ledger.db"
LINKING = "linking: {states: {suspect: 0.7, linked: 0.97}}\n"


@pytest.fixture
def linking(policy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    policy.write_text(policy.read_text(encoding="utf-8") + LINKING, encoding="utf-8")
    monkeypatch.setenv("HEADGATE_STORE", STORE)
    monkeypatch.setattr(watching, "linker", lambda: Alike)
    return policy


def put(*keys: str) -> None:
    async def story() -> None:
        stream = open_stream(STORE)
        await stream.put("0", [parcel(b"me", n, seen(key, 5)) for n, key in enumerate(keys)])
        await stream.close()

    asyncio.run(story())


def test_once_looks_at_what_is_there_and_says_what_was_found(run: Run, linking: Path) -> None:
    put("k1", "k2", "k3")
    said = run("watch", "--once")
    assert said.exit_code == 0, said.stderr
    assert "looked at 3 requests; 1 findings name 3 keys" in said.stderr
    [group] = asyncio.run(Registry(open_documents(STORE)).read()).groups
    assert set(group.members) == {"k1", "k2", "k3"}
    assert "looked at 0 requests; 1 findings" in run("watch", "--once").stderr


def test_while_another_watches_once_says_so(run: Run, linking: Path) -> None:
    async def held() -> object:
        stream = open_stream(STORE)
        assert await stream.leads()
        said = await asyncio.to_thread(run, "watch", "--once")
        await stream.close()
        return said

    said = asyncio.run(held())
    assert said.exit_code == 2
    assert "another process watches already" in said.stderr


def test_a_policy_that_asks_for_no_linked_keys_has_nothing_to_watch(run: Run, policy: Path) -> None:
    said = run("watch", "--once")
    assert said.exit_code == 2
    assert "asks for no linked keys: write `linking: {states:" in said.stderr


def test_a_store_in_one_process_cannot_be_watched_from_another(
    run: Run, linking: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_STORE", "memory://")
    said = run("watch")
    assert said.exit_code == 2
    assert "each process's own" in said.stderr


def test_a_store_of_counters_has_no_place_for_it(run: Run, linking: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_STORE", "memcached://127.0.0.1:11211")
    said = run("watch", "--once")
    assert said.exit_code == 2
    assert "use sqlite:/// or redis://" in said.stderr


def test_it_runs_until_it_is_stopped_and_lets_the_next_one_lead(linking: Path, tmp_path: Path) -> None:
    put("k1", "k2")
    here = Path(__file__).resolve().parents[1]
    program = (
        f"import sys; sys.path.insert(0, {str(here)!r})\n"
        "from headgate.watch import watching\n"
        "from watch.stand_in import Alike\n"
        "watching.linker = lambda: Alike\n"
        "from headgate.cli import main\n"
        "sys.argv = ['headgate', 'watch']\n"
        "main()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, cwd=tmp_path)

    async def linked() -> None:
        documents = open_documents(STORE)
        async with asyncio.timeout(60):
            while not (await Registry(documents).read()).groups:
                await asyncio.sleep(0.02)

    try:
        asyncio.run(linked())
    finally:
        child.send_signal(signal.SIGTERM)
        _, rest = child.communicate(timeout=60)
    assert child.returncode == 0, rest
    assert "Traceback" not in rest

    async def leads() -> bool:
        stream = open_stream(STORE)
        try:
            return await stream.leads() and await stream.kept("b") is not None
        finally:
            await stream.close()

    assert asyncio.run(leads()), "what was learnt was kept"
