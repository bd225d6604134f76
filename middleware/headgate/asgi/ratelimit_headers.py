"""`RateLimit-Policy` and `RateLimit`, as draft-ietf-httpapi-ratelimit-headers-11 writes them. The only place that
knows the draft.

Law: what is told is never laxer than what is enforced, nor than what the app behind has told already. Limits in
shadow are not told. A partition key (`pk`) tells a caller's own quotas apart and nothing about anybody else: two orgs
that share a quota read different ones.

Both fields are lists of strings with parameters (RFC 9651): `"rpm";q=60;w=60;pk=:…:` says 60 requests in 60 seconds,
`"rpm";r=12;t=34;pk=:…:` that 12 are left now and all of them in 34 seconds.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import NamedTuple

from headgate.quota.balance import Verb
from headgate.quota.command import Demand, Place
from headgate.quota.decision import Decision, reading
from headgate.quota.gcra import Rate
from headgate.quota.identify import digest
from headgate.quota.match import Limit
from headgate.quota.window import Max, Quota, Rolling, Total

Field = tuple[bytes, bytes]

POLICY, CURRENT = b"ratelimit-policy", b"ratelimit"

UNITS = {"requests": "", "bytes_in": "content-bytes", "bytes_out": "content-bytes"}
"""The draft's words for our meters; "" is its default, `requests`. Other meters go by their own names."""

LARGEST = 10**15 - 1
"""The largest integer of a structured field (RFC 9651, 3.3.1)."""

SECOND = 1_000_000

KEPT = 20_000
"""Items that are kept written; about 300 bytes each."""

KEPT_LINES = 4_096
"""Whole fields that are kept written; about 1 kB each. What depends on the request comes and goes here."""


class Item(NamedTuple):
    """One limit for one subject, written: its entry in the policy, and the parts of its present state.

    `most`: the largest amount that is told as left. `timed`: whether what is used counts as unused again some time.
    `whole`: what a balance has as used when nothing is left, and `scale`: how much of that is one unit.
    """

    verb: Verb
    policy: bytes
    name: bytes
    key: bytes
    most: int
    timed: bool
    whole: int
    scale: int


class Line(NamedTuple):
    """What a choice of demands is told as: the demands themselves, the policy's field, and each item that is told,
    with its place in the demands."""

    demands: tuple[Demand, ...]
    policy: Field
    items: tuple[tuple[int, Item], ...]
    windowed: tuple[tuple[int, Item], ...]


class RateLimitHeaders:
    """Writes the two fields of one gate's decisions. What does not change from request to request is written once.

    `pepper` keys the partition keys.
    """

    __slots__ = ("_items", "_lines", "_pepper")

    def __init__(self, pepper: bytes) -> None:
        self._pepper = pepper
        self._items: dict[tuple[Place, str], Item] = {}
        self._lines: dict[int, Line] = {}

    def fields(self, decision: Decision, wait: int = 0) -> list[Field]:
        """The fields for a decision; none where no enforced limit was asked, or where the store was not heard.

        Of an allowed request the scarcest limit is told, places at a time apart: the one that it takes itself is free
        again when the client reads that. Of a refused one all that refused, each with `wait`
        seconds, the same as `Retry-After` says.
        """
        demands = decision.demands
        if not decision.balances or decision.degraded:
            return []
        line = self._lines.get(id(demands))
        if line is None or line[0] is not demands:
            line = self._written(decision)
        _, policy, items, windowed = line
        if not items:
            return []
        if decision.refusals:
            return [policy, (CURRENT, _refused(decision, items, wait))]
        return [policy, (CURRENT, _scarcest(decision, windowed))] if windowed else [policy]

    def _written(self, decision: Decision) -> Line:
        pairs = enumerate(zip(decision.demands, decision.limits, strict=True))
        items = tuple([(at, self._item(d, limit, decision)) for at, (d, limit) in pairs if not d.shadow])
        if len(self._lines) >= KEPT_LINES:
            self._lines.clear()
        # The demands are kept with it: an id is free for another tuple only once they are dropped.
        windowed = tuple([(at, item) for at, item in items if not isinstance(item.verb, Max)])
        line = Line(decision.demands, (POLICY, b", ".join([item.policy for _, item in items])), items, windowed)
        self._lines[id(decision.demands)] = line
        return line

    def _item(self, demand: Demand, limit: Limit, decision: Decision) -> Item:
        org = decision.principal.org
        known = self._items.get((demand.place, org))
        if known is not None and known.verb is demand.verb:
            return known
        told = digest(self._pepper, b"partition", org.encode("utf-8", "surrogateescape"), demand.place[0])[:9]
        key = b";pk=:" + b64encode(told) + b":"
        name = _string(limit.id)
        quota, window = _window(demand.verb, decision.now)
        policy = b"%b;q=%d" % (name, quota)
        if window:
            policy += b";w=%d" % window
        meter, concurrent = limit.meter.name, isinstance(demand.verb, Max)
        unit = "concurrent-requests" if concurrent else UNITS.get(meter, meter)
        if unit:
            policy += b";qu=" + _string(unit)
        if len(self._items) >= KEPT:
            self._items.clear()
        timed = not concurrent and not isinstance(demand.verb, Total)
        scale = demand.verb.scale if isinstance(demand.verb, Rate) else 1
        whole = max(1, demand.verb.capacity * scale)
        item = self._items[demand.place, org] = Item(demand.verb, policy + key, name, key, quota, timed, whole, scale)
        return item


def _string(text: str) -> bytes:
    """A string as structured fields write it."""
    return b'"' + text.replace("\\", "\\\\").replace('"', '\\"').encode("ascii", "replace") + b'"'


def _scarcest(decision: Decision, items: tuple[tuple[int, Item], ...]) -> bytes:
    """The limit of which the largest part is used. After a grant, balances stand at the decision's instant."""
    balances, largest = decision.balances, -1.0
    scarce, balance = items[0][1], None
    for at, item in items:
        found = balances[at]
        if found is not None:
            holds = found[6]
            part = (found[1] if holds is None else found[1] + holds[0] * item[7]) / item[6]
            if part > largest:
                largest, scarce, balance = part, item, found
    _, _, name, key, most, timed, whole, scale = scarce
    if balance is None:
        return b"%b;r=%d%b" % (name, most, key)
    used, resets, holds = balance[1], balance[3], balance[6]
    left = (whole - used) // scale - (holds[0] if holds is not None else 0)
    left = 0 if left < 0 else most if left > most else left
    if timed and resets > decision.now:
        return b"%b;r=%d;t=%d%b" % (name, left, -((decision.now - resets) // SECOND), key)
    return b"%b;r=%d%b" % (name, left, key)


def _refused(decision: Decision, items: tuple[tuple[int, Item], ...], wait: int) -> bytes:
    named = {refusal.limit for refusal in decision.refusals}
    told = []
    for at, item in items:
        demand = decision.demands[at]
        if demand.place[1] in named:
            left = min(reading(demand, decision.balances[at], decision.now).left, item.most)
            told.append(b"%b;r=%d%b%b" % (item.name, left, b";t=%d" % wait if wait else b"", item.key))
    return b", ".join(told)


def _window(verb: Verb, now: int) -> tuple[int, int]:
    """The quota and its window in seconds, 0 where it has none or none of whole seconds."""
    length = 0
    if isinstance(verb, Rate):
        # Not the capacity: a client that reads 70 a minute would ask for them in every minute.
        quota, length = verb.amount, verb.period
    else:
        quota = verb.capacity
        if isinstance(verb, Rolling):
            length = verb.length
        elif isinstance(verb, Quota):
            start, end = verb.window(now)
            length = end - start
    return min(quota, LARGEST), length // SECOND if length % SECOND == 0 else 0


ITEM = re.compile(rb'\s*("(?:[^"\\]|\\.)*"|[^",;\s]+)((?:"(?:[^"\\]|\\.)*"|[^",])*)')
LEFT = re.compile(rb";\s*r=(\d{1,15})\b")


def merged(headers: list[Field], ours: list[Field]) -> list[Field]:
    """The response's headers with ours, where the app behind has told limits of its own: both are told, and of two
    under one name the stricter.

    >>> merged([(b"ratelimit", b'"rpm";r=3, "own";r=9')], [(b"ratelimit", b'"rpm";r=5')])
    [(b'ratelimit', b'"rpm";r=3, "own";r=9')]
    """
    kept = [(name, value) for name, value in headers if name.lower() not in {POLICY, CURRENT}]
    theirs = {name: [value for header, value in headers if header.lower() == name] for name in (POLICY, CURRENT)}
    mine = {name: _items(value) for name, value in ours}
    behind = {name: _items(b", ".join(values)) for name, values in theirs.items() if values}
    for name, told in list(mine.get(CURRENT, {}).items()):
        own = behind.get(CURRENT, {}).get(name)
        looser = mine if own is not None and _left(own) <= _left(told) else behind
        for field in (POLICY, CURRENT):
            looser.get(field, {}).pop(name, None)
    for field in (POLICY, CURRENT):
        items = [*behind.get(field, {}).values(), *(mine.get(field, {}).values())]
        if items:
            kept.append((field, b", ".join(items)))
    return kept


def _items(value: bytes) -> dict[bytes, bytes]:
    return {match[1]: match[0].strip() for match in ITEM.finditer(value)}


def _left(item: bytes) -> int:
    """What an item says is left; nothing, if it says nothing that can be read."""
    found = LEFT.search(item)
    return int(found[1]) if found else 0
