"""The attacks: for each, how many keys, what they take, how it is spread, what they share and what hides it.

Law: what an attack is called, and what is drawn for it, is here and nowhere else. Beside what its scenario says, a
group's numbers are drawn without regard to it: length, start, plan, volume, cover, jitter and duplicates are spread
alike over all of them, so that none of these tells an attack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from headgate.drill import hands
from headgate.drill.accounts import EVERYWHERE, Account, Addresses, Register, addresses, client, rate
from headgate.drill.catalogue import PAGES, Catalogue
from headgate.drill.dealing import Anything, Customers, Deal, Modulo, Queue, Ranges
from headgate.drill.jobs import Bank, Demand, Harvest, Job
from headgate.drill.operator import Operator
from headgate.drill.prompting import Commons, worker
from headgate.drill.reading import reader
from headgate.drill.rhythm import DAY, arrivals, heavy, stay, tempo
from headgate.drill.words import firm
from headgate.drill.work import Worker

SCENARIOS: dict[str, str] = {
    "round_robin": "key after key from one queue",
    "baton": "one key until it is refused or has had its share, then the next",
    "quota_riding": "each key close under its plan's daily limit",
    "modulo_partition": "the list dealt out like cards",
    "contiguous_partition": "each key its own range of the list",
    "shared_queue": "any key takes the next of one queue",
    "topic_partition": "each key its own topic, or collection",
    "time_sliced": "the keys take turns by the clock",
    "residential_proxy": "a fresh home address for each request",
    "hydra": "much of what the keys do is paying customers' ordinary use",
    "slow_ramp": "more keys and more work over time",
    "reseller": "one pool of customers' demand over many keys",
    "signup_farm": "accounts made together, cards shared",
    "template_bank": "a bank of templates and questions, drawn at random through many keys",
    "adaptive": "blocked keys are replaced, prompts re-phrased, things fetched twice",
    "low_rate_swarm": "many keys with a few requests each",
}
"""Every attack, and what it is."""

_LLM_ONLY = frozenset({"template_bank"})
BY_CHANCE = 1.0
"""Duplicates of an operator who draws what to take instead of dealing it out: as many as chance has it."""
_PAIR = 2
_TOKENS, _RIDING_PAGE = 900, 25
"""Tokens of a prompt and its answer, about, and a rider's page: what a plan's tokens and records are in requests."""
_LEAST = 30
"""Requests of a key on average, over the log, below which a group would be no attack but noise; a swarm apart."""
SIZES = (2, 3, 4, 5, 5, 6, 8, 10, 12, 16, 20)
"""Keys of a group, where nobody asked for a number; a swarm has ten times as many."""


def scenarios(kind: str) -> tuple[str, ...]:
    """The attacks that there are on an API of a kind.

    >>> len(scenarios("llm")) - len(scenarios("data"))
    1
    """
    return tuple(name for name in SCENARIOS if kind == "llm" or name not in _LLM_ONLY)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a world gives to all who act in it."""

    kind: str
    begin: float
    end: float
    per_key: float
    commons: Commons
    stock: Catalogue
    due: float = 0.0
    """When a class's exercises or a weekend's work are due."""

    def ordinary(self, random: Random, account: Account) -> Worker:
        """What an ordinary customer does here."""
        if self.kind == "llm":
            return worker(random, account, self.commons)
        return reader(random, self.stock, self.begin)


@dataclass(frozen=True, slots=True)
class Plot:
    """One group, as meta.json tells of it."""

    name: str
    scenario: str
    overlap: str
    cover: float
    jitter: float
    duplicates: float
    share: float
    keys: int

    @property
    def difficulty(self) -> str:
        """How hard it should be to find: nothing shared and much cover is hard."""
        hidden = {"none": 2, "low": 1, "high": 0}[self.overlap] + (self.cover >= 0.3) + (self.cover >= 0.6)
        return ("easy", "medium", "medium", "hard", "hard")[hidden]


def plot(random: Random, name: str, scenario: str, settled: Mapping[str, Any]) -> Plot:
    """Draw what nobody has settled. What is drawn does not depend on what is settled."""
    keys = random.choice(SIZES)
    if scenario == "low_rate_swarm":
        keys = 20 + 2 * keys
    elif scenario in ("slow_ramp", "adaptive"):
        keys = max(4, keys)  # fewer could not grow, nor be replaced
    cover = random.choice((0.0, 0.0, 0.3, 0.3, 0.7))
    if scenario == "quota_riding":
        cover = min(cover, 0.3)  # a plan that ordinary use fills leaves nothing to ride on
    drawn = Plot(
        name,
        scenario,
        random.choice(("none", "low", "high")),
        cover if scenario != "hydra" else random.choice((0.6, 0.7, 0.8)),
        random.choice((0.0, 0.0, 30.0, 3600.0)),
        random.choice((0.0, 0.0, 0.1, BY_CHANCE)) if scenario != "adaptive" else 0.15,
        random.choice((0.001, 0.01, 0.1)),
        keys,
    )
    return replace(drawn, **settled)


def operator(
    random: Random, drawn: Plot, setting: Setting, register: Register
) -> tuple[Operator, dict[str, list[str]]]:
    """An operator with its accounts, and which of their traits which keys share."""
    accounts = _accounts(random, drawn, register)
    shared = _share(random, drawn, accounts, register)
    keys = len(accounts)
    start, end = stay(random, setting.begin, setting.end)
    active = (end - start) / DAY
    a_day = _volume(random, drawn, setting, accounts, active)
    job = _job(random, drawn, setting, accounts, a_day * active)
    if isinstance(job, Harvest):  # a list that ends is not fetched in a hurry: hurry would tell
        a_day = min(a_day, job.pieces / active * random.uniform(1.0, 1.5))
    cover = []
    if drawn.cover:
        each = a_day / keys * drawn.cover / (1 - drawn.cover)
        for account in accounts:
            own = Random(random.getrandbits(64))
            times = arrivals(own, tempo(own, each), *stay(own, setting.begin, setting.end))
            cover.append((times, setting.ordinary(own, account)))
    own = Random(random.getrandbits(64))
    made = Operator(
        drawn.name,
        accounts,
        job,
        _hand(random, drawn, accounts, start, end, min(a_day * active, job.pieces)),
        _deal(random, drawn, job, keys),
        arrivals(own, heavy(own, a_day), start, end),
        setting.end,
        cover,
        drawn.jitter if drawn.scenario not in ("baton", "time_sliced") else 0.0,
        0.0 if drawn.duplicates == BY_CHANCE else drawn.duplicates,
    )
    if drawn.scenario == "reseller" and random.random() < 0.5:
        made.shown = [addresses(random) for _ in range(job.pieces)]
    return made, shared


def _volume(random: Random, drawn: Plot, setting: Setting, accounts: list[Account], active: float) -> float:
    """Requests a day of the whole group: like so many ordinary clients, heavier ones at times."""
    if drawn.scenario == "low_rate_swarm":
        return len(accounts) * (8 + 32 * random.random()) / active
    if drawn.scenario == "quota_riding":
        unit = _TOKENS if setting.kind == "llm" else _RIDING_PAGE
        return sum(account.plan.a_day for account in accounts) / unit * (1.2 - drawn.cover / 2)
    drawn_rate = sum(rate(random, setting.per_key, account.plan) for account in accounts) * (0.7 + random.random())
    return max(drawn_rate, _LEAST * len(accounts) / active)


def _accounts(random: Random, drawn: Plot, register: Register) -> list[Account]:
    accounts: list[Account] = []
    # One plan for all: the stream is spread evenly, and a key of a lesser plan would be refused all day.
    plan = 0 if drawn.scenario == "quota_riding" else random.choice((0, 0, 0, 1, 1))
    while len(accounts) < drawn.keys:
        many = min(random.choice((1, 1, 1, 1, 2, 3)), drawn.keys - len(accounts))
        if drawn.keys - len(accounts) - many == 0 and not accounts:
            many = 1  # an operator of one organisation would be no group
        accounts += register.org(many, plan)
    if drawn.scenario == "residential_proxy":
        for account in accounts:
            account.addresses = EVERYWHERE
    return accounts


def _share(random: Random, drawn: Plot, accounts: list[Account], register: Register) -> dict[str, list[str]]:
    """Give some of the accounts something in common, as the overlap says, and tell which keys have what."""
    low, high = {"none": (0, 0), "low": (1, 2), "high": (3, 4)}[drawn.overlap]
    what = random.sample(
        ("payment", "device", "signup_ip", "client", "email_domain", "address"), random.randint(low, high)
    )
    if drawn.scenario == "signup_farm":
        what = list(dict.fromkeys([*what, "signup_ts", "payment"]))
    if drawn.scenario == "residential_proxy" and "address" in what:
        what.remove("address")
    shared: dict[str, list[str]] = {}
    for name in what:
        part = (
            random.uniform(0.6, 1.0) if drawn.overlap == "high" or name == "signup_ts" else random.uniform(0.3, 0.6)
        )
        among = random.sample(accounts, max(_PAIR, round(part * len(accounts))))
        if len({account.org for account in among}) > 1:
            give(random, name, among, register)
            shared[name] = [account.key for account in among]
    return shared


def give(random: Random, name: str, among: list[Account], register: Register) -> None:
    """Give accounts one trait in common."""
    first = among[0]
    base = addresses(random)
    network = Addresses(base.base & ~255, 256, 3600) if not base.wide else base
    signup = int(first.traits["signup_ts"])
    software = client(random)
    value = register.traits(base).get(name) or register.name("", 48)
    if name == "email_domain":
        value = f"{firm(random).replace(' ', '').lower()}{random.randrange(90)}.com"
    for account in among:
        if name == "client":
            account.client = software
        elif name == "address":
            account.addresses = network
        elif name == "signup_ts":
            signup += 20 + int(random.expovariate(1 / 120))
            account.traits["signup_ts"] = str(signup)
        elif name == "signup_ip":
            account.traits["signup_ip"] = network.at(random, random.random() * 1e6)
        else:
            account.traits[name] = value


def _job(random: Random, drawn: Plot, setting: Setting, accounts: list[Account], requests: float) -> Job:
    keys = len(accounts)
    if drawn.scenario == "reseller":
        customers = [
            setting.ordinary(Random(random.getrandbits(64)), accounts[at % keys])
            for at in range(random.randint(2, 5) * max(4, keys))
        ]
        return Demand(customers)
    by_key = drawn.scenario in ("topic_partition",)
    if setting.kind == "llm":
        templates = random.choice((1, 3, 8, 20, 60))
        rows = max(keys, int(requests * (1.2 if drawn.scenario != "template_bank" else 0.5)) // templates + 1)
        topics = keys if by_key else random.choice((1, 2, 6, 15))
        return Bank(random, templates, rows, topics, setting.commons.paraphrase)
    page = random.choice((1, *PAGES)) if drawn.scenario != "quota_riding" else _RIDING_PAGE
    least = len(accounts) * (_LEAST if drawn.scenario != "low_rate_swarm" else 8) * page
    if drawn.scenario == "quota_riding":
        least = int(requests) * page
    share = min(0.5, max(drawn.share, least / setting.stock.items))
    parts = min(keys, len(setting.stock.collections)) if by_key else random.choice((1, 2, 4))
    mixed = not by_key and drawn.scenario != "contiguous_partition" and random.random() < 0.3
    return Harvest(random, setting.stock, share, page, parts, by_key, mixed)


def _deal(random: Random, drawn: Plot, job: Job, keys: int) -> Deal:
    scenario = drawn.scenario
    if scenario == "reseller":
        return Customers(random, job.pieces, keys, random.choice((3600, 6 * 3600, 3 * DAY)))
    if scenario == "template_bank":
        return Anything(random, job.pieces)
    if scenario in ("contiguous_partition", "topic_partition"):
        return Ranges(random, job.pieces, keys)
    if scenario == "modulo_partition":
        return Modulo(job.pieces, keys)
    if drawn.duplicates == BY_CHANCE:
        return Anything(random, job.pieces)
    return Queue(job.pieces)


def _hand(
    random: Random, drawn: Plot, accounts: list[Account], start: float, end: float, requests: float
) -> hands.Hand:
    keys = len(accounts)
    scenario = drawn.scenario
    if scenario in ("round_robin", "signup_farm"):
        return hands.Rounds(random, keys, random.choice((1, 1, 3, 15)))
    if scenario == "baton":
        # Every key has its turn more than once, unless each runs into its limit.
        turn = max(5, min(random.choice((20, 60, 200)), int(requests / keys / 2)))
        return hands.Baton(random, keys, turn)
    if scenario == "quota_riding":
        return hands.Riding(random, accounts)
    if scenario == "time_sliced":
        return hands.Slices(random, keys, random.choice((900, 3600, 4 * 3600)))
    if scenario == "slow_ramp":
        return hands.Ramp(random, keys, start, end)
    if scenario == "adaptive":
        # A key is found out before the list is done, or the last keys would never be born.
        return hands.Reborn(random, keys, max(5, min(random.choice((25, 60, 120)), int(requests / keys * 0.8))))
    return hands.AtRandom(random, keys)
