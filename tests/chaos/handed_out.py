"""An app that hands out records and names them, before a policy that counts how many different ones.

Law: ground truth is the set that the app kept of what it handed out, by org.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from headgate import Gate, HeadgateMiddleware, load, open_store, touch
from headgate.directory import Callback
from headgate.quota.facts import Principal

PEPPERS = (b"a pepper of thirty-two bytes. ok.",)

PATIENT = 20.0
"""Seconds that a request waits for its store: this machine is busy, and the promise is not about time."""

LIMITS = """\
headgate: v1
policy: records
mode: enforce
zone: UTC
on_store_error: closed
identify: {{key: [header.x-api-key], anonymous: refuse}}
meters: {{records: {{distinct: app, reserve: {reserve}}}}}
limits:
  org:   {{meter: records, per: org, quota: {quota}/year}}
  life:  {{meter: records, per: key, total: {quota}}}
  group: {{meter: records, per: group, quota: {quota}/year}}
"""


class Desk:
    """The app behind its gate. `handed`: what was handed out, by org."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.app = HeadgateMiddleware(self._records, gate=gate)
        self.handed: defaultdict[str, set[str]] = defaultdict(set)
        self._asked: list[str] = []

    async def hands_out(self, org: str, records: Iterable[str]) -> int:
        """One request for these records; its status."""
        self._asked = list(records)
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "GET", "path": "/", "raw_path": b"/", "root_path": "", "query_string": b"",
            "headers": [(b"x-api-key", _secret(org))], "client": ("192.0.2.1", 1), "server": ("x", 80),
            "scheme": "http", "http_version": "1.1", "asgi": {"version": "3.0"},
        }  # fmt: skip
        await self.app(scope, receive, send)
        return int(sent[0]["status"])

    async def _records(self, scope: Any, receive: Any, send: Any) -> None:
        touch(scope, self._asked)
        self.handed[scope["state"]["headgate"].principal.org].update(self._asked)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def counted(self, org: str) -> dict[str, int]:
        """What is counted under each limit; nothing may be held any more."""
        rows = {limit.id: found for limit, found in await self.gate.look(_principal(org))}
        assert not any(found.held for found in rows.values())
        return {name: found.used for name, found in rows.items()}


@asynccontextmanager
async def desk(
    store: str, file: Path, *, quota: str = "1M", reserve: int = 500, more: str = ""
) -> AsyncIterator[Desk]:
    """A desk over a store, by `LIMITS`. An org is its own key."""
    file.write_text(LIMITS.format(quota=quota, reserve=reserve))
    directory = Callback(lambda secret: _principal(secret.removeprefix("sk-")), PEPPERS)
    gate = Gate(load(file), open_store(store, deadline=PATIENT), PEPPERS, directory=directory, deadline=PATIENT)
    try:
        yield Desk(gate)
    finally:
        await gate.close()


def _secret(org: str) -> bytes:
    return b"sk-" + org.encode()


def _principal(org: str) -> Principal:
    return Principal(f"k_{org}", org)
