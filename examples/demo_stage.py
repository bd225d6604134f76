"""Where the demo plays: a folder that is thrown away, keys made as an operator makes them, a server with two workers.

Law: whatever was started here is stopped here, by the id under which it was started, however the demo ends.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copyfile

import httpx
from demo_tally import notes

from headgate.testing.servers import Server as Redis
from headgate.testing.servers import ServerUnready

GATEWAY = Path(__file__).parent / "llm_gateway"

PATIENCE = 30.0
"""Seconds that a server may take to start."""

GRACE = 10.0
"""Seconds that a server may take to end what it is at."""

LAST_WORDS = 20
"""Lines shown of what a server complains of: enough for a policy's fault, or for the end of a traceback."""

DEADLINE = "2000"
"""Milliseconds that a request waits for the ledger: a machine that is busy with others is no outage to be shown."""

SHORT_LEASE = "5s"
"""How long a killed worker's answers stay held where a worker is killed; a minute is the policy's own."""

FOREIGN = ("HEADGATE", "UVICORN_", "ORIGIN_LOG", "TOKEN_SECONDS")
"""Settings of this shell that are not the demo's."""


class Unready(RuntimeError):
    """The demo could not be set up; the message says why."""


@dataclass(frozen=True)
class Stage:
    """The folder, and how headgate is set up in it. `ledger`: where it is kept, as an address and in words."""

    folder: Path
    mode: str
    kill: bool
    ledger: tuple[str, str]
    pepper: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)

    def __post_init__(self) -> None:
        copyfile(GATEWAY / "policy.yaml", self.policy)

    @property
    def policy(self) -> Path:
        """The gateway's policy."""
        return self.folder / "policy.yaml"

    @property
    def log(self) -> Path:
        """The origin's own count."""
        return self.folder / "origin.jsonl"

    @property
    def environment(self) -> dict[str, str]:
        """The server's: this shell's own, without whatever settings it may hold for another headgate."""
        ours = {
            "HEADGATE_POLICIES": str(self.policy),
            "HEADGATE_STORE": self.ledger[0],
            "HEADGATE_DEADLINE_MS": DEADLINE,
            "HEADGATE_PEPPER": self.pepper,
            "HEADGATE_MODE": self.mode,
            "HEADGATE_LOG": "stderr",
            "HEADGATE_LOG_LEVEL": "error",
            "ORIGIN_LOG": str(self.log),
        }
        if self.kill:
            ours["HEADGATE__LIMITS__STREAMS__LEASE"] = SHORT_LEASE
        return {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)} | ours

    async def new_key(self, org: str, plan: str) -> str:
        """A new key's secret, made as an operator makes one. Raises Unready if the command fails."""
        script = Path(sys.executable).with_name("headgate")
        making = await asyncio.create_subprocess_exec(
            *(script, "key", "new", "--org", org, "--plan", plan, "--into", "keys.yaml"),
            cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,  # ctrl-C is for the demo alone
        )  # fmt: skip
        printed, complaint = await making.communicate()
        if making.returncode != 0:
            raise Unready(f"`headgate key new` ended with {making.returncode}:\n{complaint.decode().strip()}")
        return printed.decode().strip()


@contextmanager
def ledger(store: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Where the ledger is kept, for as long as it is needed: a file in the folder, or a Redis of the demo's own.

    Raises Unready where no Redis is installed, or it does not come up.
    """
    if store == "sqlite":
        yield f"sqlite:///{folder / 'ledger.db'}", "1 SQLite ledger"
        return
    try:
        redis = Redis().start()
    except ServerUnready as fault:
        raise Unready(str(fault)) from None
    try:
        yield redis.url, f"1 ledger in {redis.version}"
    finally:
        redis.stop()


class Server:
    """The gateway under uvicorn, with two workers that share the ledger."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._said = stage.folder / "server.log"
        # uvicorn itself takes a free port, so that nothing can take it first; a session of its own, so that ctrl-C
        # is for the demo, which stops the server when its clients are done.
        command = [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(GATEWAY), "--host", "127.0.0.1",
                   "--port", "0", "--workers", "2", "--no-access-log"]  # fmt: skip
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                command, cwd=stage.folder, env=stage.environment, stdout=said, stderr=said, start_new_session=True
            )

    async def answering(self) -> str:
        """Wait until it answers, and say where. The question is about usage, without a key, and free.

        Raises Unready if it ends instead or takes too long.
        """
        until = time.monotonic() + PATIENCE
        async with httpx.AsyncClient(trust_env=False) as client:
            while time.monotonic() < until and self._process.poll() is None:
                found = re.search(r"running on (http://\S+)", self._said.read_text(errors="replace"))
                if found is not None and await _answers(client, found[1]):
                    return found[1]
                await asyncio.sleep(0.1)
        raise Unready("the server did not come up")

    def busy_worker(self) -> int | None:
        """The id of a worker that is in the middle of an answer, by the origin's log; None while there is none."""
        under_way: dict[str, int] = {}
        for note in notes(self._stage.log):
            if "worker" in note:
                under_way[note["id"]] = note["worker"]
            else:
                under_way.pop(note["id"], None)
        return max(Counter(under_way.values()).items(), key=lambda pair: pair[1])[0] if under_way else None

    def complaints(self) -> str:
        """What the server said that is no plain information: its last words."""
        lines = self._said.read_text(errors="replace").splitlines()
        return "\n".join([line for line in lines if not line.startswith("INFO:")][-LAST_WORDS:])

    def condition(self) -> str:
        """Whether it runs, and what it said."""
        code = self._process.poll()
        state = "The server runs" if code is None else f"The server ended with code {code}"
        return f"{state}; it complained of {self.complaints() or 'nothing'}"

    def stop(self) -> None:
        """Stop the server and its workers."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=GRACE)
        # Its session holds itself and its workers, also one that has outlived it, and nothing else.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@asynccontextmanager
async def serving(stage: Stage) -> AsyncIterator[tuple[Server, str]]:
    """The server and its address, for as long as it is needed. What goes wrong is told with what the server said."""
    server = Server(stage)
    try:
        yield server, await server.answering()
    except Unready as fault:
        raise Unready(f"{fault}\n{server.condition()}") from None
    finally:
        server.stop()


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(f"{url}/headgate/v1/usage")).status_code < 500
    except httpx.TransportError:
        return False
