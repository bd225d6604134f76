"""What a URI of Redis or Valkey names: which servers, how they are found, how one connects to them.

Law: whatever is wrong with a URI is said when it is read, with what to write instead, and never with its password.
Nothing is connected to here. What decides how long anybody waits is no part of a URI: it is the store's deadline.
"""

from __future__ import annotations

import ssl
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.asyncio.connection import (
    URL_QUERY_ARGUMENT_PARSERS,
    AbstractConnection,
    Connection,
    RedisSSLContext,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.exceptions import RedisError

from headgate.errors import StoreError
from headgate.nearest import suggestion

Shape = Literal["single", "sentinel", "cluster"]
Where = tuple[str, int]
"""Host and port; the port is 0 for the path of a socket."""

HOW: Final[dict[str, Shape]] = {"": "single", "+sentinel": "sentinel", "+cluster": "cluster"}

SCHEMES: Final = {
    f"{name}{tls}{how}": (shape, bool(tls))
    for name in ("redis", "valkey")
    for tls in ("", "s")
    for how, shape in HOW.items()
}
"""By scheme: how the servers are found, and whether they are spoken to over TLS. `unix` besides."""

PORT: Final = 6379
SENTINEL_PORT: Final = 26379

TLS: Final = (
    "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_cert_reqs",
    "ssl_check_hostname", "ssl_min_version", "ssl_ciphers", "ssl_include_verify_flags", "ssl_exclude_verify_flags",
)  # fmt: skip
PLAIN: Final = ("db", "username", "password")
OF_SENTINELS: Final = ("sentinel_username", "sentinel_password")
"""What may stand after the `?`."""

WAITS: Final = "how long a request waits for the store is set by HEADGATE_DEADLINE_MS"
ELSEWHERE: Final = {
    "timeout": WAITS,
    "socket_timeout": WAITS,
    "socket_connect_timeout": WAITS,
    "retry_on_timeout": "headgate repeats by itself what may be repeated",
    "max_connections": "a worker has one connection to each server",
    "health_check_interval": "headgate looks after its connections by itself",
    "protocol": "headgate speaks RESP2",
    "decode_responses": "headgate reads bytes",
}
"""Options of redis-py that mean nothing here, and why."""


OURS: Final = {"protocol": 2, "socket_timeout": None, "driver_info": None}
"""What redis-py is told besides: it waits for as long as it is left to, and does not introduce itself; we do."""


class Address(NamedTuple):
    """A store's servers. `servers`: the one; the sentinels; some nodes of the cluster. `service`: the name under
    which sentinels know the master. `options`: what redis-py's connection takes besides host and port; `asking`: the
    same for the connections to sentinels. `tls`: read once, for it takes long."""

    shape: Shape
    servers: tuple[Where, ...]
    service: str
    options: dict[str, Any]
    asking: dict[str, Any]
    tls: RedisSSLContext | None

    def connection(self, where: Where, *, sentinel: bool = False) -> AbstractConnection:
        """A connection of redis-py's that is not made yet: it speaks RESP2 and never tries again by itself."""
        options = {**(self.asking if sentinel else self.options), **OURS}
        host, port = where
        if not port:
            return UnixDomainSocketConnection(path=host, **options)
        if self.tls is None:
            return Connection(host=host, port=port, **options)
        made = SSLConnection(host=host, port=port, **options)
        made.ssl_context = self.tls
        return made


def named(where: Where) -> str:
    """A server as it is shown.

    >>> named(("localhost", 6379)), named(("::1", 6379)), named(("/run/redis.sock", 0))
    ('localhost:6379', '[::1]:6379', '/run/redis.sock')
    """
    host, port = where
    if not port:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def read(uri: str) -> Address:
    """The address that a URI names. Raises StoreError, with what to write instead, for one that names none.

    >>> read("redis://:secret@localhost/2").servers, read("redis://:secret@localhost/2").options["db"]
    ((('localhost', 6379),), 2)
    >>> read("redis+sentinel://a,b:26380/main").servers
    (('a', 26379), ('b', 26380))
    >>> read("redis://localhost/two")
    Traceback (most recent call last):
    headgate.errors.StoreError: a Redis database is a number, and `two` is none: redis://HOST:PORT/0
    """
    scheme, _, rest = uri.partition("://")
    if any(character.isspace() or ord(character) < 32 for character in uri):
        raise _wrong("a Redis URI has no blank in it; write %20 for one in a password")
    before, asked, options = rest.partition("?")
    given = _options(options if asked else "", scheme)
    if scheme == "unix":
        return _unix(before, given)
    shape, tls = SCHEMES[scheme]
    user, hosts, path = _parts(before)
    given = {**user, **given}
    asking = {name.removeprefix("sentinel_"): given.pop(name) for name in OF_SENTINELS if name in given}
    service, database = _path(shape, path)
    if database:
        given.setdefault("db", _database(database))
    if shape == "cluster" and given.get("db"):
        raise _wrong("a Redis Cluster has the database 0 alone: redis+cluster://HOST:PORT,HOST:PORT")
    if shape == "single" and len(hosts) > 1:
        raise _wrong("`redis://` names one server; several are a redis+cluster://HOST:PORT,HOST:PORT")
    port = SENTINEL_PORT if shape == "sentinel" else PORT
    servers = tuple(_where(host, port) for host in hosts)
    context, plain = _tls(given, tls)
    return Address(shape, servers, service, plain, asking, context)


def _wrong(says: str) -> StoreError:
    return StoreError(says, transient=False)


def _options(query: str, scheme: str) -> dict[str, Any]:
    known = (*PLAIN, *(TLS if scheme.startswith(("rediss", "valkeys")) else ()))
    known += OF_SENTINELS if "sentinel" in scheme else ()
    read: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in ELSEWHERE:
            raise _wrong(f"`{name}` is no part of headgate's URI: {ELSEWHERE[name]}")
        if name in TLS and name not in known:
            raise _wrong(f"`{name}` is for TLS, and `{scheme}://` has none: write rediss://")
        if name not in known and "@" in query:
            # Rather the rest of a password with a `?` in it: none of it is shown.
            raise _wrong("the options of the Redis URI cannot be read: in a password write `?` as %3F, `&` as %26")
        if name not in known:
            raise _wrong(f"`{name[:40]}` is no option of a Redis URI{suggestion(name[:40], known)}")
        parser = URL_QUERY_ARGUMENT_PARSERS.get(name)
        try:
            read[name] = parser(value) if parser else value
        except (TypeError, ValueError):
            raise _wrong(f"the value of `{name}` in the Redis URI cannot be used") from None
    if read.get("db", 0) < 0:
        raise _wrong(f"a Redis database is a number from 0 on, and `{read['db']}` is none")
    return read


def _unix(before: str, given: dict[str, Any]) -> Address:
    user, _, path = before.rpartition("@") if "@" in before else ("", "", before)
    if not path.startswith("/") or path.endswith("/"):
        raise _wrong("a socket of Redis is named with three slashes and its path: unix:///run/redis.sock?db=0")
    return Address("single", ((unquote(path), 0),), "", {**_user(user), **given}, {}, None)


def _user(user: str) -> dict[str, Any]:
    name, _, password = user.partition(":")
    pairs = (("username", unquote(name)), ("password", unquote(password)))
    return {field: value for field, value in pairs if value}


def _parts(before: str) -> tuple[dict[str, Any], list[str], str]:
    """Who connects, to which servers, and what stands after the slash."""
    if "#" in before or before.count("@") > 1 or ("@" in before and "/" in before.split("@", 1)[0]):
        raise _wrong("the Redis URI cannot be read: in a password write `/` as %2F, `@` as %40, `#` as %23")
    authority, _, path = before.partition("/")
    user, _, hosts = authority.rpartition("@")
    if not hosts:
        raise _wrong("the Redis URI names no server: redis://HOST:PORT/0")
    if "@" in authority and not _user(user):
        raise _wrong("the Redis URI has an `@` and neither a user name nor a password before it")
    return _user(user), hosts.split(","), path


def _path(shape: Shape, path: str) -> tuple[str, str]:
    """The service and the database that stand after the slash."""
    parts = [unquote(part) for part in path.split("/")] if path else []
    if shape == "sentinel":
        if not parts or not parts[0] or len(parts) > 2:
            raise _wrong(
                "the name under which the sentinels know the master is missing: redis+sentinel://HOST:PORT/NAME"
            )
        return parts[0], parts[1] if len(parts) > 1 else ""
    if len(parts) > 1:
        raise _wrong("after the server of a Redis URI stands one number, the database: redis://HOST:PORT/0")
    return "", parts[0] if parts else ""


def _database(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise _wrong(f"a Redis database is a number, and `{text[:20]}` is none: redis://HOST:PORT/0")
    return int(text)


def _where(host: str, port: int) -> Where:
    try:
        parts = urlsplit(f"//{host}")
        name, number = parts.hostname, parts.port
    except ValueError:
        raise _wrong("a port in the Redis URI is a number from 1 to 65535: redis://HOST:PORT") from None
    if not name or number == 0:
        raise _wrong("a server in the Redis URI lacks its host or has the port 0: redis://HOST:PORT")
    return unquote(name), port if number is None else number


def _tls(given: dict[str, Any], wanted: bool) -> tuple[RedisSSLContext | None, dict[str, Any]]:
    """What TLS needs, with its files read; and the options that are left."""
    plain = {name: value for name, value in given.items() if not name.startswith("ssl_")}
    if not wanted:
        return None, plain
    try:
        made = SSLConnection(**{name: value for name, value in given.items() if name.startswith("ssl_")})
        made.ssl_context.get()
    except FileNotFoundError:
        raise _wrong("a file that `ssl_ca_certs`, `ssl_certfile` or `ssl_keyfile` names is not there") from None
    except (OSError, ssl.SSLError, ValueError, RedisError) as error:
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise _wrong(f"the TLS options of the Redis URI cannot be used ({str(why)[:120]})") from None
    return made.ssl_context, plain
