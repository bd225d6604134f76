"""A primary and its replica, watched by three sentinels that agree when the tests begin."""

from __future__ import annotations

from pathlib import Path

from headgate.testing.servers import Server, Setting
from servers.replicated import Replicated

SERVICE = "headgate"
"""Under which name the sentinels know the primary."""

DOWN = 500
"""Milliseconds of silence after which a sentinel takes the primary for dead."""


class Sentinels:
    """All five run within `with`. `settings` are those of the primary and its replica."""

    def __init__(self, program: Path | None = None, **settings: Setting) -> None:
        self.pair = Replicated(program, **settings)
        self.watchers = [Server(program, sentinel=True) for _ in range(3)]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each sentinel."""
        return [watcher.address for watcher in self.watchers]

    @property
    def service(self) -> str:
        return SERVICE

    @property
    def url(self) -> str:
        """The address for `HEADGATE_STORE`."""
        password = f":{self.pair.primary.password}@" if self.pair.primary.password else ""
        watchers = ",".join(f"{host}:{port}" for host, port in self.addresses)
        return f"redis+sentinel://{password}{watchers}/{SERVICE}"

    @property
    def primary(self) -> Server:
        """Whom the sentinels name now."""
        _, port = self.watchers[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(server for server in (self.pair.primary, self.pair.replica) if server.port == int(port))

    def __enter__(self) -> Sentinels:
        self.pair.__enter__()
        for watcher in self.watchers:
            watcher.settings |= {"sentinel": self._told()}
            watcher.launch()
        for watcher in self.watchers:
            watcher.wait()
        self.agreed()
        return self

    def __exit__(self, *_: object) -> None:
        for watcher in self.watchers:
            watcher.stop()
        self.pair.__exit__()

    def agreed(self) -> None:
        """Wait until each sentinel knows the two others and a replica, so that one of them can lead a failover."""

        def agree() -> bool:
            return all(
                len(w.ask("SENTINEL", "SENTINELS", SERVICE)) == 2 and len(w.ask("SENTINEL", "REPLICAS", SERVICE)) == 1
                for w in self.watchers
            )

        Replicated.until("agree", agree)

    def promote(self) -> None:
        """Fail over in order; returns when the sentinels name the other server."""
        before = self.primary
        self.watchers[0].ask("SENTINEL", "FAILOVER", SERVICE)
        Replicated.until("change over", lambda: self.primary is not before)

    def _told(self) -> list[str]:
        host, port = self.pair.primary.address
        told = [
            f"monitor {SERVICE} {host} {port} 2",
            f"down-after-milliseconds {SERVICE} {DOWN}",
            f"failover-timeout {SERVICE} 5000",
        ]
        return told + ([f"auth-pass {SERVICE} {self.pair.primary.password}"] if self.pair.primary.password else [])
