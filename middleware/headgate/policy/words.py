"""Words, read by us from their raw text: dates, networks, names, texts, patterns, sources.

Law: as with quantities, one form is right and every other is refused with the reason and what was likely meant. No
pattern is a regular expression, nothing is looked up by name, and free text that YAML readers might take for
something else needs quotes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from functools import cache
from ipaddress import ip_address, ip_network
from zoneinfo import ZoneInfo, available_timezones

from headgate.nearest import nearest
from headgate.policy.literals import Wrong
from headgate.quota.identify import Network

AMBIGUOUS = re.compile(
    r"(?:~|null|true|false|yes|no|on|off|y|n)?"
    r"|[-+]?(?:\.inf|\.nan|inf|nan)"
    r"|[-+]?[0-9][0-9_,]*(?:\.[0-9_]*)?(?:e[-+]?[0-9]+)?"
    r"|[-+]?0[xob][0-9a-f_]+"
    r"|[-+]?[0-9]+(?::[0-9]{1,2})+"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*",
    re.I,
)
"""What some YAML reader takes for a number, a truth value, nothing or a date when it stands without quotes."""

RESERVED = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n", "default", "unlimited"})
"""Words that nothing may be named: YAML readers or the language give them a meaning."""


def day(text: str) -> date:
    """A date, `2027-06-30`."""
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise _day_wrong(text)
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise Wrong("there is no such day") from None
    if not 1970 <= found.year <= 2200:
        raise Wrong("the year lies between 1970 and 2200")
    return found


def _day_wrong(text: str) -> Wrong:
    for form in (
        r"([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4})",
        r"([0-9]{4})[/.-]([0-9]{1,2})[/.-]([0-9]{1,2})(?:[T ].*)?",
    ):
        found = re.fullmatch(form, text)
        if found:
            year, month, last = sorted(found.groups(), key=len, reverse=True)[0], found[2], found[1]
            last = found[3] if found[1] == year else last
            return Wrong("", f"{year}-{month:0>2}-{last:0>2}")
    return Wrong()


def network(text: str) -> Network:
    """A network in CIDR form, or one address. IPv4 in IPv6's clothes is written as IPv4."""
    try:
        found = ip_network(text)
    except ValueError:
        raise _network_wrong(text) from None
    if found.version == 6 and found.network_address.ipv4_mapped is not None:
        raise Wrong("addresses are unmapped before they are compared: write it as IPv4")
    return found


def _network_wrong(text: str) -> Wrong:
    try:
        return Wrong("the address has bits beyond the prefix", str(ip_network(text, strict=False)))
    except ValueError:
        pass
    try:
        ip_address(text.partition("/")[0])
    except ValueError:
        return Wrong("names are not looked up: write addresses" if re.search(r"[g-z]", text, re.I) else "")
    return Wrong("an IPv4 prefix ends by /32, an IPv6 one by /128")


def zone(text: str) -> str:
    """A time zone of the IANA data base."""
    try:
        ZoneInfo(text)
    except (ValueError, OSError, KeyError):
        city = text.replace(" ", "_")
        meant = next((known for known in _zones() if known.rpartition("/")[2] == city), "")
        likely = [known for known in _zones() if known[:1] == text[:1].upper()]
        raise Wrong("no such zone is known", meant or nearest(text, likely)) from None
    return text


@cache
def _zones() -> tuple[str, ...]:
    return tuple(sorted(available_timezones()))


def text(text: str) -> str:
    """Free text without control characters."""
    if not text.strip():
        raise Wrong("nothing stands here")
    if any((ord(c) < 32 and c != "\n") or ord(c) == 127 for c in text):
        raise Wrong("it holds control characters")
    if len(text) > 2_000:
        raise Wrong("it is longer than 2,000 characters")
    return text.strip()


def name(text: str) -> str:
    """A name of the author's choice: small letters, digits, `_` and `-`, a letter first, at most 64."""
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,63}", text):
        meant = re.sub(r"[^a-z0-9_-]+", "_", text.lower()).strip("_-")
        raise Wrong("", meant if re.fullmatch(r"[a-z][a-z0-9_-]{0,63}", meant) and meant not in RESERVED else "")
    if text in RESERVED:
        raise Wrong("the word has another meaning here or to YAML readers")
    return text


def identifier(text: str) -> str:
    """An id that others gave: of an org, a key, a tag. Visible characters, at most 200."""
    if not text or len(text) > 200 or any(c.isspace() or not c.isprintable() for c in text):
        raise Wrong("an id has no blanks and at most 200 characters")
    return text


def url(text: str) -> str:
    """An absolute http or https address."""
    if not re.fullmatch(r"https?://[^\s/@<>\"]+(?:/[^\s<>\"]*)?", text):
        bare = re.fullmatch(r"[\w-]+(?:\.[\w-]+)+(?:/[^\s@<>\"]*)?", text)
        raise Wrong("it begins with https:// and holds no blanks and no password", f"https://{text}" if bare else "")
    return text


def glob(text: str) -> str:
    """Text in which `*` stands for anything. No regular expression: matching takes linear time, always."""
    if not text or len(text) > 500:
        raise Wrong("nothing stands here" if not text else "it is longer than 500 characters")
    if text[0] == "^" or text[-1] == "$" or any(sign in text for sign in ("\\", "(", "[", "|", ".*", ".+")):
        raise Wrong("it looks like a regular expression; the one sign with a meaning is `*`, alternatives are a list")
    return text


def route(text: str) -> str:
    """A glob on a path, or a route's template: it begins with `/`, `*` stands for anything, slashes too."""
    glob(text)
    if "://" in text:
        path = "/" + text.partition("://")[2].partition("/")[2]
        raise Wrong("only the path counts, not the host", path)
    if "?" in text or "#" in text:
        raise Wrong(
            "a route has no query; to match one, declare a scope: `scopes: {q: query.q}`", text.partition("?")[0]
        )
    if text[0] not in "/*":
        method, blank, path = text.partition(" ")
        if blank and method.isupper():
            raise Wrong(f"the method has its own field: `method: {method}`", path)
        raise Wrong("it begins with `/`", "/" + text)
    return text


def method(text: str) -> str:
    """An HTTP method; HEAD counts as GET."""
    if not re.fullmatch(r"[A-Za-z]{1,32}", text):
        raise Wrong()
    if text.upper() == "HEAD":
        raise Wrong("HEAD counts as GET", "GET")
    return text.upper()


def country(text: str) -> str:
    """Two letters of ISO 3166."""
    if not re.fullmatch(r"[A-Za-z]{2}", text):
        raise Wrong()
    return text.upper()


def header_source(text: str) -> str:
    """`header.NAME` of the request."""
    kind, dot, rest = text.partition(".")
    if kind == "header" and re.fullmatch(r"[A-Za-z0-9!#$%&'*+^_`|~-]+", rest):
        return text.lower()
    raise Wrong("", f"header.{text.lower()}" if not dot and re.fullmatch(r"[A-Za-z0-9-]+", text) else "")


def credential_source(text: str) -> str:
    """`header.NAME`, or `header.NAME.bearer` where the scheme `Bearer` stands before the credential."""
    if text.partition(".")[0] in {"query", "cookie", "path", "body"}:
        raise Wrong("credentials are read from headers only: elsewhere they end up in logs")
    return header_source(text.removesuffix(".bearer")) + (".bearer" if text.endswith(".bearer") else "")


def header_name(text: str) -> str:
    """A header's name."""
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+^_`|~-]+", text):
        bare = text.removeprefix("header.")
        raise Wrong("the bare name is meant", bare if bare != text else "")
    return text.lower()


SOURCES = ("header", "query", "path", "body", "claim", "trait")


def source(text: str, kinds: Sequence[str] = SOURCES) -> str:
    """Where a value of a request stands: `header.X`, `query.X`, `path.X`, `body.X`, `claim.X` or `trait.X`."""
    kind, dot, rest = text.partition(".")
    if not dot or not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", rest):
        raise Wrong()
    if kind not in kinds:
        meant = nearest(kind, kinds)
        raise Wrong(f"there is no source `{kind}`", f"{meant}.{rest}" if meant else "")
    return f"{kind}.{rest.lower()}" if kind == "header" else text


def is_source(text: str) -> bool:
    """Whether a word is a source rather than a name."""
    return "." in text


def python(text: str) -> str:
    """`package.module:attribute` of a Python callable."""
    if not re.fullmatch(r"[A-Za-z_][\w]*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", text, re.ASCII):
        head, dot, tail = text.rpartition(".")
        looks = ":" not in text and dot and re.fullmatch(r"[\w.]+", text, re.ASCII)
        raise Wrong("", f"{head}:{tail}" if looks else "")
    return text
