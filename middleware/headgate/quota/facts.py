"""What is known of a request before it is served: who makes it, and what it asks.

Law: facts are gathered once, at the edge, and read by everything behind. Nothing here decides. A raw secret is
never among them; an address appears only as the network that is charged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

NOTHING: Mapping[str, str] = {}


class Group(NamedTuple):
    """Orgs that are judged to be one operator; an org that is linked to nobody is a group of one.

    A name, the orgs, the plans that they are on, and the billing anchor (microseconds) that its windows have."""

    id: str
    orgs: frozenset[str]
    plans: frozenset[str] = frozenset()
    anchor: int | None = None

    @property
    def counted(self) -> Group:
        """The group by the name that its balances lie under, which is made of its orgs: whoever joins or leaves
        makes another group of it, and nothing has to be taken out of what was counted together.

        >>> one, other = (Group(name, frozenset(orgs)) for name, orgs in (("a", ["a", "b"]), ("b", ["b", "a"])))
        >>> one.counted.id == other.counted.id, one.counted.id == Group("a", frozenset({"ab", ""})).counted.id
        (True, False)
        """
        return self._replace(id=_members(self.orgs))


@lru_cache(maxsize=4_096)
def _members(orgs: frozenset[str]) -> str:
    """A name of 32 hex digits for a set of orgs; each is led by its length. Kept: many share a group."""
    told = blake2b(digest_size=16)
    for org in sorted(orgs):
        name = org.encode("utf-8", "surrogatepass")
        told.update(b"%d:%b" % (len(name), name))
    return told.hexdigest()


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request.

    `key` is the credential's public id, "" for an anonymous caller; `org` the customer it belongs to; `plan` one
    of the policy's plans, "" where none are declared. `anchor`: the instant (microseconds) at which the org's
    billing period began, if known. `traits` are what linking may see, `claims` what the directory returned
    besides, `tags` what limits may ask for with `when: {tag: …}`, `accepted` the version of the terms that the org
    has agreed to, "" for none. An anonymous caller is charged by its network.
    """

    key: str
    org: str
    plan: str = ""
    anchor: int | None = None
    traits: Mapping[str, str] = field(default_factory=dict)
    claims: Mapping[str, str] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    accepted: str = ""

    @property
    def anonymous(self) -> bool:
        """Whether nobody vouches for this caller."""
        return not self.key


Lookup = Callable[[str, str], str]
"""Reads one value of the request by (source, name), as ("header", "x-api-key"); "" where there is none."""


def _no_lookup(source: str, name: str) -> str:
    return ""


@dataclass(slots=True)
class Call:
    """One request, as limits see it. Treated as immutable; not frozen, for a frozen one costs a microsecond.

    `paths`: every form of the path under which an app might route it, mostly one (see `identify.path_forms`): a
    limit applies if any matches, an exemption only if all do. `route`: the template that the framework
    matched, where it tells one before serving, else "". `network`: the address that is charged, canonical;
    an IPv6 one is a /64. `method` is upper case, HEAD is GET.
    """

    principal: Principal
    method: str = "GET"
    paths: tuple[str, ...] = ("/",)
    route: str = ""
    network: str = ""
    lookup: Lookup = _no_lookup
    tags: frozenset[str] = frozenset()

    def value(self, scope: str) -> str:
        """The value of a source, written as the policy writes it: `header.x-model`, `trait.ja4`, `claim.project`.

        >>> Call(Principal("k1", "acme", claims={"project": "p7"})).value("claim.project")
        'p7'
        """
        source, _, name = scope.partition(".")
        if source == "claim":
            return self.principal.claims.get(name, "")
        if source == "trait":
            return self.principal.traits.get(name, "") or self.lookup(source, name)
        return self.lookup(source, name)

    def values(self, scope: str) -> tuple[str, ...]:
        """All that a source names; several where it is a list, which only a body can be.

        >>> Call(Principal("k1", "acme", claims={"project": "p7"})).values("claim.project")
        ('p7',)
        """
        value = self.value(scope)
        return (value,) if value else ()
