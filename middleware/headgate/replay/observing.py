"""From a line of a log to the observation that linking sees.

Law: what goes on from here has no text, address or secret in it: a digest stands for each. Evidence that the policy
does not look at (`linking: {signals: …}`), or of which it says that it tells nothing (`ignore`), does not go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Any

from headgate.linking.observation import Blind, Observation, runs, traits
from headgate.policy.compiled import Dated
from headgate.quota.balance import new
from headgate.quota.identify import network_of
from headgate.replay.entry import Entry

KEPT = 100_000
"""Addresses, clients and accounts whose traits are kept worked out."""

SOFTWARE = ("user_agent", "client")
"""Names by which client software may be among the traits of an account."""

SIGNALS = ("payment", "device", "address", "software", "prompts", "handoff", "coactivity", "coverage")
"""All words of the policy's `signals`."""

WORDS = {"payment": "payment", "device": "device", "user_agent": "software", "client": "software"}
"""Which of them a trait of an account goes by. One that goes by none counts where the policy names no signals."""

NO_TRAITS = frozenset({"plan", "signup_ip", "signup_ts"})
"""What is told among an account's traits and resembles nobody: a plan is everybody's, the rest is read apart."""


Traits = tuple[tuple[str, int], ...]


class Observing:
    """Makes observations of entries. `ignored`: the policy's entries of `ignore`; `signals`: the evidence that it
    looks at, all where it names none.

    >>> observing = Observing(b"pepper", ())
    >>> seen = observing.of("k1", "acme", Entry(at=7, status=200, ip="198.51.100.7", traits={"device": "d1"}))
    >>> seen.at, seen.served, [name for name, _ in seen.traits]
    (7, True, ['device', 'address', 'network'])
    """

    def __init__(self, pepper: bytes, ignored: tuple[Dated, ...], signals: tuple[str, ...] = ()) -> None:
        looked_at = frozenset(signals or SIGNALS)
        self._prompts, self._address, self._software = (
            word in looked_at for word in ("prompts", "address", "software")
        )
        self._places = "coverage" in looked_at
        self._named = None if not signals else frozenset([name for name, word in WORDS.items() if word in looked_at])
        self.paths = False
        """Whether a path that ends in a number is a data item, where none are told."""
        self._blind = Blind(pepper)
        self._networks = [
            (ip_network(name), one.until) for one in ignored if one.subject == "address" for name in one.names
        ]
        self._values = {(one.subject, name): one.until for one in ignored for name in one.names}
        self._addresses: dict[str, Traits] = {}
        self._clients: dict[tuple[str | None, str | None], Traits] = {}
        self._accounts: dict[tuple[tuple[str, str], ...], tuple[Traits, int | None]] = {}
        self._ends = sorted({one.until for one in ignored})

    def of(self, key: str, org: str, entry: Entry) -> Observation:
        """The observation of a request by a key; `org` is "" where the key belongs to none."""
        blind = self._blind
        clauses: tuple[int, ...] = ()
        names: tuple[int, ...] = ()
        if entry.prompt and self._prompts:
            clauses, names = blind.prompt(entry.prompt)
        if self._ends and entry.at >= self._ends[0]:
            del self._ends[0]  # what was ignored until now tells something again
            self._addresses.clear()
            self._clients.clear()
            self._accounts.clear()
        address, signup = entry.ip or "", None
        known = self._addresses.get(address)
        if known is None:
            known = self._addresses[address] = self._reached_from(address, entry.at)
        client = (entry.user_agent, entry.ja4)
        software = self._clients.get(client)
        if software is None:
            software = self._clients[client] = self._by_software(*client, entry.at)
        known += software
        if entry.traits:
            account, signup = self._account(entry.traits, entry.at)
            known = account + known
        status = 200 if entry.status is None else entry.status
        items = entry.resources
        if items is None and self.paths and entry.path and (entry.method or "GET") == "GET" and status < 300:
            items = [entry.path] if entry.path[-1:].isdigit() else None
        found = runs(blind, items) if items and self._places else ()
        size = entry.tokens_in or 0
        # All fields in their order: half the time of calling the class.
        return new(
            Observation, (entry.at, key, org, status < 400, status == 429, clauses, names, found, known, signup, size)
        )

    def _reached_from(self, address: str, now: int) -> Traits:
        """What an address tells; kept, for it comes again."""
        if len(self._addresses) >= KEPT:
            self._addresses.clear()
        if not self._address:
            return ()
        # IPv4 in the clothes of IPv6 is one address, and not all of them.
        plain = (network_of(address) or "").partition("/")[0] if ":" in address else address
        return () if self._says_nothing(plain, now) else self._blind.network(plain)

    def _by_software(self, agent: str | None, ja4: str | None, now: int) -> Traits:
        if len(self._clients) >= KEPT:
            self._clients.clear()
        if not (agent or ja4) or not self._software or self._ignored("software", agent or "", now):
            return ()
        return (("client", self._blind("client", f"{agent}|{ja4}")),)

    def _account(self, told: Mapping[str, Any], now: int) -> tuple[Traits, int | None]:
        """What is known of an account: its traits, and when it was made (microseconds). Kept: it is told often."""
        named = tuple([(name, value) for name, value in told.items() if isinstance(value, str)])
        found = self._accounts.get(named)
        if found is None:
            if len(self._accounts) >= KEPT:
                self._accounts.clear()
            found = self._accounts[named] = self._told(dict(named), now), _instant(told.get("signup_ts"))
        return found

    def _told(self, named: Mapping[str, str], now: int) -> Traits:
        kept = {n: v for n, v in named.items() if n not in NO_TRAITS and not self._ignored(n, v, now)}
        if self._named is not None:
            kept = {name: value for name, value in kept.items() if name in self._named}
        address = (network_of(named.get("signup_ip", "")) or "").partition("/")[0]
        around = () if not self._address or self._says_nothing(address, now) else self._blind.network(address)
        signup = [("signup_network", number) for name, number in around if name == "network"]
        return (*traits(self._blind, kept), *signup)

    def _ignored(self, kind: str, value: str, now: int) -> bool:
        kind = "software" if kind in SOFTWARE else kind
        return bool(self._values) and now < self._values.get((kind, value), 0)

    def _says_nothing(self, address: str, now: int) -> bool:
        if not self._networks:
            return False
        try:
            found = ip_address(address)
        except ValueError:
            return True
        return any(now < until and found in network for network, until in self._networks)


def _instant(told: Any) -> int | None:
    try:
        found = round(float(told) * 1e6)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if 0 < found < 1 << 53 else None
