"""Where the ledger is kept, by URI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from headgate.clock import Clock, wall_clock
from headgate.errors import StoreError
from headgate.stores.contract import Store
from headgate.stores.memory import MemoryStore
from headgate.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from headgate.stores.foreign import Keeping

__all__ = ["MemoryStore", "SqliteStore", "Store", "keeping", "open_store"]

SERVERS = frozenset(
    f"{name}{how}" for name in ("redis", "rediss", "valkey", "valkeys") for how in ("", "+sentinel", "+cluster")
)
"""Schemes of a fleet's servers; `unix` besides."""

KNOWN = (
    "memory:// (one process, forgets when it ends), sqlite:///PATH (the workers of one host), "
    "redis://HOST, rediss://HOST, redis+sentinel://HOST,HOST/NAME, redis+cluster://HOST,HOST, unix:///SOCKET "
    "(a fleet; valkey:// alike); and through the package `limits`, for requests alone, memcached://HOST:11211 and "
    "mongodb://HOST:27017"
)


def open_store(
    uri: str,
    *,
    clock: Clock = wall_clock,
    deadline: float | None = None,
    durability: Literal["fast", "replicated"] = "fast",
) -> Store:
    """The store that a URI names. Nothing is opened before the first use.

    | URI | the ledger is kept |
    | --- | --- |
    | `memory://` | in this process, until it ends |
    | `sqlite:///headgate.db` | in a file, from the working directory; shared by the workers of one host |
    | `sqlite:////var/lib/headgate.db` | the same, with an absolute path |
    | `redis://HOST:6379/0` | in Redis 7 or Valkey; shared by a fleet. `rediss://` over TLS, `valkey://` is the same |
    | `unix:///run/redis.sock` | the same, over a socket of this host |
    | `redis+sentinel://HOST:26379,HOST:26379/NAME` | at the master that the sentinels know as NAME |
    | `redis+cluster://HOST:6379,HOST:6379` | in a Redis Cluster, of which some nodes are named |
    | `memcached://HOST:11211`, `mongodb://HOST:27017` | in counters there, through `limits`; see `keeping` |

    A SQLite path is taken as it is written: `%`, `?` and `#` mean nothing in it. In a Redis URI a user and a password
    stand before an `@`, and what TLS needs after a `?` (`ssl_ca_certs=PATH`). A `clock` other than the wall clock is
    the store's whatever it is; with the wall clock, Redis goes by its own. `deadline` (seconds): how long a call
    waits; None for as long as is good for that store. With `durability` "replicated" an answer counts only when a
    replica has it, too.

    Raises StoreError for a URI that names no store, and where a durability cannot be had.

    >>> open_store("memory://").immediate, open_store("sqlite:///headgate.db").immediate
    (True, False)
    """
    scheme, found, rest = uri.partition("://")
    if found and (scheme in SERVERS or scheme == "unix"):
        # Only here: what speaks to servers takes longer to load than all the rest.
        from headgate.stores.redis import DEADLINE, RedisStore

        own = None if clock is wall_clock else clock
        return RedisStore(uri, clock=own, deadline=DEADLINE if deadline is None else deadline, durability=durability)
    if found and scheme in ("memory", "sqlite") and durability == "replicated":
        raise StoreError(
            f"`{scheme}://` has no replicas, so that nothing can be `replicated`; write `fast`, or use redis://",
            transient=False,
        )
    if found and scheme == "memory":
        if rest:
            raise StoreError(f"`memory://` takes nothing after it, and `{rest}` follows", transient=False)
        return MemoryStore(clock=clock)
    if found and scheme == "sqlite":
        store = SqliteStore(_path(rest), clock=clock)
        if deadline is not None:
            store.deadline = deadline
        return store
    from headgate.stores.foreign import open_foreign, schemes

    if not found or scheme not in schemes():
        raise _unknown(scheme if found else "")
    if durability == "replicated":
        raise StoreError(f"`{scheme}://` cannot be `replicated`; write `fast`, or use redis://", transient=False)
    foreign = open_foreign(uri, clock)
    if deadline is not None:
        foreign.deadline = deadline
    return foreign


def keeping(uri: str) -> Keeping | None:
    """What a store says of itself that does not keep everything that a policy may ask for; None for headgate's own
    stores, which do. Nothing is opened.

    Raises StoreError for a URI that names no store.

    >>> keeping("sqlite:///headgate.db") is None
    True
    >>> keeping("memcached://127.0.0.1:11211").name
    'memcached://127.0.0.1:11211'
    """
    scheme, found, _ = uri.partition("://")
    if found and (scheme in SERVERS or scheme in {"unix", "memory", "sqlite"}):
        return None
    from headgate.stores.foreign import keeping_of, schemes

    if not found or scheme not in schemes():
        raise _unknown(scheme if found else "")
    return keeping_of(uri)


def _unknown(scheme: str) -> StoreError:
    # The rest of an unknown URI may carry a password: the scheme alone is shown.
    named = f"`{scheme}://`" if scheme else "a URI without `://`"
    return StoreError(f"no store is known for {named}; there are {KNOWN}", transient=False)


def _path(rest: str) -> str:
    if not rest.startswith("/") or len(rest) == 1:
        raise StoreError(
            "a SQLite store is named with three slashes and a path: sqlite:///headgate.db (four: an absolute one)",
            transient=False,
        )
    path = rest[1:]
    if path == ":memory:" or "\0" in path or path.endswith("/"):
        raise StoreError("a SQLite store needs a file; for one process without a file use memory://", transient=False)
    return path
