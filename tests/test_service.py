"""What keeps a gate fresh: files that change while the app runs, and files that break."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from headgate.directory.issue import issue, revoke
from headgate.errors import IdentityError, PolicyError, SettingsError
from headgate.quota.facts import Call, Principal
from headgate.service import Service
from headgate.settings import Settings

POLICY = """\
headgate: v1
policy: test
mode: enforce
on_store_error: closed
identify: {key: [header.x-api-key], directory: keys.yaml, anonymous: refuse}
limits: {day: {meter: requests, per: org, quota: AMOUNT/day}}
"""
KEYS = "headgate-keys: v1\norgs:\n  acme: {}\nkeys: []\n"
ACME = Principal("k1", "acme")
LOOK = 0.02


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "headgate.yaml").write_text(POLICY.replace("AMOUNT", "3"))
    (tmp_path / "keys.yaml").write_text(KEYS)
    return tmp_path


@pytest.fixture
def service(home: Path) -> Service:
    return service_in(home)


def service_in(home: Path, **settings: Any) -> Service:
    given = {"policies": str(home / "headgate.yaml"), "store": f"sqlite:///{home / 'ledger.db'}", "pepper": "p" * 32}
    return Service(Settings(**given | {"reload_seconds": LOOK} | settings), environ={})


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


async def until(true: Callable[[], bool]) -> None:
    """Gives the watching task its turns; a test that waits longer than this has failed, on however busy a machine."""
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(LOOK)


async def served(service: Service, times: int) -> int:
    return sum([(await service.gate.admit(Call(ACME))).allowed for _ in range(times)])


def test_a_changed_amount_is_live_and_the_usage_stays(service: Service, home: Path) -> None:
    async def story() -> None:
        await service.start()
        assert await served(service, 5) == 3
        before = service.gate.policy.version
        (home / "headgate.yaml").write_text(POLICY.replace("AMOUNT", "4"))
        await until(lambda: service.gate.policy.version != before)
        assert await served(service, 5) == 1
        await service.stop()

    run(story())


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda file: file.write_text(POLICY[: len(POLICY) // 2]), id="half a file"),
        pytest.param(lambda file: file.write_text(POLICY.replace("meter:", "metre:")), id="a typo"),
        pytest.param(lambda file: file.unlink(), id="deleted"),
        pytest.param(lambda file: (file.unlink(), file.symlink_to(file)), id="a link to itself"),
        pytest.param(lambda file: (file.unlink(), file.mkdir()), id="an empty folder"),
        pytest.param(lambda file: os.truncate(file, 100_000_000), id="100 MB"),
        pytest.param(lambda file: file.write_bytes(b"\xff\xfe\x00headgate"), id="no text"),
    ],
)
def test_a_broken_file_keeps_the_last_good_policy_until_it_is_mended(
    service: Service, home: Path, broken: Callable[[Path], object]
) -> None:
    file = home / "headgate.yaml"

    async def story() -> None:
        await service.start()
        good = service.gate.policy
        broken(file)
        await until(lambda: bool(service.degraded))
        assert service.gate.policy is good
        assert await served(service, 5) == 3
        if file.is_dir() and not file.is_symlink():
            file.rmdir()
        mended = home / "mended.yaml"
        mended.write_text(POLICY.replace("AMOUNT", "5"))
        mended.replace(file)
        await until(lambda: not service.degraded)
        assert await served(service, 5) == 2
        await service.stop()

    run(story())


def test_a_key_that_is_added_while_the_app_runs_is_known(service: Service, home: Path) -> None:
    from headgate.quota.identify import digest

    async def story() -> None:
        await service.start()
        assert await service.gate.identify(b"hg_secret") is None
        mark = digest(b"p" * 32, b"key", b"hg_secret").hex()
        (home / "keys.yaml").write_text(
            KEYS.replace(
                "keys: []", f"keys:\n  - {{key: k_0123456789ab, org: acme, digest: {mark}, created: 2027-01-15}}"
            )
        )
        async with asyncio.timeout(30):
            while (known := await service.gate.identify(b"hg_secret")) is None:
                await asyncio.sleep(LOOK)
        assert known is not None and (known.key, known.org) == ("k_0123456789ab", "acme")
        await service.stop()

    run(story())


def test_broken_keys_keep_those_that_were_known_and_the_service_says_so(service: Service, home: Path) -> None:
    async def story() -> None:
        await service.start()
        (home / "keys.yaml").write_text("headgate-keys: v1\nkeys: [{key: k1, org: nobody}]\n")
        await until(lambda: "keys.yaml" in service.degraded)
        (home / "keys.yaml").write_text(KEYS)
        await until(lambda: not service.degraded)
        await service.stop()

    run(story())


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
@pytest.mark.parametrize("found", [signal.SIG_DFL, signal.SIG_IGN], ids=["as usual", "ignored, as under nohup"])
def test_sighup_reloads_at_once(home: Path, found: Any) -> None:
    async def story() -> None:
        service = service_in(home, reload_seconds=0)
        await service.start()
        before = service.gate.policy.version
        (home / "headgate.yaml").write_text(POLICY.replace("AMOUNT", "9"))
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: service.gate.policy.version != before)
        await service.stop()
        assert signal.getsignal(signal.SIGHUP) is found

    before = signal.signal(signal.SIGHUP, found)
    try:
        run(story())
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_a_host_that_uses_sighup_keeps_it(home: Path) -> None:
    heard: list[int] = []

    async def story() -> None:
        service = service_in(home, reload_seconds=0)
        await service.start()
        os.kill(os.getpid(), signal.SIGHUP)
        await service.stop()

    before = signal.signal(signal.SIGHUP, lambda number, frame: heard.append(number))
    try:
        run(story())
    finally:
        signal.signal(signal.SIGHUP, before)
    assert heard == [signal.SIGHUP]


def test_a_restart_gives_nobody_a_fresh_window(home: Path) -> None:
    async def story() -> None:
        for expected in (3, 0):
            service = service_in(home)
            await service.start()
            assert await served(service, 4) == expected
            await service.stop()

    run(story())


def test_a_service_that_was_stopped_starts_again_on_another_loop(home: Path) -> None:
    service = service_in(home)

    async def story(expected: int) -> None:
        await service.start()
        await service.start()
        assert await served(service, 2) == expected
        await service.stop()

    run(story(2))
    run(story(1))


def test_what_cannot_be_started_says_what_to_mend(home: Path) -> None:
    with pytest.raises(SettingsError, match="HEADGATE_PEPPER"):
        service_in(home, pepper="", pepper_file=str(home / "none")).prepare()
    (home / "keys.yaml").unlink()
    with pytest.raises(IdentityError, match=r"keys\.yaml: no such file"):
        service_in(home).prepare()
    (home / "headgate.yaml").write_text(POLICY.replace("requests", "request"))
    with pytest.raises(PolicyError, match="did you mean"):
        service_in(home).prepare()
    with pytest.raises(IdentityError, match="not started"):
        service_in(home).gate  # noqa: B018


def test_the_environment_changes_a_leaf_and_the_mode(home: Path) -> None:
    settings = Settings(policies=str(home / "headgate.yaml"), store="memory://", pepper="p" * 32, mode="shadow")
    service = Service(settings, environ={"HEADGATE__LIMITS__DAY__QUOTA": "1/day"})

    async def story() -> None:
        await service.start()
        assert await served(service, 3) == 3
        assert [len((await service.gate.admit(Call(ACME))).shadowed)] == [1]
        await service.stop()

    run(story())


def test_a_store_that_cannot_be_opened_is_told_at_the_start_and_stops_nothing(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        service = service_in(home, store=f"sqlite:///{home / 'nowhere' / 'ledger.db'}")
        await service.start()
        await until(lambda: "headgate.store.error" in caplog.text)
        assert "nowhere" in caplog.text
        assert (await service.gate.admit(Call(ACME))).action.value == "unavailable"
        await service.stop()

    run(story())


def test_a_key_that_is_revoked_is_gone_though_the_policy_is_broken(home: Path) -> None:
    issued = issue(home / "keys.yaml", "acme", "", b"p" * 32, "2027-01-15")

    async def story() -> None:
        service = service_in(home, reload_seconds=0)
        await service.start()
        assert await service.gate.identify(issued.secret.encode()) is not None
        (home / "headgate.yaml").write_text("headgate: v2\n")
        revoke(home / "keys.yaml", issued.key, "2027-01-16")
        assert not await service.reload()
        assert await service.gate.identify(issued.secret.encode()) is None
        assert await served(service, 1) == 1
        await service.stop()

    run(story())


def test_a_policy_that_was_disabled_knows_its_keys_once_it_enforces(home: Path) -> None:
    issued = issue(home / "keys.yaml", "acme", "", b"p" * 32, "2027-01-15")
    file = home / "headgate.yaml"
    enforced = file.read_text()

    async def story(pepper: str, taken: bool) -> None:
        file.write_text(enforced.replace("mode: enforce", "mode: disabled"))
        service = service_in(home, reload_seconds=0, pepper=pepper, pepper_file=str(home / "none"))
        await service.start()
        file.write_text(enforced)
        assert await service.reload() is taken
        assert service.gate.disabled is not taken
        assert (await service.gate.identify(issued.secret.encode()) is not None) is taken
        await service.stop()

    run(story("p" * 32, taken=True))
    run(story("", taken=False))


def test_two_middlewares_of_one_ledger_charge_a_request_once(home: Path) -> None:
    from headgate.asgi import HeadgateMiddleware

    issued = issue(home / "keys.yaml", "acme", "", b"p" * 32, "2027-01-15")
    settings = service_in(home).settings
    statuses: list[int] = []

    async def ok(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def story() -> None:
        inner = HeadgateMiddleware(ok, settings=settings)
        outer = HeadgateMiddleware(inner, settings=settings)
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"x-api-key", issued.secret.encode())]}
        for _ in range(4):
            await outer(dict(scope), None, send)
        for app in (inner, outer):
            await app._stopped()

    run(story())
    assert statuses == [200, 200, 200, 429]


def test_of_two_reloads_at_once_the_files_win(home: Path) -> None:
    async def story() -> None:
        service = service_in(home, reload_seconds=0)
        await service.start()
        reloads = []
        for amount in range(4, 12):
            (home / "next.yaml").write_text(POLICY.replace("AMOUNT", str(amount)))
            (home / "next.yaml").replace(home / "headgate.yaml")
            reloads.append(asyncio.create_task(service.reload()))
            await asyncio.sleep(0)
        assert all(await asyncio.gather(*reloads))
        assert await served(service, 20) == 11
        await service.stop()

    run(story())
