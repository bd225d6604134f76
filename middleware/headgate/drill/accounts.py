"""Who asks: organisations, their keys, what is known of them, and where they come from on the network.

Law: whatever two accounts have in common, they were given in common: names, cards, devices and addresses of their own
are drawn so wide that nobody shares them by chance, and what many share in truth (free mail, common software,
carriers) is drawn from few.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt
from random import Random
from typing import NamedTuple

from headgate.drill import facts
from headgate.drill.rhythm import DAY, Tempo, tempo
from headgate.drill.words import FAMILIES, firm, listed


class Plan(NamedTuple):
    """What a key may use."""

    name: str
    a_minute: int
    """Requests a minute."""
    a_day: int
    """Tokens a day, or records."""
    fits: int
    """Requests a day that this is enough for, about."""
    weight: float
    """How much more its customers ask than the mean does."""


PLANS: dict[str, tuple[Plan, ...]] = {
    "llm": (
        Plan("free", 60, 150_000, 136, 0.6),
        Plan("build", 300, 1_500_000, 1_360, 1.1),
        Plan("scale", 3_000, 30_000_000, 27_000, 2.5),
    ),
    "data": (
        Plan("public", 60, 2_000, 136, 0.6),
        Plan("member", 300, 20_000, 1_360, 1.1),
        Plan("bulk", 3_000, 400_000, 27_000, 2.5),
    ),
}
"""The plans of an API of a kind, under the names that the ready-made policies have for them."""

_SOLD = (45, 45, 10)
"""Of a hundred organisations, those on each plan."""

_FREE_MAIL = (
    ("gmail.com",) * 10
    + ("outlook.com",) * 4
    + ("proton.me", "yahoo.com", "qq.com", "web.de", "163.com", "icloud.com")
)
_LIBRARIES = listed(
    "python-requests/2.32.3 python-httpx/0.27.2 openrelay-python/1.54.0 node-fetch/3.3.2 openrelay-node/4.71.1 "
    "axios/1.7.7 curl/8.5.0 Go-http-client/2.0 okhttp/4.12.0 openrelay-python/1.51.2 Java-http-client/21.0.4 "
    "aiohttp/3.10.10 undici/6.20.0 openrelay-python/1.40.6 python-requests/2.31.0 guzzle/7.9.2 reqwest/0.12.8 "
    "Faraday/2.12.0 python-httpx/0.25.1 openrelay-go/0.9.3 Dart/3.5 openrelay-node/4.52.7 PostmanRuntime/7.42.0 "
    "Dalvik/2.1.0 axios/0.27.2"
)
CHAIN = "graphloom/0.3.4 openrelay-python/1.54.0"
"""The client of the framework that hundreds use."""


class Client(NamedTuple):
    """The software that asks, and the mark of its TLS handshake."""

    user_agent: str | None
    ja4: str | None


def client(random: Random) -> Client:
    """A client: mostly one of the common ones, by how common they are; at times one that nobody else has."""
    if random.random() < facts.OWN_CLIENT:
        name = random.choice(FAMILIES).lower() + random.choice(("-worker", "-backend", "bot", "-sync", "app"))
        return Client(f"{name}/{int(random.random() * 4)}.{int(random.random() * 30)}", ja4(random.random()))
    many = int(random.choices(range(len(facts.CLIENTS)), facts.CLIENTS)[0])
    # One library is met on a few systems, with a handshake for each.
    return Client(_LIBRARIES[many], ja4(many + int(random.random() * 3) / 10) if random.random() < 0.9 else None)


def ja4(seed: float) -> str:
    """The handshake's mark of some build of some library: the same for the same number."""
    drawn = Random(f"handshake {seed}")
    ciphers, extensions = drawn.randrange(9, 32), drawn.randrange(6, 17)
    marks = f"{drawn.getrandbits(48):012x}_{drawn.getrandbits(48):012x}"
    return f"t13d{ciphers:02}{extensions:02}h{drawn.choice('12')}_{marks}"


class Addresses(NamedTuple):
    """Where a client is met: one of `many` addresses from `base` on, for `stay` seconds each.

    `many` 0 means anywhere at all, `stay` 0 a fresh one each time. With `wide`, `base` is a /64 of the new kind.
    """

    base: int
    many: int
    stay: float
    wide: bool = False

    def at(self, random: Random, moment: float) -> str:
        """The address at a moment.

        >>> Addresses(0x0A000000, 1, 1.0).at(Random(1), 0.0)
        '10.0.0.0'
        >>> Addresses(0x20010DB8_00000001, 9, 60, True).at(Random(1), 7).startswith("2001:db8:0:1:")
        True
        """
        turn = int(moment // self.stay) if self.stay else random.getrandbits(40)
        mixed = (turn + self.base) * 0x9E3779B97F4A7C15 & 0xFFFF_FFFF_FFFF_FFFF
        if not self.many:
            return dotted(0x18000000 + mixed % 0xA0000000)
        here = (mixed >> 20) % self.many
        if not self.wide:
            return dotted(self.base + here)
        high, low = self.base, mixed >> 32
        parts = f"{high >> 48:x}:{high >> 32 & 0xFFFF:x}:{high >> 16 & 0xFFFF:x}:{high & 0xFFFF:x}"
        return f"{parts}:{low >> 16:x}:{low & 0xFFFF:x}:{here % 7 + 1:x}:{here % 9 + 1:x}"


def dotted(number: int) -> str:
    """An address of the old kind."""
    return f"{number >> 24 & 255}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


# Carriers and clouds have few networks that many are met in; homes are spread over thousands.
_CARRIERS = tuple(0x64400000 + 0x4000 * at for at in range(6))
_CLOUDS = tuple(0x34000000 + 0x10000 * at for at in range(24))


def addresses(random: Random) -> Addresses:
    """Where one ordinary client is met: in a cloud, at home, with a carrier, behind an office."""
    kind = random.random()
    if kind < 0.5:
        return Addresses(random.choice(_CLOUDS) + random.getrandbits(16), random.choice((1, 1, 1, 2, 4)), 900)
    if kind < 0.68:
        return Addresses(0x51000000 + random.getrandbits(27) // 256 * 256, 200, random.choice((1, 2, 7)) * DAY)
    if kind < 0.8:
        return Addresses(
            (0x2A020000 + random.getrandbits(14)) << 32 | random.getrandbits(32), 1 << 30, DAY, wide=True
        )
    if kind < 0.88:
        return Addresses(random.choice(_CARRIERS), 4096, 1800)
    if kind < 0.98:
        return Addresses(0xC1000000 + random.getrandbits(23), 1, DAY)
    return Addresses(0xB9000000 + random.choice(range(12)) * 256, 40, 3600)  # an exit that many share


EVERYWHERE = Addresses(0, 0, 0)
"""Addresses of other people's homes, a fresh one a request."""


@dataclass(slots=True, eq=False)
class Account:
    """A key and what is known of whom it was given to; and what it has used of its plan."""

    key: str
    org: str
    plan: Plan
    client: Client
    addresses: Addresses
    traits: dict[str, str]
    pace: Tempo
    prompts: bool = True
    """Whether its operator logs the prompts of this key."""
    used: int = 0
    day: int = -1
    minute: int = -1
    calls: int = 0
    head: str = field(default="", repr=False)
    told: str = field(default="", repr=False)
    """What every line of the key begins with, and the traits that some end with, once they were written."""

    def charge(self, at: float, amount: int) -> bool:
        """Whether the plan allows a request of so many tokens or records now; if so, it is counted."""
        day, minute = int(at // DAY), int(at // 60)
        if day != self.day:
            self.day, self.used = day, 0
        if minute != self.minute:
            self.minute, self.calls = minute, 0
        if self.used + amount > self.plan.a_day or self.calls >= self.plan.a_minute:
            return False
        self.used += amount
        self.calls += 1
        return True

    def share_used(self, at: float) -> float:
        """The share of today's plan that is used up."""
        return self.used / self.plan.a_day if int(at // DAY) == self.day else 0.0


class Register:
    """Draws organisations and keys, one after the other; their names tell nothing of the order."""

    def __init__(self, random: Random, kind: str, begin: float, per_key: float, days: float) -> None:
        self._random = random
        self._plans = PLANS[kind]
        self._begin = begin
        self._per_key = per_key
        self._days = days
        self._names: set[str] = set()
        self.accounts: list[Account] = []

    def name(self, kind: str, bits: int = 48) -> str:
        """A name that nobody has yet."""
        while True:
            name = f"{kind}{self._random.getrandbits(bits):0{bits // 4}x}"
            if name not in self._names:
                self._names.add(name)
                return name

    def org(self, keys: int = 1, plan: int | None = None) -> list[Account]:
        """A new organisation with so many keys, on a plan of a number, or on any."""
        random = self._random
        org = self.name("org_", 32)
        bought = self._plans[plan if plan is not None else random.choices(range(3), _SOLD)[0]]
        where, software = addresses(random), client(random)
        traits = self.traits(where)
        return [self._key(org, bought, software, where, traits, at) for at in range(keys)]

    def traits(self, where: Addresses) -> dict[str, str]:
        """What an ordinary account tells of itself; anything may be missing."""
        random = self._random
        ending = random.choice(("com", "io", "de", "dev", "co"))
        own = f"{firm(random).replace(' ', '').lower()}{random.randrange(90)}.{ending}"
        signup = self._begin - random.expovariate(1 / (200 * DAY)) - 3600
        told = {
            "payment": self.name("fp_", 40),
            "email_domain": own if random.random() < 0.45 else random.choice(_FREE_MAIL),
            "device": self.name("", 48),
            "signup_ip": (where if random.random() < 0.6 else addresses(random)).at(random, signup),
            "signup_ts": str(int(signup)),
        }
        for name, share in (("payment", 0.3), ("device", 0.25), ("signup_ip", 0.05), ("email_domain", 0.05)):
            if random.random() < share:
                del told[name]
        return told

    def _key(
        self, org: str, plan: Plan, software: Client, where: Addresses, traits: dict[str, str], at: int
    ) -> Account:
        random = self._random
        if at and random.random() < 0.5:  # a second key is often another service of the same house
            software, where = client(random), addresses(random)
        pace = tempo(random, max(_LEAST / self._days, rate(random, self._per_key, plan)))
        made = Account(
            self.name("key_"), org, plan, software, where, {**traits, "plan": plan.name}, pace, random.random() > 0.07
        )
        self.accounts.append(made)
        return made


# The square root keeps the order of ServeGen's rates and halves their decades: a log of a few hundred thousand lines
# that one client fills would show nothing of the others.
_MEAN = facts.mean(facts.RATE, 0.5)


_LEAST = 5.0
"""Requests of a key over the whole log, on average, at the least: a key that hardly speaks is no use to anybody."""


def rate(random: Random, per_key: float, plan: Plan) -> float:
    """A client's requests a day, around a mean, as unequal as real clients are (by the root of their rates)."""
    drawn = sqrt(facts.drawn(random, facts.RATE)) / _MEAN
    wanted = drawn * per_key * plan.weight
    # Who needs much more than the plan allows has bought another; some stay close to their limit.
    return min(wanted, plan.fits * random.uniform(0.4, 1.1))
