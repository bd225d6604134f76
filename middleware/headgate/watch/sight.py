"""What one policy lets linking see of a request, and what it makes of that.

Law: what the policy does not name is not looked at, and what it says to ignore makes no trait. In the request path
references and a bounded piece of text are taken, nothing is worked out; digests are made elsewhere. No glimpse is
worth a request: what cannot be read counts as not said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from headgate.linking.observation import LONGEST, Blind, Observation, runs, traits
from headgate.policy.compiled import Dated, Policy
from headgate.quota.facts import Principal
from headgate.quota.identify import client_network, network_of
from headgate.watch.ring import Glimpse

CLIENT, AGENT, HANDSHAKE = "client", b"user-agent", "ja4"
"""The trait that client software makes, and what it is made of: the user agent and, where the policy reads it, the
fingerprint of the TLS handshake. Each alone is half the world's."""

SILENT = frozenset({"plan", "signup_ip", "signup_ts"})
"""What a directory tells of an account and makes no trait as it stands: a plan is everybody's, the others are read
apart."""

MOST_NAMES, MOST_RUNS, MOST_TRAITS, MOST_THINGS = 64, 128, 16, 512
"""What is kept of one request at most: some kilobytes in all."""

LONGEST_VALUE = 512
"""Letters of an id, or bytes of a header, that are looked at."""

LONGEST_PATH = 1_024
"""Letters of a path that are looked at: one that is longer names no record."""

ADDRESSES = 8_192
"""Peers, with what proxies say of them, whose network is kept worked out."""

READS = frozenset({"GET", "HEAD"})

TURNS = 64
"""Messages of a conversation that are looked through for its last question and for its instructions."""

WORDS = {"payment": "payment", "device": "device", "address": "address", "network": "address"}
"""Which word of the policy's `signals` a trait goes by. What a header tells is `software`."""


_made = tuple.__new__


def watches(policy: Policy) -> bool:
    """Whether a policy asks for linked keys to be looked for: one that only declares who belongs together does not.

    >>> from headgate.policy.compiled import Linking
    >>> from headgate.quota.identify import Identify
    >>> [watches(Policy("doc", "0", "enforce", Identify(), (), linking=l)) for l in (None, Linking(linked=970_000))]
    [False, True]
    """
    linking = policy.linking
    return linking is not None and bool(linking.linked or linking.signals)


class Sight:
    """What a policy lets see. `watches`: whether it asks for that at all. `prompts`, `places`, `address`: whether
    texts, data items and addresses are looked at.

    >>> from headgate.quota.identify import Identify
    >>> sight = Sight(Policy("doc", "0", "enforce", Identify(), ()))
    >>> scope = {"path": "/", "headers": [], "client": ("192.0.2.7", 4711)}
    >>> seen = sight.glimpse(Principal("k1", "acme"), 7, 200, scope, None, ())
    >>> blind = Blind(b"pepper")
    >>> [name for name, _ in sight.observation(seen, blind).traits]
    ['address', 'network']
    """

    __slots__ = (
        "_forwarded", "_ignored", "_looked_at", "_network_of", "_networks", "_signals", "_software", "_traits",
        "address", "places", "policy", "prompts", "watches",
    )  # fmt: skip

    def __init__(self, policy: Policy) -> None:
        linking = policy.linking
        named = frozenset(linking.signals) if linking is not None else frozenset()
        self.policy = policy
        self.watches = watches(policy)
        self._signals = named
        self.prompts = not named or "prompts" in named
        self.places = not named or "coverage" in named
        self.address = not named or "address" in named
        self._software = not named or "software" in named
        # Which trait a header makes; the agent and the handshake make one together.
        self._traits = {
            source.header: name
            for name, source in policy.identify.traits.items()
            if not named or WORDS.get(name, "software") in named
        }
        self._forwarded = policy.identify.proxy_header if policy.identify.proxies and self.address else b""
        self._looked_at = frozenset([*self._traits, AGENT if self._software else b"", self._forwarded]) - {b""}
        ignored = linking.ignore if linking is not None else ()
        self._networks = tuple(
            (network, entry.until)
            for entry in ignored
            if entry.subject == "address"
            for network in map(_network, entry.names)
            if network is not None
        )
        way = policy.identify
        self._network_of = lru_cache(ADDRESSES)(lambda peer, lines: client_network(peer, lines, way.proxies))
        self._ignored: tuple[Dated, ...] = tuple([entry for entry in ignored if entry.subject != "address"])

    def glimpse(
        self,
        principal: Principal,
        at: int,
        status: int,
        scope: MutableMapping[str, Any],
        body: Mapping[str, Any] | None,
        things: Sequence[object],
    ) -> Glimpse:
        """What the request path takes along: references, a few short headers and at most `LONGEST` letters."""
        looked_at = self._looked_at
        client: tuple[tuple[bytes, bytes], ...] = ()
        for header in scope["headers"]:
            # A longer one is none of a browser's or an SDK's, and is not kept for the sake of memory.
            if header[0] in looked_at and len(header[1]) <= LONGEST_VALUE:
                client += (header,)
        path, params = "", None
        # What is handed out is read: what is written or started by a request hands out nothing.
        if self.places and not things and scope.get("method") in READS:
            path, params = scope["path"][:LONGEST_PATH], scope.get("path_params")
        # As `Glimpse(…)`, without the call of a function that a named tuple's class makes of it.
        return _made(
            Glimpse,
            (
                at, principal.key, principal.org, status, said(body) if body and self.prompts else (), things,
                path, params, scope.get("client") if self.address else None, client, principal.traits,
            ),
        )  # fmt: skip

    def observation(self, glimpse: Glimpse, blind: Blind) -> Observation:
        """The same without anything raw in it. Not in the request path: this takes tens of microseconds."""
        clauses: list[int] = []
        names: list[int] = []
        for text in glimpse.said:
            some, others = blind.prompt(text)
            clauses += some
            names += others
        status = glimpse.status
        served = status < 400
        told = glimpse.told
        found = dict(traits(blind, self._known(glimpse)))
        network = self._network(glimpse) if self.address else ""
        if network and not self._nowhere(glimpse, network):
            found.update(_reached(blind, network))
        if "signup_ip" in told and not self._nowhere(glimpse, told["signup_ip"]):
            found.update([("signup_network", number) for name, number in _reached(blind, told["signup_ip"])[1:]])
        return Observation(
            glimpse.at, glimpse.key, glimpse.org, served, status == 429,
            tuple(clauses), tuple(dict.fromkeys(names))[:MOST_NAMES],
            runs(blind, self._things(glimpse))[:MOST_RUNS] if served and self.places else (),
            tuple(found.items())[:MOST_TRAITS],
            instant(told["signup_ts"]) if "signup_ts" in told else None,
        )  # fmt: skip

    def _known(self, glimpse: Glimpse) -> dict[str, str]:
        """Traits of the account and the connection by their names, as far as the policy names and does not ignore
        them. What the directory tells besides is taken where the policy names no signals at all."""
        signals = self._signals
        known = {
            name: value[:LONGEST_VALUE]
            for name, value in glimpse.told.items()
            if isinstance(value, str) and name not in SILENT and (not signals or WORDS.get(name, "") in signals)
        }
        agent = handshake = None
        for header, value in glimpse.client:
            name, text = self._traits.get(header, ""), value.decode("latin-1")
            if name == HANDSHAKE:
                handshake = text or None
            elif name:
                known[name] = text
            elif header == AGENT:
                agent = text or None
        if self._software and (agent or handshake) and not self._ignores("software", (agent, handshake), glimpse.at):
            known[CLIENT] = f"{agent}|{handshake}"
        for trait, told in list(known.items()):
            if self._ignores(WORDS.get(trait, "software"), (told,), glimpse.at):
                del known[trait]
        return known

    def _ignores(self, subject: str, values: Sequence[str | None], at: int) -> bool:
        """Whether the policy says that one of these tells nothing."""
        return any(
            entry.subject == subject and at < entry.until and any(value in entry.names for value in values)
            for entry in self._ignored
        )

    def _network(self, glimpse: Glimpse) -> str:
        """The network that the request came from, as the gate charges it."""
        lines = tuple([value.decode("latin-1") for name, value in glimpse.client if name == self._forwarded])
        return self._network_of(glimpse.peer[0] if glimpse.peer else None, lines)

    def _nowhere(self, glimpse: Glimpse, address: str) -> bool:
        """Whether the policy ignores the address."""
        live = [network for network, until in self._networks if glimpse.at < until]
        if not live:
            return False
        mine = _network(address)
        return mine is not None and any(_within(mine, one) for one in live)

    def _things(self, glimpse: Glimpse) -> Iterable[str]:
        """The data items: those that the app named, or else those that the route's parameters name, or else the path
        if it ends in a number."""
        if glimpse.things:
            return [str(one)[:LONGEST_VALUE] for one in glimpse.things[:MOST_THINGS]]
        if glimpse.params:
            return handed_out(glimpse.path, glimpse.params)
        return (glimpse.path,) if glimpse.path[-1:].isdigit() else ()


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _reached(blind: Blind, address: str) -> tuple[tuple[str, int], ...]:
    return blind.network((network_of(address.partition("/")[0]) or "").partition("/")[0])


def _within(mine: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    if isinstance(mine, IPv4Network):
        return isinstance(other, IPv4Network) and mine.subnet_of(other)
    return isinstance(other, IPv6Network) and mine.subnet_of(other)


def said(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts of a prompt in a JSON body: what instructs the model, and the last that the user said; together at
    most `LONGEST` letters. Empty where there is none that can be read.

    Of a conversation that grows each request repeats all before it; its last question is what is new.

    >>> said({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi!"}]})
    ('Be brief.', 'Hi!')
    >>> said({"system": "Be kind.", "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]})
    ('Be kind.', 'Hello')
    >>> said({"prompt": "Once upon"}), said({"input": ["a", "b"]}), said({"model": "big"})
    (('Once upon',), ('a\\nb',), ())
    """
    turns = body.get("messages")
    if turns is None:
        turns = body.get("input")
    # Most requests are one turn, or instructions and one turn. What follows them reads everything else.
    if type(turns) is list and len(turns) == 1 and type(only := turns[0]) is dict and "system" not in body:
        text = only.get("content")
        if type(text) is str and text and only.get("role") == "user" and "instructions" not in body:
            return (text[:LONGEST],)
    instructs = _text(body.get("system") or body.get("instructions"))
    asks = ""
    if isinstance(turns, list) and turns and isinstance(turns[-1], dict):
        for turn in reversed(turns[-TURNS:]):
            if isinstance(turn, dict) and turn.get("role") == "user" and (asks := _text(turn.get("content"))):
                break
        first = turns[0] if isinstance(turns[0], dict) else {}
        if not instructs and first.get("role") in ("system", "developer"):
            instructs = _text(first.get("content"))
    else:
        asks = _text(turns if turns is not None else body.get("prompt"))
    # Half for each, so that long instructions hide no question; what one leaves the other may take.
    instructs = instructs[: max(LONGEST // 2, LONGEST - len(asks))]
    return tuple([text for text in (instructs, asks[: LONGEST - len(instructs)]) if text])


def _text(value: Any) -> str:
    """A text, or the texts of a list of parts joined; bounded. What is no text has none."""
    if isinstance(value, str):
        return value[:LONGEST]
    if not isinstance(value, list):
        return ""
    parts = [part.get("text") if isinstance(part, dict) else part for part in value[:TURNS]]
    return "\n".join([part[:LONGEST] for part in parts if isinstance(part, str)])[:LONGEST]


def handed_out(path: str, params: Mapping[str, Any]) -> list[str]:
    """The data items that the parameters of a route name: the path with the parameter's name in its place, and its
    value. So `/docs/7` and `/docs/8` are neighbours of one collection.

    >>> handed_out("/v1/docs/17", {"doc": 17}), handed_out("/v1/health", {})
    (['/v1/docs/{doc}:17'], [])
    """
    found = []
    for name, value in list(params.items())[:4]:
        text = str(value)[:LONGEST_VALUE]
        before, at, after = path.rpartition("/" + text)
        if at and text and (not after or after[0] == "/"):
            found.append(f"{before}/{{{name}}}{after}:{text}"[: 2 * LONGEST_VALUE])
    return found


def instant(told: str) -> int | None:
    """Microseconds since the epoch of what a directory says: seconds as a number, or an ISO 8601 date.

    >>> instant("1700000000"), instant("2023-11-14T22:13:20Z"), instant("long ago")
    (1700000000000000, 1700000000000000, None)
    """
    try:
        seconds = float(told)
    except ValueError:
        try:
            read = datetime.fromisoformat(told)
            seconds = (read if read.tzinfo is not None else read.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            return None
    return int(seconds * 1_000_000) if 0 <= seconds < 2**32 else None
