"""A primary and its replica, which has all that the primary has when the tests begin."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from redis.exceptions import RedisError

from headgate.testing.servers import Server, ServerUnready, Setting

PATIENCE = 30.0
"""Seconds; two servers find each other in about one."""


class Replicated:
    """Both run within `with`. `settings` are those of both."""

    def __init__(self, program: Path | None = None, **settings: Setting) -> None:
        self.primary = Server(program, **settings)
        self.replica = Server(program, **settings)

    def __enter__(self) -> Replicated:
        self.primary.start()
        self.replica.start()
        self.follow()
        return self

    def __exit__(self, *_: object) -> None:
        self.replica.stop()
        self.primary.stop()

    def follow(self) -> None:
        """Make the replica one, again if need be, and wait until it is in step."""
        if self.primary.password:
            self.replica.ask("CONFIG", "SET", "masterauth", self.primary.password)
        self.replica.ask("REPLICAOF", *self.primary.address)
        self.until("be in step", lambda: self.replica.ask("INFO", "replication")["master_link_status"] == "up")

    def promote(self) -> None:
        """Make the replica a primary of its own, whatever the primary has not sent it yet."""
        self.replica.ask("REPLICAOF", "NO", "ONE")

    @staticmethod
    def until(what: str, holds: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Wait until it holds. Raises ServerUnready."""
        end = time.monotonic() + patience
        while True:
            try:
                if holds():
                    return
            except RedisError:
                pass  # a server that cannot be asked is not there yet
            if time.monotonic() > end:
                raise ServerUnready(f"the servers did not {what} within {patience:.0f} s")
            time.sleep(0.02)
