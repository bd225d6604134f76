"""Who calls, and under which forms of a path: the rules that turn what came over the wire into facts.

Law: one credential is one identity however it is spelled, two different ones are nobody, and an address header
is believed only as far as the hops that wrote it are trusted. Works on values; the directory is asked elsewhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network

IPV6_CUSTOMER = 64
"""Bits of an IPv6 address that name a customer: a /64 is the least that one line is given (RFC 6177)."""

BLOCK = 64
"""Bytes that SHA-256 takes in at a time; the length to which HMAC pads a key (FIPS 180-4, RFC 2104)."""

NO_PEER = "unknown"
"""The network charged when a server tells no peer (a Unix socket): one subject for all of them."""

SECRET_MAX = 512
"""Bytes of the longest credential that is looked at; a longer one is nobody's."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a credential or trait stands: a header's name in lower case, and whether as `Bearer` token.

    >>> Source.parse("header.authorization.bearer")
    Source(header=b'authorization', bearer=True)
    """

    header: bytes
    bearer: bool = False

    @classmethod
    def parse(cls, text: str) -> Source:
        """Reads `header.NAME` or `header.NAME.bearer`. Raises ValueError for anything else."""
        kind, _, rest = text.partition(".")
        name, _, form = rest.partition(".")
        if kind != "header" or not name or form not in {"", "bearer"}:
            raise ValueError(f"`{text}` is not `header.NAME` or `header.NAME.bearer`")
        return cls(name.lower().encode("latin-1"), form == "bearer")


@dataclass(frozen=True, slots=True)
class Identify:
    """The policy's `identify`: where credentials are looked for, and what an unknown caller becomes.

    `anonymous`: the plan of callers without a credential, None to refuse them. `unknown_key`: whether a
    credential that nobody knows makes its caller anonymous (`anonymous`) or is refused (`refuse`).
    `directory`: a file's name, or `python:module:attribute`.
    """

    key: tuple[Source, ...] = (Source(b"authorization", bearer=True),)
    directory: str = ""
    anonymous: str | None = None
    unknown_key: str = "refuse"
    proxies: tuple[Network, ...] = ()
    proxy_header: bytes = b""
    traits: Mapping[str, Source] = field(default_factory=dict)


class TwoCredentials(ValueError):
    """A request that carries two different credentials: to choose one would let it hide behind the other."""


def credential(headers: Iterable[tuple[bytes, bytes]], sources: Sequence[Source]) -> bytes | None:
    """The one credential among the headers, or None.

    Surrounding blanks are no part of it and `Bearer` is read in any case, as servers differ in what they strip.
    The same secret through several carriers is one credential. Raises `TwoCredentials` for two.

    >>> credential([(b"authorization", b"bEARER  abc ")], [Source(b"authorization", True)])
    b'abc'
    """
    found: bytes | None = None
    for name, value in headers:
        for source in sources:
            if name != source.header:
                continue
            secret = _bearer(value) if source.bearer else value.strip(b" \t")
            if not secret:
                continue
            if found is not None and found != secret:
                raise TwoCredentials("two different credentials in one request")
            found = secret
    return found


def _bearer(value: bytes) -> bytes:
    if value[:7] == b"Bearer ":
        return value[7:].strip(b" \t")
    scheme, _, token = value.strip(b" \t").replace(b"\t", b" ", 1).partition(b" ")
    return token.strip(b" \t") if scheme.lower() == b"bearer" else b""


def plausible(secret: bytes) -> bool:
    """Whether a directory should be asked at all: visible ASCII, not absurdly long.

    Control characters, blanks inside and bytes past ASCII are no key that anybody was given.

    >>> plausible(b"hg_1234"), plausible(b"a b"), plausible("ключ".encode())
    (True, False, False)
    """
    return len(secret) <= SECRET_MAX and _VISIBLE.fullmatch(secret) is not None


_VISIBLE = re.compile(rb"[!-~]+")


def digest(pepper: bytes, purpose: bytes, *parts: bytes) -> bytes:
    """Keyed digest of a tuple, 16 bytes: length-prefixed, so that no separator can be smuggled in.

    HMAC-SHA256 (RFC 2104) cut to 128 bits: nobody without the pepper can tell which key or org it stands for, and
    what was made for one purpose is never met with for another.

    >>> digest(b"pepper", b"subject", b"a", b"b:c") == digest(b"pepper", b"subject", b"a:b", b"c")
    False
    >>> from hmac import digest as hmac
    >>> digest(b"pepper", b"key", b"ab") == hmac(b"pepper", b"\\0\\0\\0\\3key\\0\\0\\0\\2ab", "sha256")[:16]
    True
    """
    return keyed(pepper, purpose)(*parts)


@lru_cache(maxsize=64)
def keyed(pepper: bytes, purpose: bytes) -> Callable[..., bytes]:
    """`digest` for one pepper and purpose, to be called with the parts alone.

    Both hashes of HMAC have the pepper and the purpose taken in already: half of what a short message costs.

    >>> keyed(b"pepper", b"key")(b"ab") == digest(b"pepper", b"key", b"ab")
    True
    """
    block = (pepper if len(pepper) <= BLOCK else hashlib.sha256(pepper).digest()).ljust(BLOCK, b"\0")
    begun = hashlib.sha256(bytes([byte ^ 0x36 for byte in block]))
    begun.update(len(purpose).to_bytes(4, "big") + purpose)
    inside, outside = begun.copy, hashlib.sha256(bytes([byte ^ 0x5C for byte in block])).copy

    def made(*parts: bytes) -> bytes:
        inner, outer = inside(), outside()
        for part in parts:
            inner.update(len(part).to_bytes(4, "big") + part)
        outer.update(inner.digest())
        return outer.digest()[:16]

    return made


def network_of(address: str) -> str | None:
    """The network that is charged for an address: itself for IPv4, its /64 for IPv6; None if it is no address.

    An IPv4 address in IPv6 clothes (mapped ::ffff:0:0/96, or NAT64 64:ff9b::/96 of RFC 6052) is unmapped first,
    or all of IPv4 would share one bucket. Brackets, ports and zone ids are dropped.

    >>> network_of("::ffff:192.0.2.1"), network_of("2001:DB8::1"), network_of("evil")
    ('192.0.2.1', '2001:db8::/64', None)
    """
    address = address.strip()
    if address.startswith("["):
        address = address[1:].partition("]")[0]
    elif address.count(":") == 1:
        address = address.partition(":")[0]
    try:
        parsed: IPv4Address | IPv6Address | None = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address):
        parsed = _unmapped(parsed) or parsed
    if isinstance(parsed, IPv4Address):
        return str(parsed)
    return str(IPv6Network((parsed, IPV6_CUSTOMER), strict=False))


_NAT64 = IPv6Network("64:ff9b::/96")


def _unmapped(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None


def client_network(peer: str | None, forwarded: Sequence[str], proxies: Sequence[Network]) -> str:
    """The network to charge: the last hop that is not a trusted proxy, walked from the right.

    `forwarded`: all lines of the one trusted header, in order. What is no address ends the walk: the hop that
    wrote it is charged. Without trusted proxies the header is not read at all.

    >>> from ipaddress import ip_network
    >>> client_network("10.0.0.1", ["6.6.6.6, 198.51.100.7"], [ip_network("10.0.0.0/8")])
    '198.51.100.7'
    """
    charged = network_of(peer or "") or NO_PEER
    if not proxies or not _trusted(peer or "", proxies):
        return charged
    for hop in reversed(",".join(forwarded).split(",")):
        network = network_of(hop)
        if network is None:
            break
        charged = network
        if not _trusted(hop, proxies):
            break
    return charged


def _trusted(address: str, proxies: Sequence[Network]) -> bool:
    try:
        parsed: IPv4Address | IPv6Address = ip_address(address.strip().partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address):
        parsed = _unmapped(parsed) or parsed
    return any(parsed in network for network in proxies if network.version == parsed.version)


def path_forms(path: str, root_path: str = "") -> tuple[str, ...]:
    """Every form under which an app may route a path: as it stands, cleaned of dot segments and doubled slashes,
    and both without the prefix of a mount. Mostly they are one.

    >>> path_forms("/v1/items")
    ('/v1/items',)
    >>> path_forms("/v1/x/..//items")
    ('/v1/items', '/v1/x/..//items')
    >>> path_forms("/api/v1/items", "/api")
    ('/v1/items', '/api/v1/items')
    """
    if not root_path and "//" not in path and "/." not in path and "\\" not in path:
        return (path,)
    inner = path[len(root_path) :] or "/" if root_path and path.startswith(root_path) else path
    return tuple(dict.fromkeys((cleaned(inner), inner, cleaned(path), path)))


def cleaned(path: str) -> str:
    """The path with dot segments resolved (RFC 3986, 5.2.4) and empty ones dropped; a last slash is kept.

    >>> cleaned("/a/./b/../../../c//")
    '/c/'
    """
    kept: list[str] = []
    segments = path.replace("\\", "/").split("/")
    for segment in segments:
        if segment == "..":
            if kept:
                kept.pop()
        elif segment not in {"", "."}:
            kept.append(segment)
    return "/" + "/".join(kept) + ("/" if kept and segments[-1] in {"", ".", ".."} else "")
