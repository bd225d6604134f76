"""From an ASGI scope to facts: the credential, the address that is charged, every form of the path, and what else
the policy's limits ask for.

Law: only the scope is read, never `request.url`, which a crafted Host header rewrites. What an app may route by is
matched in every form it may route by; what the policy does not ask for is not looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from headgate.asgi.routes import UNROUTED
from headgate.policy.compiled import Policy
from headgate.quota.decision import Decision
from headgate.quota.facts import Call, Principal
from headgate.quota.identify import client_network, credential, path_forms
from headgate.quota.match import Limit
from headgate.quota.meter import Meter
from headgate.telemetry import events

Scope = MutableMapping[str, Any]
Headers = Sequence[tuple[bytes, bytes]]

ADDRESSES = 8_192
"""Addresses whose network is kept worked out; about 300 bytes each."""

LONG = 256
"""Bytes of proxy header up to which the answer is kept: a longer one could be made to fill memory."""


@dataclass(frozen=True, slots=True)
class Intake:
    """What one policy reads of a request, worked out once for a policy.

    | field | meaning |
    | --- | --- |
    | `disabled` | whether requests pass untouched, and nothing at all is read of them |
    | `carriers` | names of the headers that may hold a credential |
    | `forwarded` | the header in which trusted proxies write addresses, b"" for none |
    | `network` | the network charged for (peer, lines of that header) |
    | `body` | whether a value of a JSON body is asked for at all |
    | `body_decides` | whether such a value decides which limits apply or who is charged |
    | `once` | names of headers whose value decides that: they may not come twice and differ |
    | `once_asked` | the same of parameters of the query |
    | `route` | whether the router's template, or a parameter of it, is asked for |
    | `reported` | by name, the meters whose amounts the app reports with `charge` |
    | `touched` | by name, the meters that count different things |
    | `touches` | the names of those among them that count what the app says with `touch`, and nothing else |
    | `naming` | limits that count what requests name, and of which none has named nothing yet |
    | `told` | meters read from a header of the response: (name in lower case, meter) |
    | `gauges` | what the limits of a decision measure, by their identities; kept here as they come up |
    | `dialect` | the dialect of all replies, "" where it depends on the path |
    """

    policy: Policy
    disabled: bool
    carriers: frozenset[bytes]
    forwarded: bytes
    network: Callable[[str | None, tuple[str, ...]], str]
    body: bool
    body_decides: bool
    once: frozenset[bytes]
    once_asked: frozenset[str]
    route: bool
    reported: Mapping[str, Meter]
    touched: Mapping[str, Meter]
    touches: tuple[str, ...]
    naming: list[Limit]
    told: tuple[tuple[bytes, Meter], ...]
    gauges: dict[tuple[int, ...], Any]
    dialect: str

    def secret(self, headers: Headers) -> bytes | None:
        """The request's one credential, or None. Raises `TwoCredentials` for two different ones."""
        # A loop, for on Python 3.11 a comprehension is a call of its own.
        carriers, carrying = self.carriers, None
        for header in headers:
            if header[0] in carriers:
                carrying = [header] if carrying is None else [*carrying, header]
        return None if carrying is None else credential(carrying, self.policy.identify.key)

    def twice(self, scope: Scope) -> str:
        """A header or parameter that decides and comes twice with different values; "" where none does.

        Which of them counts is every reader's own choice: the app's need not be ours.
        """
        if self.once:
            found: dict[bytes, bytes] = {}
            for name, value in scope["headers"]:
                if name in self.once and found.setdefault(name, value) != value:
                    return str(name.decode("latin-1"))
        if self.once_asked:
            asked: dict[str, str] = {}
            query: str = scope.get("query_string", b"").decode("latin-1")
            for parameter, text in parse_qsl(query, keep_blank_values=True):
                if parameter in self.once_asked and asked.setdefault(parameter, text) != text:
                    return parameter
        return ""

    def unnamed(self, call: Call, decision: Decision) -> None:
        """Tell once of each limit that counts what requests name, and would meet this one if it named anything.

        A source that is never there would else count nothing for ever, and nobody would know. What no route matches
        has no parameters, and is not told of.
        """
        asked = {id(limit) for limit in decision.limits}
        for limit in [one for one in self.naming if id(one) not in asked and call.route != UNROUTED]:
            if (limit.applies is None or limit.applies(call)) and not call.values(limit.meter.things):
                self.naming.remove(limit)
                events.warning(
                    "headgate.things.unnamed", limit=limit.id, source=limit.meter.things, route=call.route,
                    decision=decision.id,
                )  # fmt: skip

    def address(self, scope: Scope) -> str:
        """The network that is charged for this request."""
        client = scope.get("client")
        peer = client[0] if client else None
        if not self.forwarded:
            return self.network(peer, ())
        lines = tuple([value.decode("latin-1") for name, value in scope["headers"] if name == self.forwarded])
        if sum(map(len, lines)) > LONG:
            return client_network(peer, lines, self.policy.identify.proxies)
        return self.network(peer, lines)


def intake(policy: Policy) -> Intake:
    """Work out what a policy reads of a request."""
    way = policy.identify
    deciding, counted, unknown = _sources(policy)
    meters = {**policy.meters, **{meter.name: meter for limit in policy.limits for meter in _measured(limit)}}
    return Intake(
        policy=policy,
        disabled=policy.mode == "disabled",
        carriers=frozenset(source.header for source in way.key),
        forwarded=way.proxy_header if way.proxies else b"",
        network=lru_cache(ADDRESSES)(lambda peer, lines: client_network(peer, lines, way.proxies)),
        body=unknown
        or policy.include_usage
        or _links_prompts(policy)
        or any(source.startswith("body.") for source in deciding | counted),
        body_decides=any(source.startswith("body.") for source in deciding),
        once=frozenset(_headers(policy, deciding)),
        once_asked=frozenset([source.removeprefix("query.") for source in deciding if source.startswith("query.")]),
        route=unknown or any(source == "route" or source.startswith("path.") for source in deciding | counted),
        reported={name: meter for name, meter in meters.items() if meter.source == "app"},
        touched={name: meter for name, meter in meters.items() if meter.things},
        touches=tuple([name for name, meter in meters.items() if meter.things == "app"]),
        naming=[limit for limit in policy.limits if limit.meter.things not in {"", "app"}],
        told=tuple(
            (meter.source[len("header.") :].lower().encode("latin-1"), meter)
            for meter in meters.values()
            if meter.source.startswith("header.")
        ),
        gauges={},
        dialect=policy.dialects[0][1] if policy.dialects[0][0] == "*" else "",
    )


def _links_prompts(policy: Policy) -> bool:
    """Whether the policy names prompts among what keys are linked by: they stand in the body."""
    return policy.linking is not None and "prompts" in policy.linking.signals


def _sources(policy: Policy) -> tuple[set[str], set[str], bool]:
    """The sources that decide which limits apply and who is charged, those that only say how much is held, and
    whether there is a condition of which nobody can say what it reads."""
    deciding: set[str] = set()
    counted: set[str] = set()
    unknown = False
    for limit in policy.limits:
        fields, opaque = _fields(limit)
        deciding.update([policy.scopes.get(name, name) for name in (*limit.per, *fields)])
        for meter in _measured(limit):
            # What is counted, and by which factor, is what is charged: it is not the caller's to hide.
            deciding.add(meter.things)
            deciding.add(meter.sum.by if meter.sum is not None else "")
            counted.update(meter.reserve_from, meter.reserve_times)
        unknown = unknown or opaque
    return deciding, counted, unknown


def _measured(limit: Limit) -> tuple[Meter, ...]:
    """The limit's meter, and what it adds up."""
    return (limit.meter, *limit.meter.parts)


def _headers(policy: Policy, sources: set[str]) -> list[bytes]:
    """The headers that are read for these sources, be it by their own names or as traits."""
    traits = policy.identify.traits
    named = [
        source.removeprefix("header.").lower().encode("latin-1") for source in sources if source.startswith("header.")
    ]
    return named + [traits[name].header for name in (s.removeprefix("trait.") for s in sources) if name in traits]


def _fields(limit: Limit) -> tuple[list[str], bool]:
    """What a limit's `when` and `unless` test; a condition in Python may read anything."""
    texts = [text for text, _ in limit.conditions]
    fields = [text.split(None, 2)[1].rstrip(":") for text in texts]
    return fields, "python" in fields or (limit.applies is not None and not texts)


def encoded(scope: Scope) -> bool:
    """Whether the body is packed in a way that an app may unpack and we do not."""
    codings = [value.strip().lower() for name, value in scope["headers"] if name == b"content-encoding"]
    return any(coding not in {b"", b"identity"} for coding in codings)


class Wire(Call):
    """A request as it came over the wire: a `Call` of which each fact is worked out when a limit first asks for it.

    `route`, `body` (the members of the JSON object in the body, as far as it was looked at) and `params` (those of
    the route) are put in by whoever has them; the rest is read from the scope.
    """

    __slots__ = ("_query", "_reads", "_scope", "body", "params")

    def __init__(self, principal: Principal, scope: Scope, reads: Intake) -> None:
        self.principal = principal
        self.route = ""
        self.body: Mapping[str, Any] | None = None
        self.params: Mapping[str, Any] | None = None
        self._scope = scope
        self._reads = reads
        self._query: dict[str, str] | None = None

    def __getattr__(self, name: str) -> Any:
        # Python calls this for an empty slot alone. Most limits look at the principal and nothing else, and a request
        # that meets no others pays for no pattern and no address.
        work = _FACTS.get(name)
        if work is None:
            raise AttributeError(name)
        fact = work(self._scope, self._reads)
        setattr(self, name, fact)
        return fact

    def lookup(self, source: str, name: str) -> str:
        """One value by (source, name); "" where there is none."""
        match source:
            case "header":
                return self._header(name.lower().encode("latin-1", "replace"))
            case "query":
                return self._queried().get(name, "")
            case "body":
                return self._member(name)
            case "path":
                params = self._scope.get("path_params") if self.params is None else self.params
                return str(params.get(name, "")) if params else ""
            case "trait":
                trait = self._reads.policy.identify.traits.get(name)
                return self._header(trait.header) if trait is not None else ""
        return ""

    def values(self, scope: str) -> tuple[str, ...]:
        """All that a source names. In a body: each member of a list, and what is no text or number by how it is
        written, for to name a thing oddly is not to name none."""
        source, _, name = scope.partition(".")
        if source != "body":
            return super().values(scope)
        found = self._found(name)
        every = found if isinstance(found, list) else [found]
        return tuple([_written(value) for value in every if value is not None and value != ""])

    def _header(self, name: bytes) -> str:
        return ", ".join([value.decode("latin-1") for header, value in self._scope["headers"] if header == name])

    def _queried(self) -> dict[str, str]:
        # The last of several values counts, as it does in Starlette and FastAPI.
        if self._query is None:
            text = self._scope.get("query_string", b"").decode("latin-1")
            self._query = dict(parse_qsl(text, keep_blank_values=True, errors="surrogateescape"))
        return self._query

    def _member(self, name: str) -> str:
        value = self._found(name)
        return "" if value is None or isinstance(value, Mapping | list) else _written(value)

    def _found(self, name: str) -> Any:
        """A member of the body by its dotted name; None where there is none."""
        value: Any = self.body
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value


def _written(value: Any) -> str:
    """A value of a body as a text: as it was written, without a text's quotes."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), sort_keys=True)


PLAIN = re.compile(r"(?:/[^/.\\;#?\x00][^/\\;#?\x00]*+)++")
"""A path of which no two routers think differently: no dot segments, no empty ones, no last slash, nothing that may
end it early."""

CUT = re.compile(r"[;#?\x00]")
"""Where some router may take a path to end: parameters, a fragment, a query that was encoded, a C string."""

PARAMETERS = re.compile(r";[^/]*")
"""Parameters of a segment, which some routers take away wherever they stand."""

ABSOLUTE = re.compile(r"\A[A-Za-z][A-Za-z0-9+.-]*://[^/]*")
"""The head of a target in absolute form, which one of uvicorn's parsers leaves in the path."""


def paths_of(scope: Scope) -> tuple[str, ...]:
    """Every form under which an app may route this request; for nearly all of them one.

    >>> paths_of({"path": "/v1/items"}), paths_of({"path": "http://x/v1/items;a=1"})
    (('/v1/items',), ('/v1/items', '/v1/items;a=1', 'http://x/v1/items;a=1'))
    """
    path: str = scope["path"]
    root_path: str = scope.get("root_path", "")
    if not root_path and PLAIN.fullmatch(path) is not None:
        return (path,)
    target = ABSOLUTE.sub("", path)
    found: list[str] = []
    # Cut and then cleaned, and cleaned and then cut: `/v1/items/.;a` and `/v1/x;a/../items` end at different steps.
    for read in dict.fromkeys((CUT.split(target, maxsplit=1)[0], PARAMETERS.sub("", target), target)):
        for form in path_forms(read or "/", root_path):
            whole = form if form.startswith("/") else "/" + form
            bare = CUT.split(whole, maxsplit=1)[0]
            # A router that takes no notice of a last slash serves both forms.
            found += [bare.rstrip("/") or "/", bare, whole]
    return tuple(dict.fromkeys((*found, path)))


def method_of(scope: Scope) -> str:
    """The method that limits see: upper case, HEAD as the GET that it is; a WebSocket begins as a GET."""
    method: str = scope.get("method", "GET")
    method = method.upper()
    return "GET" if method == "HEAD" else method


_FACTS: Mapping[str, Callable[[Scope, Intake], Any]] = {
    "method": lambda scope, _: method_of(scope),
    "paths": lambda scope, _: paths_of(scope),
    "network": lambda scope, reads: reads.address(scope),
    "tags": lambda _, __: frozenset(),
}
"""What a `Wire` works out."""
