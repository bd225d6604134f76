"""Which store is looked at how, and what a service tells of it."""

from __future__ import annotations

import asyncio
import logging

import pytest

from headgate.errors import StoreError
from headgate.stores import fitness
from headgate.stores.finding import Finding, Report
from headgate.stores.redis.doctor import visit
from headgate.testing.servers import Server


def looked(uri: str, **how: object) -> Report:
    return asyncio.run(fitness.look(uri, **how))  # type: ignore[arg-type]


def test_an_address_that_is_none_is_told_as_when_the_store_is_opened() -> None:
    for uri in ("sqlite://ledger.db", "redis://h/zero", "nonsense://h", "memory://x"):
        with pytest.raises(StoreError):
            looked(uri)
    with pytest.raises(StoreError, match="no replicas"):
        looked("sqlite:///ledger.db", durability="replicated")


def test_of_a_store_that_is_not_looked_at_nothing_is_said_to_be_well() -> None:
    report = looked("memcached://127.0.0.1:1")
    assert report.findings == () and [what.what for what in report.not_known] == ["whether it is fit"]


def test_no_password_stands_in_a_report(valkey: Server) -> None:
    host, port = valkey.address
    with pytest.raises(StoreError) as fault:
        looked(f"redis://nobody:canary@{host}:{port}/0")
    assert "canary" not in str(fault.value)


def test_a_start_asks_for_no_keys_and_for_no_slow_commands(valkey: Server) -> None:
    valkey.ask("SET", "hg{x}", "v")
    calls = valkey.ask("INFO", "commandstats").get("cmdstat_scan", {}).get("calls", 0)
    found = {finding.name for finding in looked(valkey.url, thorough=False).findings}
    assert valkey.ask("INFO", "commandstats").get("cmdstat_scan", {}).get("calls", 0) == calls
    assert "lasting" not in found and "forgets" in found
    [(_, line)] = looked(valkey.url, thorough=False).seen
    assert "round trip" not in line
    assert "lasting" in {finding.name for finding in looked(valkey.url).findings}


def test_the_deadline_is_the_stores_own_unless_it_is_said(valkey: Server) -> None:
    def deadline(**how: float) -> float:
        async def facts() -> float:
            seen: list[float] = []

            async def instead(uri: str, shown: str, **what: float) -> Report:
                seen.append(what["deadline"])
                return Report(shown)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(visit, "report", instead)
                await fitness.look(valkey.url, **how)  # type: ignore[arg-type]
            return seen[0]

        return asyncio.run(facts())

    assert deadline() == 0.025 and deadline(deadline=2.0) == 2.0


def test_faults_and_warnings_become_events_and_notes_do_not(caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        Finding(name, severity, ("h:1",), "what", "why", "remedy")
        for name, severity in (("eviction", "fault"), ("forgets", "warning"), ("alone", "note"))
    ]
    with caplog.at_level(logging.WARNING, "headgate"):
        fitness.tell(rows)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2 and all('"headgate.store.finding"' in line for line in told)
    assert '"finding": "eviction"' in told[0] and '"severity": "fault"' in told[0]
