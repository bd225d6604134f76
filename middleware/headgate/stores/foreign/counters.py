"""The counters of a server that `limits` can reach: read many, add to one, take back.

Law: nothing is decided here. Whatever a client library raises becomes a StoreError that names the server without its
password, and is `unknown` where the server may have obeyed all the same. `limits` and its clients are imported when
the first such store is opened, and not before.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from headgate.clock import SECOND, wall_clock
from headgate.errors import StoreError

if TYPE_CHECKING:
    from limits.aio.storage import Storage

PACKAGES = {
    "memcached": "memcachio",
    "mongodb": "motor",
    "mongodb+srv": "motor",
    "redis+unix": "coredis",
    "valkey+unix": "valkey",
}
"""By scheme, the client that `limits` needs for it, as it is installed and as it is imported."""

WAIT = 2.0
"""How long (seconds) one exchange with the server may take. Callers have a deadline of their own, and go earlier."""

CONNECTIONS = 8
"""Connections to a memcached server, each shared by up to a hundred requests."""

RELATIVE_MOST = 30 * 86_400
"""Up to here memcached takes seconds for a length of time; what is more, it takes for an instant since 1970."""

INSTANT_MOST = 2**31 - 1
"""The last instant that memcached knows; what is to be kept for longer is kept for good."""

FOR_GOOD = 100 * 365 * 86_400
"""Seconds for which servers keep what is kept for good, where they have no word for it."""


def open_storage(uri: str) -> Storage:
    """The storage of `limits` behind a URI, without `async+`. Nothing is connected yet.

    Raises StoreError where the client is missing or too old, or the address cannot be read.
    """
    from limits.errors import ConfigurationError
    from limits.storage import storage_from_string

    scheme = uri.partition("://")[0]
    options: dict[str, Any] = {}
    if scheme == "memcached":
        options = {"max_connections": CONNECTIONS, "blocking_timeout": WAIT}
    elif scheme.startswith("mongodb") and "serverselectiontimeoutms" not in uri.lower():
        options = {"serverSelectionTimeoutMS": int(WAIT * 1_000)}
    missing(uri)
    try:
        if scheme == "mongodb":
            # Before `limits` does: what it has made by half, it cannot throw away without an error on the screen.
            from pymongo.uri_parser import parse_uri

            parse_uri(uri)
        storage: Any = storage_from_string(f"async+{uri}", **options)
    except ConfigurationError as error:
        if "version" in str(error):  # of the client; nothing of the URI is in it
            raise StoreError(f"{shown(uri)}: {error}", transient=False) from None
        raise _unreadable(uri) from None
    except Exception:  # each client has errors of its own for an address; none is repeated, it may hold a password
        raise _unreadable(uri) from None
    if scheme == "memcached" and not storage.bridge.hosts:
        raise _unreadable(uri)
    return storage  # type: ignore[no-any-return]


def missing(uri: str) -> None:
    """Raises StoreError where the client for a URI is not installed."""
    scheme = uri.partition("://")[0]
    package = PACKAGES.get(scheme)
    if package is not None and find_spec(package) is None:
        words = f"a `{scheme}://` store needs the package `{package}`, which is not installed: pip install {package}"
        raise StoreError(words, transient=False)


def _unreadable(uri: str) -> StoreError:
    scheme = uri.partition("://")[0]
    form = "memcached://HOST:11211,HOST2:11211" if scheme == "memcached" else f"{scheme}://HOST:PORT"
    return StoreError(f"{shown(uri)}: the address cannot be read; it is written {form}", transient=False)


def shown(uri: str) -> str:
    """A URI as it may be shown: scheme and hosts.

    >>> shown("mongodb://user:pa@ss@db.example:27017/quotas?authSource=admin")
    'mongodb://db.example:27017'
    """
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0].partition('/')[0]}"


def counters_of(storage: Storage, uri: str) -> Counters:
    """The counters in a storage, by the shortest way that it has."""
    if hasattr(getattr(storage, "bridge", None), "get_many"):
        return MemcachedCounters(storage, uri)
    return (MongoCounters if uri.startswith("mongodb") else Counters)(storage, uri)


class Counters:
    """Counters in any storage of `limits`, by nothing but what all of them can do."""

    def __init__(self, storage: Storage, uri: str) -> None:
        self._storage: Any = storage
        self._name = shown(uri)

    async def read(self, keys: Sequence[str]) -> dict[str, int]:
        """What each of the keys has counted; a key that is not there may be left out. Raises StoreError."""
        async with self._told(unknown=False):
            return await self._read(keys)

    async def add(self, key: str, amount: int, seconds: int, *, opens: bool = False) -> int:
        """Count so many more and say how many there are now; the key lives for `seconds` from its first unit on (0:
        for good), and `ends` is asked of one that `opens`. Raises StoreError, `unknown`: it may be counted."""
        async with self._told(unknown=True):
            return int(await self._add(key, amount, seconds, opens))

    async def back(self, key: str, amount: int) -> None:
        """Count so many less, and never below nothing. Raises StoreError, `unknown`: it may be done."""
        async with self._told(unknown=True):
            await self._back(key, amount)

    async def ends(self, key: str) -> int | None:
        """When the key will be thrown away (microseconds), if that can be told. Raises StoreError."""
        async with self._told(unknown=False):
            end = int(await self._storage.get_expiry(key) * SECOND)
            return end if end > wall_clock() else None

    async def close(self) -> None:
        """Let go of the connections."""

    async def _read(self, keys: Sequence[str]) -> dict[str, int]:
        found = await asyncio.gather(*[self._storage.get(key) for key in keys])
        return {key: max(0, int(units)) for key, units in zip(keys, found, strict=True)}

    async def _add(self, key: str, amount: int, seconds: int, opens: bool) -> int:
        return int(await self._storage.incr(key, seconds or FOR_GOOD, amount=amount))

    async def _back(self, key: str, amount: int) -> None:
        # What has been thrown away must not be made anew with less than nothing in it.
        if int(await self._storage.get(key)) >= amount:
            await self._storage.incr(key, 1, amount=-amount)

    @asynccontextmanager
    async def _told(self, *, unknown: bool) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(WAIT):
                yield
        except TimeoutError:
            raise StoreError(f"{self._name}: no answer within {WAIT:g} s", transient=True, unknown=unknown) from None
        except Exception as error:  # whatever a client library raises: each has its own
            raise self._fault(error, unknown) from None

    def _fault(self, error: Exception, unknown: bool) -> StoreError:
        """An error of the client in words; of its own text at most a line, for some tell the whole topology."""
        said = f"{type(error).__name__}: {str(error).partition(', Topology')[0][:160]}".rstrip(": ")
        if getattr(error, "code", None) in {13, 18}:
            words = "the server refuses: check the name, the password and what they may do"
        elif isinstance(error, (OSError, self._storage.base_exceptions)):
            return StoreError(f"{self._name}: the server does not answer ({said})", transient=True, unknown=unknown)
        elif isinstance(error, ValueError):
            words = (
                f"a key of ours holds no number ({type(error).__name__}); give headgate a server or database apart"
            )
        else:
            words = f"the server does not do what it is asked ({said})"
        return StoreError(f"{self._name}: {words}", transient=False, unknown=unknown)


class MemcachedCounters(Counters):
    """Many keys in one exchange; decrements that stop at nothing; lengths of time as memcached means them."""

    async def close(self) -> None:
        """Let go of the connections."""
        # `limits` has no way to let go of a client; the next call makes another one.
        bridge = self._storage.bridge
        pool = getattr(getattr(bridge, "_storage", None), "connection_pool", None)
        if pool is not None:
            bridge._storage = None
            pool.close()
            await asyncio.sleep(0)  # the loop lets go of a socket in its next turn

    async def _read(self, keys: Sequence[str]) -> dict[str, int]:
        found = await self._storage.bridge.get_many(keys)
        return {key.decode(): units for key, units in found.items()}

    async def _add(self, key: str, amount: int, seconds: int, opens: bool) -> int:
        lasts = seconds
        if seconds > RELATIVE_MOST:
            lasts = wall_clock() // SECOND + seconds
            lasts = lasts if lasts <= INSTANT_MOST else 0
        # `limits` notes the end beside the key, as if every length were one: of an instant it would be nonsense.
        noted = opens and lasts == seconds
        return int(await self._storage.incr(key, lasts, amount, set_expiration_key=noted))

    async def _back(self, key: str, amount: int) -> None:
        await self._storage.bridge.decr(key, amount)


class MongoCounters(Counters):
    """Many keys in one exchange."""

    async def close(self) -> None:
        """Let go of the connections."""
        self._storage.storage.close()

    async def _read(self, keys: Sequence[str]) -> dict[str, int]:
        from datetime import UTC, datetime

        alive = {"_id": {"$in": list(keys)}, "expireAt": {"$gte": datetime.now(UTC)}}
        found = await self._storage.database["counters"].find(alive, projection=["count"]).to_list(length=None)
        return {each["_id"]: max(0, int(each["count"])) for each in found}
