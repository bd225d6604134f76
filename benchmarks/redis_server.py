"""A Redis to measure against: the one that HEADGATE_BENCH_REDIS_URL names, else a Valkey of our own on loopback.

What another one holds is left alone: nothing is flushed, and whatever is written there runs out by itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from headgate.testing.servers import Server, ServerUnready

NAMED = "HEADGATE_BENCH_REDIS_URL"


@contextmanager
def server(cpus: set[int] | None = None) -> Iterator[str]:
    """The URI of a server that answers. With `cpus`, one that is started here runs on these alone.

    Raises SystemExit, with what to do, where there is none.
    """
    told = os.environ.get(NAMED)
    if told:
        yield told
        return
    own = Server()
    try:
        own.start()
        if cpus:
            os.sched_setaffinity(own.pid, cpus)
        yield own.url
    except ServerUnready as fault:
        raise SystemExit(f"{fault}; or name one: {NAMED}=redis://127.0.0.1:6379/0") from None
    finally:
        own.stop()


def spent(uri: str) -> float:
    """Seconds of CPU that the server has used so far."""
    with redis.Redis.from_url(uri) as client:
        told = client.info("cpu")
    return float(told["used_cpu_user"]) + float(told["used_cpu_sys"])


def named(uri: str) -> str:
    """What kind of server it is, and its version."""
    with redis.Redis.from_url(uri) as client:
        told = client.info("server")
    return f"Valkey {told['valkey_version']}" if "valkey_version" in told else f"Redis {told['redis_version']}"
