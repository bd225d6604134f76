"""A line of a log as the request that limits see.

Law: what the wire would have told and the line tells is there, under the same names; what it does not tell is "". The
data items that were handed out stand for whatever names them in the request.
"""

from __future__ import annotations

from functools import lru_cache

from headgate.quota.facts import Call, Principal
from headgate.quota.identify import NO_PEER, network_of, path_forms
from headgate.replay.entry import Entry


@lru_cache(maxsize=8_192)  # an address comes again
def _network(address: str) -> str:
    return network_of(address) or NO_PEER


class Logged(Call):
    """One line of a log as a request; `things`: the source by which the policy's limits name different things.

    >>> call = Logged(Principal("k1", "acme"), Entry(path="/v1/x", ip="192.0.2.7", traits={"tier": "gold"}))
    >>> call.method, call.paths, call.network, call.value("trait.tier"), call.value("header.user-agent")
    ('GET', ('/v1/x',), '192.0.2.7', 'gold', '')
    """

    __slots__ = ("_entry",)

    def __init__(self, principal: Principal, entry: Entry) -> None:
        method = (entry.method or "GET").upper()
        self.principal = principal
        self.method = "GET" if method == "HEAD" else method
        self.paths = path_forms(entry.path or "/")
        self.route = ""
        self.network = _network(entry.ip or "")
        self.lookup = self._told
        self.tags = frozenset()
        self._entry = entry

    def values(self, scope: str) -> tuple[str, ...]:
        """The ids of what was handed out, where things are counted; else the one value there is."""
        if scope.startswith(("path.", "query.", "body.")):
            return tuple(self._entry.resources or ())
        return super().values(scope)

    def _told(self, source: str, name: str) -> str:
        entry = self._entry
        if source == "header" and name.lower() == "user-agent":
            return entry.user_agent or ""
        if source != "trait":
            return ""
        told = entry.traits.get(name) if entry.traits else None
        if told is None:
            told = entry.ja4 if name == "ja4" else entry.user_agent if name == "user_agent" else None
        return told if isinstance(told, str) else ""
