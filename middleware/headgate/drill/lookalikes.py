"""The innocent who look alike: in each family, unrelated keys with one thing in common that a detector may trip over.

Law: in every family each key does its own work, of its own will; what they share was given to them by the place, the
hour, the software or the bill. A detector that links any two of them is wrong, `agency_card` and `subsidiaries`
excepted, where two people may differ; and `lb_fleet`, where one organisation ties them already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import NamedTuple

from headgate.drill.accounts import CHAIN, Account, Addresses, Client, Register, addresses, client, ja4
from headgate.drill.asking import Subject, Template, subject, template, topic
from headgate.drill.catalogue import PAGES
from headgate.drill.operator import answered
from headgate.drill.plots import Setting, give
from headgate.drill.prompting import FRAMEWORKS, Asker, Pupil, Runner, app
from headgate.drill.reading import Poller, Rereader, Tenant, Walker, watched
from headgate.drill.rhythm import DAY, HOUR, arrivals, clockwork, spoken, stay, tempo, visits
from headgate.drill.words import firm
from headgate.drill.work import Requests, Worker

FAMILIES: dict[str, str] = {
    "cgnat_block": "a carrier's few addresses, and the same phones",
    "office_egress": "one VPN's exits and one managed browser",
    "university_class": "one campus, one course, one deadline",
    "ci_egress": "one build service's addresses and software, run at each push",
    "cron_hour": "jobs at :00",
    "framework_prompts": "one framework's words, and its default client",
    "popular_app": "hundreds of installations of one application",
    "rare_app": "a handful of installations of one application",
    "hackathon": "accounts of one weekend, one hall, one starter kit",
    "agency_card": "an agency pays for its clients",
    "subsidiaries": "one mail domain and one office, several businesses",
    "virtual_cards": "one issuer's cards, which look like one",
    "benchmark": "everybody runs the public questions",
    "crawlers": "each walks through whole collections, by itself",
    "adjacent_tenants": "each its own rows, side by side",
    "feed_pollers": "what is newest, every few minutes",
    "outage_recovery": "all begin again in one second",
    "lb_fleet": "one organisation's keys behind a load balancer",
}
"""Every family, and what its keys have in common."""

_LLM_ONLY = frozenset({"framework_prompts", "popular_app", "rare_app", "benchmark"})
_DATA_ONLY = frozenset({"crawlers", "adjacent_tenants", "feed_pollers"})


def families(kind: str) -> tuple[str, ...]:
    """The families that there are on an API of a kind."""
    without = _DATA_ONLY if kind == "llm" else _LLM_ONLY
    return tuple(name for name in FAMILIES if name not in without)


class Innocent(NamedTuple):
    """A key of a family: when it asks and for what."""

    account: Account
    times: Iterator[float]
    work: Worker

    def requests(self, random: Random) -> Requests:
        """Its requests. Who was refused is quiet for a while, longer each time."""
        until, wait = 0.0, 30.0
        for at in self.times:
            if at < until:
                continue
            work = self.work.next(at)
            if work is None:
                return
            made = answered(random, self.account, at, work)
            wait = min(wait * 2, 2 * HOUR) if made.status == 429 else 30.0
            until = at + wait if made.status == 429 else 0.0
            yield made


def family(random: Random, name: str, many: int, setting: Setting, register: Register) -> list[Innocent]:
    """So many keys of a family; fewer where a family is small by nature."""
    setting = replace(setting, due=setting.begin + random.uniform(0.4, 1.0) * (setting.end - setting.begin))
    if name == "lb_fleet":
        return _fleet(random, min(many, 9), setting, register)
    if name in ("agency_card", "subsidiaries", "rare_app"):
        many = min(many, random.randint(4, 10))
    accounts = [register.org()[0] for _ in range(many)]
    _SHARED.get(name, _nothing)(random, accounts, setting, register)
    made = []
    work = _works(random, name, setting)
    for account in accounts:
        own = Random(random.getrandbits(64))
        made.append(Innocent(account, _times(own, name, account, setting), work(own, account)))
    return made


def ordinary(random: Random, account: Account, setting: Setting) -> Innocent:
    """An ordinary customer: a program, a timer's job or a person; some come or go while the log runs."""
    own = Random(random.getrandbits(64))
    begin, end = stay(own, setting.begin, setting.end)
    pace = account.pace
    kind = own.random()
    if kind < 0.62:
        times = arrivals(own, pace, begin, end)
    elif kind < 0.78:
        period = max(own.choice((300, 900, HOUR, HOUR, 6 * HOUR, DAY)), _round(DAY / pace.rate))
        many = max(1, round(pace.rate * period / DAY))
        times = clockwork(own, period, own.choice((0, 0, 0, own.random() * period)), many, begin, end)
    else:
        times = visits(own, pace, 2 + own.random() * 12, begin, end)
    return Innocent(account, spoken(own, times, begin, end), setting.ordinary(own, account))


def _nothing(random: Random, accounts: list[Account], setting: Setting, register: Register) -> None:
    pass


def _carrier(random: Random, accounts: list[Account], setting: Setting, register: Register) -> None:
    pool = Addresses(0x64C00000 + random.getrandbits(12) * 256, 24, 1200)
    phones = [Client(f"okhttp/4.{at}.0", ja4(70 + at)) for at in (9, 12)]
    for account in accounts:
        account.addresses, account.client = pool, random.choice(phones)
        account.traits["signup_ip"] = pool.at(random, random.random() * 1e8)


def _office(random: Random, accounts: list[Account], setting: Setting, register: Register) -> None:
    exits = Addresses(0xA5000000 + random.getrandbits(14) * 256, 6, 2 * HOUR)
    managed = Client("Mozilla/5.0 (Windows NT 10.0; Win64; x64) ManagedBrowser/128.0", ja4(80))
    for account in accounts:
        account.addresses = exits
        if random.random() < 0.7:
            account.client = managed


def _campus(random: Random, accounts: list[Account], setting: Setting, register: Register) -> None:
    campus = Addresses(0x81000000 + random.getrandbits(14) * 256, 12, HOUR)
    domain = f"{firm(random).split()[0].lower()}-university.edu"
    begun = setting.due - (20 + random.random() * 40) * DAY
    for account in accounts:
        account.addresses = campus if random.random() < 0.8 else account.addresses
        signup = begun + random.expovariate(1 / (2 * DAY))
        account.traits |= {
            "email_domain": domain,
            "signup_ip": campus.at(random, signup),
            "signup_ts": str(int(signup)),
        }
        account.traits.pop("payment", None)


def _runners(random: Random, accounts: list[Account], setting: Setting, register: Register) -> None:
    pool = Addresses(0x14800000 + random.getrandbits(12) * 256, 60, 400)
    for account in accounts:
        account.addresses, account.client = pool, Client("openrelay-python/1.54.0", ja4(82))


def _framework(random: Random, accounts: list[Account], setting: Setting, register: Register) -> None:
    for account in accounts:
        account.client = Client(CHAIN, ja4(90))


def _hall(random: Random, accounts: list[Account], setting: Setting, register: Register) -> None:
    hall = Addresses(0x5B000000 + random.getrandbits(14) * 256, 2, HOUR)
    begun = setting.due - 46 * HOUR
    for account in accounts:
        signup = begun - random.random() * 3 * HOUR
        account.addresses = hall
        account.traits |= {"signup_ip": hall.at(random, signup), "signup_ts": str(int(signup))}


def _card(random: Random, accounts: list[Account], setting: Setting, register: Register) -> None:
    give(random, "payment", accounts, register)


def _house(random: Random, accounts: list[Account], setting: Setting, register: Register) -> None:
    give(random, "email_domain", accounts, register)
    give(random, "address", accounts, register)


def _issuer(random: Random, accounts: list[Account], setting: Setting, register: Register) -> None:
    for account in accounts:
        account.traits["payment"] = f"fp_virtual{random.randrange(3)}"


Makes = Callable[[Random, Account], Worker]
"""Makes the work of one key."""

_SHARED: dict[str, Callable[[Random, list[Account], Setting, Register], None]] = {
    "cgnat_block": _carrier,
    "office_egress": _office,
    "university_class": _campus,
    "ci_egress": _runners,
    "framework_prompts": _framework,
    "hackathon": _hall,
    "agency_card": _card,
    "subsidiaries": _house,
    "virtual_cards": _issuer,
}


def _times(random: Random, name: str, account: Account, setting: Setting) -> Iterator[float]:
    begin, end = _window(random, name, setting)
    times = spoken(random, _asked(random, name, account, setting, begin, end), begin, end)
    return _recovered(times, setting.begin, end) if name == "outage_recovery" else times


def _window(random: Random, name: str, setting: Setting) -> tuple[float, float]:
    if name == "university_class":  # the evening before it is due, and the hour of the lesson
        return max(setting.begin, setting.due - 26 * HOUR), setting.due
    if name == "hackathon":
        return max(setting.begin, setting.due - 46 * HOUR), setting.due
    return stay(random, setting.begin, setting.end)


def _asked(
    random: Random, name: str, account: Account, setting: Setting, begin: float, end: float
) -> Iterator[float]:
    pace = account.pace
    busy = pace._replace(rate=max(pace.rate, setting.per_key / 3))
    if name == "cron_hour":
        period = max(random.choice((900, HOUR, HOUR, 3 * HOUR)), _round(DAY / pace.rate))
        return clockwork(random, period, random.choice((0, 0, 1, 60)), 1 + random.randrange(4), begin, end)
    if name == "feed_pollers":
        period = random.choice((300, 600, 900))
        return clockwork(random, period, random.random() * period, 1, begin, end)
    if name == "university_class":
        return visits(random, busy._replace(rate=busy.rate * 3), 9, begin, end)
    if name == "hackathon":
        return visits(random, busy._replace(rate=busy.rate * 2), 12, begin, end)
    if name == "crawlers":
        return arrivals(random, tempo(random, setting.per_key * 2), begin, end)
    return arrivals(random, busy, begin, end)


def _round(period: float) -> float:
    """A timer's period at least as long: five minutes, an hour, a day; an honest job fits its plan."""
    return next((round_ for round_ in (300, 900, HOUR, 3 * HOUR, 6 * HOUR) if round_ >= period), DAY)


def _recovered(times: Iterator[float], begin: float, end: float) -> Iterator[float]:
    """The same times, but what falls into an outage comes in the second in which it ends, and then goes on."""
    last = begin
    for at in times:
        # At one in the afternoon of each day something is down for a quarter of an hour.
        into = (at - begin) % DAY - 13 * HOUR
        last = max(last, at if not 0 <= into < 900 else at - into + 900 + 0.0004 * into)
        if last < end:
            yield last


def _works(random: Random, name: str, setting: Setting) -> Makes:
    """What the keys of a family do, in so far as the family says it."""
    if setting.kind == "llm":
        return _prompts(random, name, setting)
    return _reads(random, name, setting)


def _prompts(random: Random, name: str, setting: Setting) -> Makes:
    common = setting.commons
    house, about = firm(random), topic(random, narrow=True)
    made = [template(random, about, house) for _ in range(random.randint(5, 12))]
    if name == "framework_prompts":
        prefix = random.choice(FRAMEWORKS)
        return lambda own, account: app(own, topic(own), common.paraphrase, 2).begin_with(prefix)
    if name in ("popular_app", "rare_app"):
        return lambda own, account: Asker(own, made, [topic(own)], common.paraphrase)
    if name in ("agency_card", "subsidiaries"):  # some of the house's words, some of one's own
        return lambda own, account: Asker(own, _mixed(own, made), [topic(own)], common.paraphrase)
    if name == "hackathon":
        return lambda own, account: Asker(
            own, [made[0], template(own, about, firm(own))], [topic(own)], common.paraphrase
        )
    if name == "university_class":
        exercises = tuple(
            made[at % len(made)].filled(random, Subject(f"exercise {at + 1}", subject(random, about).text))
            for at in range(8)
        )
        return lambda own, account: Pupil(own, exercises, Asker(own, made[:1], [about], 0.6))
    if name == "benchmark":
        return lambda own, account: Runner(own, own.choice(common.benchmarks[:2]))
    return setting.ordinary


def _mixed(random: Random, made: list[Template]) -> list[Template]:
    about = topic(random)
    own = [template(random, about, firm(random)) for _ in range(2 + int(random.random() * 3))]
    return random.sample(own + random.sample(made, 2), len(own) + 2)


def _reads(random: Random, name: str, setting: Setting) -> Makes:
    stock = setting.stock
    famous = random.sample(stock.collections, 3)
    if name == "crawlers":
        return lambda own, account: Walker(own, own.sample(famous, 3), own.choice((1, *PAGES)), own.random() < 0.5)
    if name == "adjacent_tenants":
        first, many, row = random.randrange(1 << 20) * 64, random.choice((40, 200, 1000)), iter(range(10**6))
        return lambda own, account: Tenant(own, stock.rows, first + next(row) * many, many)
    if name == "feed_pollers":
        return lambda own, account: Poller(own, famous[own.randrange(2)], 0.002, setting.begin)
    if name == "university_class":
        listed = watched(random, stock, 30)
        return lambda own, account: Rereader(own, listed)
    if name in ("ci_egress", "hackathon"):
        listed = watched(random, stock, 20)
        return lambda own, account: Rereader(own, listed + watched(own, stock, 10))
    if name == "subsidiaries":
        return lambda own, account: Walker(own, [own.choice(famous)], own.choice(PAGES), True)
    return setting.ordinary


def _fleet(random: Random, many: int, setting: Setting, register: Register) -> list[Innocent]:
    """One organisation's work, on whichever of its keys the balancer takes."""
    accounts = register.org(max(2, many), 2)
    where, software = addresses(random), client(random)
    work = setting.ordinary(random, accounts[0])
    made = []
    for account in accounts:
        account.addresses, account.client = where, software
        own = Random(random.getrandbits(64))
        times = arrivals(own, account.pace, setting.begin, setting.end)
        made.append(Innocent(account, spoken(own, times, setting.begin, setting.end), work))
    return made
