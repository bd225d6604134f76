"""A memcached of one's own, and stores over it and over `limits`' own memory."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from limits.aio.storage import MemoryStorage

from headgate.clock import Clock
from headgate.stores.foreign import ForeignStore
from headgate.stores.foreign.counters import Counters
from headgate.testing.servers import _free_port as free_port

PATIENCE = 30.0


class Memcached:
    """A server on a free port of 127.0.0.1. It can be emptied, stopped, started in place, and made to hang."""

    def __init__(self) -> None:
        self.port = free_port()
        self.uri = f"memcached://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ["-l", "127.0.0.1", "-p", str(self.port), "-U", "0", "-m", "16"]
        options += ["-u", "nobody"] if os.getuid() == 0 else []
        self._process = subprocess.Popen([shutil.which("memcached") or "memcached", *options])
        end = time.monotonic() + PATIENCE
        while True:
            with suppress(OSError):
                self.ask("version")
                return
            assert time.monotonic() < end, "memcached does not come up"
            time.sleep(0.01)

    def ask(self, line: str, data: str = "") -> str:
        """What the server answers to a command of its own, up to the end of the first line."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as wire:
            wire.sendall(f"{line}\r\n{f'{data}{chr(13)}{chr(10)}' if data else ''}".encode())
            return wire.makefile("rb").readline().decode().strip()

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # until each of its threads stands still

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture(scope="session")
def memcached_server() -> Iterator[Memcached]:
    if shutil.which("memcached") is None:
        pytest.skip("no memcached is installed here (Debian's package `memcached`)")
    if find_spec("memcachio") is None:
        pytest.skip("its client is not installed here: pip install memcachio")
    server = Memcached()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def memcached(memcached_server: Memcached) -> Memcached:
    """The server, with nothing in it."""
    assert memcached_server.ask("flush_all") == "OK"
    return memcached_server


@pytest.fixture(scope="session")
def mongodb() -> Iterator[str]:
    """The URI of the stand-in for MongoDB: no real one is to be had where these tests run."""
    if find_spec("motor") is None:
        pytest.skip("MongoDB's client is not installed here: pip install motor")
    program = [sys.executable, "-I", str(Path(__file__).with_name("mongo_stand_in.py"))]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"mongodb://127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


Made = Callable[[Clock], ForeignStore]


@pytest.fixture(scope="session")
def in_memory() -> Callable[[], Made]:
    """Makes a memory of `limits`, which users cannot open; what it gives makes stores that share it."""

    def fresh() -> Made:
        storage, name = MemoryStorage(), "memory-of-limits://"
        return lambda clock: ForeignStore(name, clock=clock, opened=lambda: Counters(storage, name))

    return fresh
