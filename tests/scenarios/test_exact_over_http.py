"""Two uvicorn workers, one SQLite ledger, sixty-four clients at once: the app behind is reached exactly as often as
the policy allows, also when a worker is killed and when the whole server is.

The count is the app's own, one line a request that it served.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest

LIMIT = 1_000
CLIENTS = 64
WORKERS = 2

STAY = 8
"""Requests on one connection: then another, which may reach the other worker."""

PATIENCE = 120.0

POLICY = f"""\
headgate: v1
policy: exact
mode: enforce
on_store_error: closed
identify: {{key: [header.x-api-key], directory: keys.yaml, anonymous: refuse}}
limits:
  life:    {{meter: requests, per: org, total: {LIMIT}}}
  key:     {{meter: requests, per: key, quota: 100k/day, anchor: first_use}}
  rolling: {{meter: requests, per: org, rolling: 100k/7d}}
"""


class House:
    """The server in a folder of its own; whatever is started here is stopped here, by its id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        (folder / "headgate.yaml").write_text(POLICY)
        command = [Path(sys.executable).with_name("headgate"), "key", "new", "--org", "acme", "--into", "keys.yaml"]
        made = subprocess.run(command, cwd=folder, env=self.environment, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        self.secret = made.stdout.strip()

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEADGATE", "UVICORN_"))}
        return kept | {
            "HEADGATE_PEPPER": "a pepper for tests alone, of no use elsewhere",
            "HEADGATE_DEADLINE_MS": "30000",
            "ORIGIN_COUNT": str(self.folder / "count"),
        }

    def start(self) -> None:
        said = self.folder / "server.log"
        with said.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", "origin:app", "--app-dir", str(Path(__file__).parent),
                 "--host", "127.0.0.1", "--port", "0", "--workers", str(WORKERS), "--no-access-log"],
                cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        until = time.monotonic() + PATIENCE
        # Not before both are ready: a socket that listens is not yet two workers that share the work.
        while (told := said.read_text(errors="replace")).count("Application startup complete") < WORKERS:
            assert time.monotonic() < until and self.process.poll() is None, told
            time.sleep(0.05)
        found = re.search(r"running on http://127\.0\.0\.1:(\d+)", told)
        assert found is not None, told
        self.port = int(found[1])

    def kill(self) -> None:
        """Kill the server and its workers at once, as a machine's end would."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    async def asked(self, times: int) -> Counter[int]:
        """Ask so often, by all clients at once; the answers' statuses, 0 for an answer that was cut off."""
        left, statuses = iter(range(times)), Counter[int]()
        request = b"GET /work HTTP/1.1\r\nhost: x\r\nx-api-key: %s\r\n\r\n" % self.secret.encode()

        async def client() -> None:
            while turns := list(islice(left, STAY)):
                try:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    statuses[0] += len(turns)
                    continue
                answered = 0
                try:
                    for _ in turns:
                        writer.write(request)
                        head = await reader.readuntil(b"\r\n\r\n")
                        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                        await reader.readexactly(int(length[1]) if length else 0)
                        statuses[int(head[9:12])] += 1
                        answered += 1
                except (OSError, asyncio.IncompleteReadError):
                    statuses[0] += len(turns) - answered
                finally:
                    writer.close()
                    with suppress(OSError):
                        await writer.wait_closed()

        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as clients:
            for _ in range(min(CLIENTS, times)):
                clients.create_task(client())
        return statuses

    def served(self) -> Counter[int]:
        """How often each worker's app was reached."""
        file = self.folder / "count"
        return Counter(map(int, file.read_text().split())) if file.exists() else Counter()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    made.start()
    yield made
    made.kill()


def test_the_app_is_reached_exactly_as_often_as_allowed_also_after_a_kill(house: House) -> None:
    answers = asyncio.run(house.asked(LIMIT + 400))
    assert answers == {200: LIMIT, 429: 400}
    workers = house.served()
    assert workers.total() == LIMIT
    assert len(workers) == 2, "both workers served: what is shared is the ledger"

    os.kill(max(workers), signal.SIGKILL)
    assert set(asyncio.run(house.asked(300))) <= {429, 0}
    assert house.served().total() == LIMIT

    house.kill()
    house.start()
    assert asyncio.run(house.asked(200)) == {429: 200}
    assert house.served().total() == LIMIT


def test_a_worker_that_is_killed_under_load_makes_nobody_a_gift(house: House) -> None:
    async def story() -> Counter[int]:
        asking = asyncio.create_task(house.asked(LIMIT + 600))
        while house.served().total() < LIMIT // 3:
            await asyncio.sleep(0.01)
        os.kill(house.served().most_common(1)[0][0], signal.SIGKILL)
        return await asking

    answers = asyncio.run(story())
    asyncio.run(house.asked(LIMIT))
    # What was granted and not answered was charged: at most what the killed worker had in hand.
    assert LIMIT - CLIENTS <= house.served().total() <= LIMIT
    assert answers[0] <= CLIENTS * STAY
    assert asyncio.run(house.asked(100)) == {429: 100}
