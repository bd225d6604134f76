"""An example as its README starts it: a folder with its policy, keys from the real command, a real uvicorn."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copyfile
from typing import Any

import httpx
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

PATIENCE = 60.0
"""Seconds within which a server must answer and a ledger must have settled."""


@dataclass
class House:
    """One example in a folder of its own, with keys for those who call it. `secrets` are by org."""

    example: str
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    url: str = ""
    client: httpx.Client | None = None

    @property
    def log(self) -> Path:
        """What the origin says that it served."""
        return self.folder / "origin.jsonl"

    @property
    def environment(self) -> dict[str, str]:
        """What the example is started with, and nothing that this shell happens to have for headgate."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEADGATE", "UVICORN_"))}
        ours = {
            "HEADGATE_PEPPER": "a pepper for tests alone, of no use elsewhere",
            "HEADGATE_DEADLINE_MS": "30000",
            "ORIGIN_LOG": str(self.log),
        }
        return kept | ours | self.settings

    def new_key(self, org: str, plan: str) -> None:
        """Make a key as an operator does."""
        script = Path(sys.executable).with_name("headgate")
        command = [script, "key", "new", "--org", org, "--plan", plan, "--into", "keys.yaml"]
        made = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        self.secrets[org] = made.stdout.strip()

    def get(self, path: str, org: str = "", **given: Any) -> httpx.Response:
        """Ask the example, with the key of an org or without any."""
        headers = {"x-api-key": self.secrets[org]} if org else {}
        assert self.client is not None, "asked while it is open"
        return self.client.get(path, headers=headers, **given)

    def used(self, org: str) -> dict[str, int]:
        """What the org's key has used, by limit, as soon as nothing is held any more."""
        until = time.monotonic() + PATIENCE
        while True:
            rows = self.get("/headgate/v1/usage", org).json()["limits"]
            if not any(row["held"] for row in rows):
                return {row["limit"]: row["used"] for row in rows}
            assert time.monotonic() < until, f"still held: {rows}"

    @contextmanager
    def open(self) -> Iterator["House"]:
        """Serve, on a port that uvicorn finds free."""
        command = [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(EXAMPLES / self.example)]
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", "0"], cwd=self.folder, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        said, ready = [], threading.Event()

        def listen() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line)
                found = re.search(r"running on (http://\S+)", line)
                if found is not None:
                    self.url = found[1]
                    ready.set()
            ready.set()  # it has ended, and said why

        listener = threading.Thread(target=listen)
        listener.start()
        try:
            assert ready.wait(PATIENCE) and self.url, "".join(said)
            with httpx.Client(base_url=self.url, trust_env=False, timeout=PATIENCE) as self.client:
                yield self
        finally:
            process.terminate()
            process.wait(PATIENCE)
            listener.join(PATIENCE)
            if process.stdout is not None:
                process.stdout.close()


@pytest.fixture(scope="module")
def house_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., House]:
    """A maker of houses: `house_of("data_api", acme="public")` has one key, of org acme on the plan `public`."""

    def made(example: str, settings: dict[str, str] | None = None, **plans: str) -> House:
        house = House(example, tmp_path_factory.mktemp(example), settings or {})
        copyfile(EXAMPLES / example / "policy.yaml", house.folder / "headgate.yaml")
        for org, plan in plans.items():
            house.new_key(org, plan)
        return house

    return made
