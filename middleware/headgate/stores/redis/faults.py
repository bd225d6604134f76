"""What went wrong with a Redis server, in words: which server, what is the matter, and what helps.

Law: every fault on the way to a server and back becomes a StoreError that an operator can act on. `transient` is true
only for what passes without anybody's help; `unknown` only where what was asked may have been done. A server is named
by its host and port or its socket: no password is shown, and nothing of what the server holds.
"""

from __future__ import annotations

import socket
import ssl
from typing import Final, NamedTuple

from redis.exceptions import AuthenticationError, RedisError
from redis.exceptions import ConnectionError as NoConnection

from headgate.errors import StoreError

OLDEST: Final = (7, 0)
"""Scripts carry flags from here on (`#!lua flags=...`)."""


class Words(NamedTuple):
    """What to say of an error reply."""

    transient: bool
    says: str
    unknown: bool = False


REPLIES: Final = {
    "NOAUTH": Words(False, "it asks for a password; put one into the URI: redis://:PASSWORD@HOST"),
    "WRONGPASS": Words(False, "it does not take this user name and password; correct those of the URI"),
    "NOPERM": Words(
        False, "the user may not do what headgate does; `headgate doctor` prints the ACL SETUSER line that allows it"
    ),
    "LOADING": Words(True, "it is reading its data back from disk, and will answer when that is done"),
    "BUSY": Words(True, "a script of somebody else's runs on it and does not end; SCRIPT KILL ends it"),
    "READONLY": Words(True, "it is a replica now; its master is looked for"),
    "MASTERDOWN": Words(True, "it is a replica that has lost its master"),
    "MISCONF": Words(False, "it takes no writes because it cannot save to disk; free some, and see its log"),
    "OOM": Words(False, "it is full, and takes no writes at all; give it more `maxmemory`"),
    "NOREPLICAS": Words(True, "it has fewer good replicas than `min-replicas-to-write` asks for"),
    "CLUSTERDOWN": Words(True, "its cluster is down: slots are not served; see CLUSTER INFO"),
    "TRYAGAIN": Words(True, "its slot is being moved to another node"),
    "MOVED": Words(False, "it is a node of a cluster; write redis+cluster://HOST:PORT"),
    "ASK": Words(False, "it is a node of a cluster; write redis+cluster://HOST:PORT"),
    "CROSSSLOT": Words(
        False, "it is a cluster that keys of one command lie apart in; write redis+cluster://HOST:PORT"
    ),
    "WRONGTYPE": Words(False, "a key of headgate's is of another type; some other program writes there"),
    "NOSCRIPT": Words(True, "it forgot the script that it was just sent"),
    "UNBLOCKED": Words(True, "it was told to become a replica while it waited for one", unknown=True),
}
"""By the first word of an error reply. What is not listed was not foreseen, and is shown as it came."""

SAID_OTHERWISE: Final = (
    ("max number of clients", Words(True, "it has as many clients as it takes; raise its `maxclients`")),
    ("cluster support disabled", Words(False, "it is no node of a cluster; write redis://HOST:PORT")),
    ("unknown command 'sentinel", Words(False, "it is no sentinel; name the sentinels, usually on port 26379")),
    ("without any password configured", Words(False, "it has no password; take it out of the URI")),
    ("invalid password", Words(False, "it does not take this password; correct that of the URI")),
    ("db index is out of range", Words(False, "it has no database of that number; correct that of the URI")),
    ("select is not allowed in cluster", Words(False, "a cluster has the database 0 alone; take it out of the URI")),
    ("protected mode", Words(False, "it answers its own host alone (protected mode); give it a password or `bind`")),
    (
        "unknown command",
        Words(False, "it does not know what every Redis from 7.0 on knows; is it one?"),
    ),
    ("invalid database", Words(False, "it has no database of that number; correct that of the URI")),
)
"""By a part of an error reply whose first word says nothing (`ERR`), in small letters."""


def replied(server: str, reply: str) -> StoreError:
    """An error reply as an operator should read it."""
    small = reply.lower()
    words = REPLIES.get(reply.split(" ", 1)[0])
    words = words or next((said for part, said in SAID_OTHERWISE if part in small), None)
    if words is None:
        # A script that fails in its middle has done what stands before it.
        return StoreError(f"{server}: it answers `{reply[:200]}`", transient=False, unknown=True)
    return StoreError(f"{server}: {words.says}", transient=words.transient, unknown=words.unknown)


def not_connected(server: str, error: Exception, within: float) -> StoreError:
    """Why no connection could be made."""
    cause = error.__cause__ or error.__context__ or error
    if isinstance(error, TimeoutError) or isinstance(cause, TimeoutError):
        return StoreError(
            f"{server}: no connection within {within:g} s; is it up, and does the network let one through?",
            transient=True,
        )
    if isinstance(cause, ssl.SSLError | ssl.CertificateError):
        return _no_tls(server, cause)
    if isinstance(cause, socket.gaierror):
        return StoreError(f"{server}: its name is not known ({cause.strerror}); correct URI or DNS", transient=True)
    if isinstance(cause, ConnectionRefusedError):
        return StoreError(f"{server}: nothing listens there; start the server, or correct the URI", transient=True)
    if isinstance(cause, FileNotFoundError):
        return StoreError(f"{server}: there is no such socket; start the server, or correct the URI", transient=True)
    if isinstance(cause, PermissionError):
        return StoreError(f"{server}: this user may not use the socket; see `unixsocketperm`", transient=False)
    if isinstance(error, AuthenticationError):
        return replied(server, reply_of(error, "WRONGPASS"))
    if isinstance(error, RedisError) and not isinstance(cause, OSError) and not _closed(error):
        return replied(server, reply_of(error))
    if isinstance(cause, OSError) and cause.strerror:
        return StoreError(f"{server}: it cannot be reached ({cause.strerror})", transient=True)
    return StoreError(f"{server}: the connection was closed as soon as it was made; is it a Redis?", transient=True)


def reply_of(error: RedisError, code: str = "") -> str:
    """The reply that redis-py has made an exception of: it takes the first word off those that it knows."""
    return f"{error.status_code or code} {error}".removeprefix("ERR ").strip()


def _closed(error: RedisError) -> bool:
    return isinstance(error, NoConnection) and "onnection closed" in str(error)


def _no_tls(server: str, error: Exception) -> StoreError:
    if isinstance(error, ssl.SSLCertVerificationError):
        why = f"its certificate is not trusted ({error.verify_message}); name its authority with ?ssl_ca_certs=PATH"
        return StoreError(f"{server}: {why}", transient=False)
    reason = (getattr(error, "reason", None) or str(error)).replace("_", " ").lower()
    return StoreError(f"{server}: no TLS with it ({reason}); does that port speak TLS?", transient=False)


def no_redis(server: str) -> StoreError:
    """Whatever answers there speaks another protocol."""
    return StoreError(f"{server}: what answers there is no Redis; correct the URI, or write rediss:// for TLS",
                      transient=False)  # fmt: skip


def no_answer(server: str, deadline: float) -> StoreError:
    """It was asked and said nothing in time."""
    return StoreError(f"{server}: no answer within {_ms(deadline)}", transient=True, unknown=True)


def never_asked(server: str, deadline: float, *, unknown: bool = False) -> StoreError:
    """There was no connection in time over which it could be asked. `unknown`: it had been asked over another."""
    return StoreError(f"{server}: no connection within {_ms(deadline)}", transient=True, unknown=unknown)


def slow(server: str, deadline: float) -> StoreError:
    """It answers, but takes longer than anybody waits."""
    return StoreError(f"{server}: it takes more than {_ms(deadline)} to answer; is it far away?", transient=True)


def lost(server: str) -> StoreError:
    """The connection broke after it was asked."""
    return StoreError(f"{server}: the connection was lost before it answered", transient=True, unknown=True)


def crowded(most: int) -> StoreError:
    """More is under way than should be."""
    return StoreError(f"{most:,} calls of the store are under way; no more are made meanwhile", transient=True)


def unreadable(server: str, why: str) -> StoreError:
    """It answered, and what it answered makes no sense."""
    return StoreError(f"{server}: its answer cannot be read ({why})", transient=False, unknown=True)


def not_replicated(server: str, deadline: float) -> StoreError:
    """No replica had it in time, or what was asked before it: what one server knows can be lost with it."""
    return StoreError(f"{server}: no replica took it within {_ms(deadline)}", transient=True)


def closed() -> StoreError:
    """The store was closed while it was asked."""
    return StoreError("the store was closed before it answered", transient=True, unknown=True)


def left_alone(fault: StoreError) -> StoreError:
    """Nobody was asked, because of what happened to others a moment ago."""
    return StoreError(f"{fault}; nobody asks again for about a second", transient=fault.transient)


def again(fault: StoreError, *, unknown: bool = False) -> StoreError:
    """The same fault for somebody else: an exception that several raise would collect all their tracebacks."""
    return StoreError(str(fault), transient=fault.transient, unknown=fault.unknown or unknown)


def _ms(seconds: float) -> str:
    return f"{seconds * 1_000:g} ms"
