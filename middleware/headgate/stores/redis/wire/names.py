"""Whether a server's name can be looked up, found out without a risk for anybody else.

Law: a lookup cannot be called off; it takes until the resolver gives up, half a minute perhaps. So each name is
looked up by one thread at a time, a thread of its own: not the event loop's, of which there are few and which the app
needs. Who asks meanwhile waits for the same lookup, and may go away.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from contextlib import suppress
from ipaddress import ip_address

Waiting = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]

_lookups: dict[str, list[Waiting]] = {}
_lock = threading.Lock()


async def known(host: str) -> None:
    """Returns when the host's name was found; at once for an address. Raises OSError if there is no such name.

    >>> asyncio.run(known("127.0.0.1"))
    """
    if is_address(host):
        return
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    with _lock:
        begun = host in _lookups
        _lookups.setdefault(host, []).append((loop, future))
    if not begun:
        # A daemon, so that a program may end while the resolver is still at it.
        threading.Thread(target=_look_up, args=(host,), name="headgate-name", daemon=True).start()
    await future


def is_address(host: str) -> bool:
    """Whether it is an IP address, so that nobody need be asked.

    >>> is_address("10.0.0.7"), is_address("::1"), is_address("localhost")
    (True, True, False)
    """
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _look_up(host: str) -> None:
    fault: OSError | None = None
    try:
        socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        fault = error if isinstance(error, OSError) else socket.gaierror(socket.EAI_NONAME, "no name at all")
    with _lock:
        waiting = _lookups.pop(host, [])
    for loop, future in waiting:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(_tell, future, fault)


def _tell(future: asyncio.Future[None], fault: OSError | None) -> None:
    if future.done():
        return
    if fault is None:
        future.set_result(None)
    else:
        future.set_exception(fault)


def _in_a_child() -> None:
    """The threads are the parent's."""
    global _lock
    _lock = threading.Lock()
    _lookups.clear()


if hasattr(os, "register_at_fork"):  # where processes fork
    os.register_at_fork(after_in_child=_in_a_child)
