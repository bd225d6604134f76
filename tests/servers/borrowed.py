"""A server that runs already, named by HEADGATE_TEST_REDIS_URL: a database of it is borrowed.

Law: nothing that was there before is touched. The database must be empty when it is borrowed, or no test runs.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.exceptions import RedisError

from headgate.settings import without_password
from headgate.testing.servers import Server, ServerUnready

VARIABLE = "HEADGATE_TEST_REDIS_URL"

DATABASES = 16
"""How many are looked at; a server has 16 unless it was told otherwise."""


class Borrowed:
    """One empty database of somebody's server, with as much of `Server` as does not need it to be ours.

    A test that needs more is skipped: to pause it, say, or its bare address, which leads to other databases.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = Redis.from_url(url, protocol=2)

    @classmethod
    def of_environment(cls) -> Borrowed | None:
        """What the environment names: the database in its path if there is one, else the last one that is empty."""
        url = os.environ.get(VARIABLE, "")
        if not url:
            return None
        if urlsplit(url).path.strip("/"):
            choices = [url]
        else:
            before, question, after = url.partition("?")
            choices = [f"{before.rstrip('/')}/{n}{question}{after}" for n in reversed(range(DATABASES))]
        for choice in choices:
            found = cls(choice)
            if found._is_empty():
                return found
            found.close()
        raise ServerUnready(
            f"{VARIABLE}: {without_password(url)} has keys; the tests flush only what was empty before"
        )

    def ask(self, *words: Any) -> Any:
        """One command."""
        return self._client.execute_command(*words)

    def client(self, **options: Any) -> Redis:
        """A new client; whoever asks for it closes it."""
        return Redis.from_url(self.url, **({"protocol": 2} | options))

    def flush(self) -> None:
        """Forget the database's keys, and the server's scripts, which everybody can load again."""
        self.ask("FLUSHDB", "SYNC")
        self.ask("SCRIPT FLUSH", "SYNC")

    def __getattr__(self, name: str) -> Any:
        if name in dir(Server) and not name.startswith("_"):
            pytest.skip(f"the server that {VARIABLE} names is not ours: no `{name}` of it")
        raise AttributeError(name)

    def close(self) -> None:
        """Leave it as it was found."""
        self._client.close()

    def _is_empty(self) -> bool:
        try:
            return self.ask("DBSIZE") == 0
        except RedisError as fault:
            if "DB index" in str(fault):  # it has fewer than we looked for
                return False
            raise ServerUnready(
                f"{VARIABLE}: {without_password(self.url)} cannot be used: {type(fault).__name__}"
            ) from None
