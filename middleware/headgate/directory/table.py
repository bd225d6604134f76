"""What a file of keys says: the orgs, the keys, and whose each digest is.

Law: one file, one meaning. A field that nobody knows, an org that is not declared, a key or a digest that stands
twice are faults, and all of them are told at once, each as `file:line: what`. The secret is not in it and cannot be
got from it: what stands there is its keyed digest.

    headgate-keys: v1
    orgs:
      acme: {plan: build, anchor: 2026-01-31, accepted: "2026-01", traits: {payment: pm_1}, claims: {}, tags: []}
    keys:
      - {key: k_3f9c21d07a55, org: acme, digest: 00112233445566778899aabbccddeeff, created: 2026-11-24}

A key has its org's plan unless it has its own, and its org's traits, claims and tags beside its own. One with
`revoked` is nobody's, whatever the date.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from headgate.directory import record, sheet
from headgate.directory.record import Unfit
from headgate.directory.sheet import Fault
from headgate.document import Branch, Node, Row, Scalar
from headgate.nearest import suggestion
from headgate.quota.facts import Principal

T = TypeVar("T")

VERSION = "v1"
DIGEST_BYTES = 16
"""Bytes that are compared of a digest: HMAC-SHA256 cut to 128 bits; one that is written whole is cut alike."""

OF_ORG = ("plan", "anchor", "accepted", "traits", "claims", "tags")
OF_KEY = ("key", "org", "digest", "created", "revoked", "plan", "traits", "claims", "tags")


@dataclass(frozen=True, slots=True)
class Org:
    """One customer as the file has it."""

    name: str
    plan: str = ""
    anchor: int | None = None
    accepted: str = ""
    traits: Mapping[str, str] = field(default_factory=dict)
    claims: Mapping[str, str] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Entry:
    """One key as the file has it: who it makes a caller, and `line` (from 1), where it stands."""

    principal: Principal
    digest: bytes
    created: str
    revoked: str
    line: int


@dataclass(frozen=True, slots=True)
class Table:
    """All that a file of keys says."""

    orgs: Mapping[str, Org]
    entries: tuple[Entry, ...]

    def by_digest(self) -> dict[bytes, Principal]:
        """Whose each digest is; a revoked key's is nobody's."""
        return {entry.digest: entry.principal for entry in self.entries if not entry.revoked}


def parse(text: str, name: str = "keys.yaml") -> Table:
    """The table that a text says. Raises IdentityError with every fault; `name` is what the file is called there.

    >>> head = "headgate-keys: v1\\norgs: {acme: {plan: build}}\\n"
    >>> table = parse(head + "keys:\\n- {key: k_1, org: acme, digest: " + 32 * "0" + "}")
    >>> table.entries[0].principal.plan, len(table.by_digest())
    ('build', 1)
    >>> parse(head + "keys: [{key: k_1, org: acne, digest: ff}]")
    Traceback (most recent call last):
    ...
    headgate.errors.IdentityError: keys.yaml:3: `digest` is not 32 or 64 hex digits
    keys.yaml:3: `org` is not declared under `orgs`; did you mean `acme`?
    """
    return _Reading(sheet.read(text, name), name).table()


class _Reading:
    """One pass over the document; goes on after a fault, so that the next one is found too."""

    def __init__(self, root: Node, name: str) -> None:
        self.root = root
        self.name = name
        self.faults: list[Fault] = []

    def table(self) -> Table:
        top = self._map(self.root, "the file", ("headgate-keys", "orgs", "keys"))
        version = top.get("headgate-keys")
        if not isinstance(version, Scalar) or version.text != VERSION:
            self._fault(version or self.root, f"a file of keys begins with `headgate-keys: {VERSION}`")
        orgs = self._orgs(top.get("orgs"))
        entries = self._keys(top.get("keys"), orgs)
        if self.faults:
            raise sheet.refusal(self.faults, self.name)
        return Table(orgs, tuple(entries))

    def _orgs(self, node: Node | None) -> dict[str, Org]:
        orgs: dict[str, Org] = {}
        if node is None or _is_empty(node):
            return orgs
        for name, (at, inner) in self._entries(node, "`orgs`").items():
            self._checked(at, "org", record.named, name)
            fields = {} if _is_empty(inner) else self._map(inner, f"org `{name}`", OF_ORG)
            orgs[name] = Org(
                name,
                plan=self._text(fields, "plan", record.named, ""),
                anchor=self._text(fields, "anchor", record.instant, None),
                accepted=self._text(fields, "accepted", record.named, ""),
                traits=self._texts(fields, "traits"),
                claims=self._texts(fields, "claims"),
                tags=self._names(fields, "tags"),
            )
        return orgs

    def _keys(self, node: Node | None, orgs: Mapping[str, Org]) -> list[Entry]:
        if node is None or _is_empty(node):
            return []
        if not isinstance(node, Row):
            self._fault(node, "`keys` is a list: `- {key: …, org: …, digest: …}`")
            return []
        entries: list[Entry] = []
        ids: dict[str, int] = {}
        digests: dict[bytes, int] = {}
        for item in node.items:
            entry = self._entry(item, orgs)
            if entry is None:
                continue
            for what, first in (("key", ids.get(entry.principal.key)), ("digest", digests.get(entry.digest))):
                if first is not None:
                    self._fault(item, f"`{what}` is also that of the key in line {first}")
            ids[entry.principal.key] = digests[entry.digest] = entry.line
            entries.append(entry)
        return entries

    def _entry(self, item: Node, orgs: Mapping[str, Org]) -> Entry | None:
        """One key, or None where a fault was found in what makes it one."""
        before = len(self.faults)
        fields = self._map(item, "a key", OF_KEY)
        for name in ("key", "org", "digest"):
            if name not in fields:
                self._fault(item, f"a key has no `{name}`")
        key = self._text(fields, "key", record.key_id, "")
        digest = self._text(fields, "digest", _digest, b"")
        name = self._text(fields, "org", lambda text: self._declared(text, orgs), "")
        org = orgs.get(name) or Org(name)
        principal = Principal(
            key,
            name,
            plan=self._text(fields, "plan", record.named, org.plan),
            anchor=org.anchor,
            traits=_beside(org.traits, self._texts(fields, "traits")),
            claims=_beside(org.claims, self._texts(fields, "claims")),
            tags=org.tags | tags if (tags := self._names(fields, "tags")) else org.tags,
            accepted=org.accepted,
        )
        created, revoked = self._text(fields, "created", _dated, ""), self._text(fields, "revoked", _dated, "")
        return Entry(principal, digest, created, revoked, item.line) if len(self.faults) == before else None

    def _map(self, node: Node, what: str, known: tuple[str, ...]) -> dict[str, Node]:
        fields = self._entries(node, what)
        for name, (at, _) in fields.items():
            if name not in known:
                self._fault(at, f"{what} has no `{name}`{self._meant(name, known)}")
        return {name: inner for name, (_, inner) in fields.items()}

    def _entries(self, node: Node, what: str) -> dict[str, tuple[Scalar, Node]]:
        if isinstance(node, Branch):
            return node.entries
        self._fault(node, f"{what} is {_form(node)} and should be a map, `name: value`")
        return {}

    def _text(self, fields: Mapping[str, Node], name: str, check: Callable[[str], T], missing: T) -> T:
        node = fields.get(name)
        if node is None:
            return missing
        if not isinstance(node, Scalar) or _is_empty(node):
            empty = isinstance(node, Scalar)
            self._fault(node, f"`{name}` has no value" if empty else f"`{name}` is {_form(node)}, not a text")
            return missing
        found = self._checked(node, name, check, node.text)
        return missing if found is None else found

    def _texts(self, fields: Mapping[str, Node], name: str) -> dict[str, str]:
        node = fields.get(name)
        if node is None or _is_empty(node):
            return {}
        found: dict[str, str] = {}
        for inner, (at, value) in self._entries(node, f"`{name}`").items():
            self._checked(at, name, record.named, inner)
            found[inner] = self._text({inner: value}, inner, record.value, "")
        return found

    def _names(self, fields: Mapping[str, Node], name: str) -> frozenset[str]:
        node = fields.get(name)
        if node is None or _is_empty(node):
            return frozenset()
        if not isinstance(node, Row):
            self._fault(node, f"`{name}` is a list, `[a, b]`")
            return frozenset()
        return frozenset(self._text({name: item}, name, record.named, "") for item in node.items)

    def _checked(self, node: Node, name: str, check: Callable[[str], T], text: str) -> T | None:
        try:
            return check(text)
        except Unfit as fault:
            self._fault(node, f"`{name}` {fault}")
            return None

    def _declared(self, name: str, orgs: Mapping[str, Org]) -> str:
        if name not in orgs:
            raise Unfit(f"is not declared under `orgs`{self._meant(name, orgs)}")
        return name

    def _meant(self, name: str, known: Iterable[str]) -> str:
        # Only for what is told: where `orgs` is lost, 50,000 keys would each look for theirs among thousands.
        return suggestion(name, known) if len(self.faults) < sheet.FAULTS_SHOWN else ""

    def _fault(self, node: Node, what: str) -> None:
        self.faults.append((node.line, what))


def _is_empty(node: Node) -> bool:
    """Whether nothing was written: `orgs:` and no more."""
    return isinstance(node, Scalar) and node.plain and node.text in {"", "~", "null"}


def _form(node: Node) -> str:
    return "a map" if isinstance(node, Branch) else "a list" if isinstance(node, Row) else "a text"


def _beside(whole: Mapping[str, str], own: Mapping[str, str]) -> Mapping[str, str]:
    # Most keys have nothing of their own: they share the org's, which nobody changes.
    return {**whole, **own} if own else whole


def _digest(text: str) -> bytes:
    if not re.fullmatch(r"(?:[0-9a-fA-F]{32}){1,2}", text):
        raise Unfit("is not 32 or 64 hex digits")
    return bytes.fromhex(text)[:DIGEST_BYTES]


def _dated(text: str) -> str:
    record.instant(text)
    return text
