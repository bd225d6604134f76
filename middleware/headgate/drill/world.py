"""A whole world: who lives in it, who attacks, who only looks so; and their requests in the order of time.

Law: a world is settled by its `Drill` alone. Each part draws from a `Random` of its own, named after the part: one
attack more or less changes nothing of what the other attacks do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush, merge
from operator import itemgetter
from random import Random
from typing import Any

from headgate.drill.accounts import Register
from headgate.drill.catalogue import catalogue
from headgate.drill.lookalikes import families, family, ordinary
from headgate.drill.operator import Operator
from headgate.drill.plots import Plot, Setting, operator, plot, scenarios
from headgate.drill.prompting import commons
from headgate.drill.rhythm import DAY
from headgate.drill.work import Request, Requests
from headgate.errors import HeadgateError
from headgate.nearest import suggestion

KINDS = ("llm", "data")
OVERLAPS = ("none", "low", "high")
IDS = ("dense", "mixed", "opaque")

BEGIN = 1_788_739_200.0
"""Monday, 7 September 2026, 00:00 UTC: where every world's log begins."""

DISORDER = 4.0
"""Seconds by which a line may come late, as lines of several servers do; and the share of lines that do."""
LATE = 0.03


@dataclass(frozen=True, slots=True)
class Drill:
    """What to draw.

    | field | meaning |
    | --- | --- |
    | `kind` | `llm` or `data` |
    | `seed` | the same seed, the same world |
    | `days` | length of the log |
    | `keys` | keys that are drawn, attackers and look-alikes among them |
    | `attacks` | scenarios; each has at least one group |
    | `groups` | groups of each scenario |
    | `cover` | share of an attacking key's requests that is ordinary use; None draws it for each group |
    | `overlap` | what the accounts of a group share: `none`, `low`, `high`; None draws it |
    | `size` | keys of each group; None draws it |
    | `share` | share of a catalogue that a group is after; None draws it |
    | `jitter` | seconds by which an operator's work may wait; None draws it |
    | `duplicates` | share of an operator's requests for what it has already; 1 is as chance has it; None draws it |
    | `paraphrase` | share of prompts whose fills are said anew |
    | `per_key` | mean requests of a key a day |
    | `ids` | how a data API numbers its items: `dense`, `mixed`, `opaque` |
    | `look_alikes` | whether there are families of innocent look-alikes |
    | `traits` | whether the log tells accounts' traits, addresses and client software |
    """

    kind: str = "llm"
    seed: int = 1
    days: float = 3.0
    keys: int = 1500
    attacks: tuple[str, ...] = ()
    groups: int = 1
    cover: float | None = None
    overlap: str | None = None
    size: int | None = None
    share: float | None = None
    jitter: float | None = None
    duplicates: float | None = None
    paraphrase: float = 0.1
    per_key: float = 50.0
    ids: str = "mixed"
    look_alikes: bool = True
    traits: bool = True

    def __post_init__(self) -> None:
        """Raise HeadgateError for what cannot be drawn."""
        wrong = (
            (self.kind not in KINDS, f"--kind is one of {', '.join(KINDS)}"),
            (self.overlap not in (None, *OVERLAPS), f"--overlap is one of {', '.join(OVERLAPS)}"),
            (self.ids not in IDS, f"--ids is one of {', '.join(IDS)}"),
            (not 0 < self.days <= 366, "--days is more than 0 and at most 366"),
            (not 2 <= self.keys <= 1_000_000, "--keys is from 2 to 1,000,000"),
            (not 0 < self.per_key <= 100_000, "--rate is more than 0 and at most 100,000"),
            (self.cover is not None and not 0 <= self.cover <= 0.95, "--cover is from 0% to 95%"),
            (not 0 <= self.paraphrase <= 1, "--paraphrase is from 0% to 100%"),
            (self.size is not None and self.size < 2, "--size is 2 at least: one key is no group"),
            (not 1 <= self.groups <= 1000, "--groups is from 1 to 1,000"),
            (self.share is not None and not 0 < self.share <= 0.5, "--share is more than 0% and at most 50%"),
            (self.jitter is not None and not 0 <= self.jitter <= 86_400, "--jitter is from 0 to 86,400 seconds"),
            (self.duplicates is not None and not 0 <= self.duplicates <= 1, "--duplicates is from 0% to 100%"),
        )
        for is_so, words in wrong:
            if is_so:
                raise HeadgateError(words)


@dataclass(slots=True)
class World:
    """Who is who in it; `requests` is the log, once."""

    drill: Drill
    begin: float
    end: float
    orgs: dict[str, str]
    plots: dict[str, Plot]
    members: dict[str, list[str]]
    shared: dict[str, dict[str, list[str]]]
    look_alikes: dict[str, tuple[str, list[str]]]
    requests: Requests = field(repr=False)
    seen: set[str] = field(default_factory=set, repr=False)
    """The keys that the log tells of, once it was written."""


def world(drill: Drill) -> World:
    """Draw a world.

    >>> made = world(Drill(keys=60, days=1, attacks=("round_robin",), size=3))
    >>> len(made.orgs), [len(keys) for keys in made.members.values()]
    (60, [3])
    >>> times = [request.at for request in made.requests]
    >>> made.begin <= min(times) and max(times) < made.end + 1
    True
    """
    begin, end = BEGIN, BEGIN + drill.days * DAY
    stock = catalogue(_random(drill, "catalogue"), max(20_000, 120 * drill.keys), drill.ids)
    common = commons(_random(drill, "commons"), drill.paraphrase)
    setting = Setting(drill.kind, begin, end, drill.per_key, common, stock)
    register = Register(_random(drill, "accounts"), drill.kind, begin, drill.per_key, drill.days)

    operators, shared, plots = _operators(drill, setting)
    attackers = sum(len(one.accounts) for one in operators)
    if attackers > drill.keys:
        few = f"the groups alone have {attackers} keys: --keys {drill.keys} is too few"
        raise HeadgateError(f"{few} (or name fewer attacks, or a --size)")
    streams = [one.requests(_random(drill, one.name)) for one in operators]
    orgs = {account.key: account.org for one in operators for account in one.accounts}
    named: dict[str, tuple[str, list[str]]] = {}
    if drill.look_alikes:
        size = _family_size(drill, attackers)
        for at, name in enumerate(families(drill.kind)):
            if drill.keys - len(orgs) < 2:
                break
            random = _random(drill, f"family {name}")
            own = Register(random, drill.kind, begin, drill.per_key, drill.days)
            made = family(random, name, min(size, drill.keys - len(orgs)), setting, own)
            named[f"h{at + 1:03}"] = (name, [one.account.key for one in made])
            orgs.update({one.account.key: one.account.org for one in made})
            streams += [one.requests(random) for one in made]
    random = _random(drill, "ordinary")
    while len(orgs) < drill.keys:
        many = 1 if random.random() < 0.8 else 2 + int(random.expovariate(0.5))
        for account in register.org(min(many, 15, drill.keys - len(orgs))):
            orgs[account.key] = account.org
            streams.append(ordinary(random, account, setting).requests(Random(random.getrandbits(64))))
    # Names were drawn at random; sorted by them, nothing is left of who was drawn first.
    members = {one.name: sorted(account.key for account in one.accounts) for one in operators}
    return World(
        drill, begin, end, dict(sorted(orgs.items())), plots, members, shared, named, _in_time(drill, streams)
    )


def _operators(
    drill: Drill, setting: Setting
) -> tuple[list[Operator], dict[str, dict[str, list[str]]], dict[str, Plot]]:
    made: list[Operator] = []
    shared: dict[str, dict[str, list[str]]] = {}
    plots: dict[str, Plot] = {}
    for scenario in drill.attacks:
        for again in range(drill.groups):
            name = f"g{len(made) + 1:03}"
            random = _random(drill, f"attack {scenario} {again}")
            drawn = plot(random, name, scenario, _settled(drill))
            one, common = operator(
                random, drawn, setting, Register(random, drill.kind, setting.begin, drill.per_key, drill.days)
            )
            made.append(one)
            shared[name], plots[name] = common, drawn
    return made, shared, plots


def _settled(drill: Drill) -> dict[str, Any]:
    """What the drill settles for every group; the rest is drawn."""
    said = {"keys": drill.size, "cover": drill.cover, "overlap": drill.overlap, "share": drill.share}
    said |= {"jitter": drill.jitter, "duplicates": drill.duplicates}
    return {name: value for name, value in said.items() if value is not None}


def _family_size(drill: Drill, attackers: int) -> int:
    """So that look-alikes are no fewer than attackers, and at least an eighth of all, if there is room for them."""
    count = len(families(drill.kind))
    room = max(0, drill.keys - attackers) // 2
    return max(2, min(room, max(attackers * 5 // 4, drill.keys // 8)) // count + 1)


def _random(drill: Drill, part: str) -> Random:
    return Random(f"{drill.seed} {drill.kind} {part}")


def _in_time(drill: Drill, streams: list[Requests]) -> Iterator[Request]:
    """All streams as one, nearly in the order of time: a few lines come late."""
    random = _random(drill, "lines")
    held: list[tuple[float, int, Request]] = []
    turn = 0
    for request in merge(*streams, key=itemgetter(0)):
        at = request.at
        while held and held[0][0] <= at:
            yield heappop(held)[2]
        if random.random() < LATE:
            turn += 1
            heappush(held, (at + random.random() * DISORDER, turn, request))
        else:
            yield request
    while held:
        yield heappop(held)[2]


def attacks(kind: str, names: Sequence[str]) -> tuple[str, ...]:
    """The scenarios of some names; `all` stands for all that there are on an API of a kind, `none` for none.

    Raises HeadgateError for a name that there is not.

    >>> attacks("llm", ["baton", "round_robin", "baton"]), attacks("data", ["none"])
    (('baton', 'round_robin'), ())
    """
    if kind not in KINDS:
        raise HeadgateError(f"--kind is `llm` or `data`, not `{kind}`")
    there = scenarios(kind)
    found: dict[str, None] = {}
    for name in names:
        if name == "all":
            found.update(dict.fromkeys(there))
        elif name != "none":
            if name not in there:
                known = ", ".join([*there, "all", "none"])
                raise HeadgateError(
                    f"there is no attack `{name}` on {kind}{suggestion(name, there)} (there are: {known})"
                )
            found[name] = None
    return tuple(found)
