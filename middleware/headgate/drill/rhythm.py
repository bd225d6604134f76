"""When requests come: a client's own mean, its bursts, its busy spells and pauses, its hours and its weekends.

Law: times ascend, lie within the span that was asked for, and come one by one: nothing is drawn before it is due.

A client's requests are a renewal process in the time of its own load: the gaps are Gamma with the spread that
ServeGen's clients have, and time runs as fast as the hour, the weekday, the ten-minute step and whether the client is
busy at all say. (Drawing Poisson times inside a step would hide the bursts that real clients have, and with them the
coincidences that any test of time must stand.)
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from random import Random
from typing import NamedTuple

from headgate.drill import facts

STEP = 600.0
HOUR = 3600.0
DAY = 86_400.0


class Tempo(NamedTuple):
    """How a client's requests are spread over time; `rate` is its mean, in requests a day."""

    rate: float
    burst: float
    hours: facts.Table
    zone: float
    weekend: float
    steady: float
    """How much longer its busy spells are than ServeGen's; 0 for a client that never pauses."""


def tempo(random: Random, rate: float) -> Tempo:
    """A client's tempo, drawn from what real clients are like."""
    zone = random.choice((-8, -5, -5, -3, 0, 1, 1, 2, 3, 5.5, 7, 8, 8, 9))
    weekend = random.choice((1.0, 1.0, 0.8, 0.4, 0.15))
    return Tempo(
        rate, facts.drawn(random, facts.BURST), random.choice(facts.DAYS), zone, weekend, random.choice((1, 2, 4, 0))
    )


def heavy(random: Random, rate: float) -> Tempo:
    """The tempo of a stream of work that is worth moving, and not of the burstiest tenth.

    ServeGen's heavy clients hardly pause: the busiest quarter is busy in two steps of three and more.
    """
    drawn = tempo(random, rate)
    return drawn._replace(burst=min(drawn.burst, facts.BURST[9]), steady=random.choice((0, 4, 8)))


def arrivals(random: Random, pace: Tempo, begin: float, end: float) -> Iterator[float]:
    """The times of a client's requests, in seconds since the epoch.

    >>> pace = Tempo(400, 2.7, facts.DAYS[2], 1, 0.4, 1)
    >>> times = list(arrivals(Random(1), pace, 0, 7 * DAY))
    >>> times == sorted(times), 900 < len(times) < 6000, 0 <= times[0] and times[-1] < 7 * DAY
    (True, True, True)
    """
    shape = 1 / (pace.burst * pace.burst)
    # Load a second of a busy step: with pauses, the busy steps carry it all.
    load = pace.rate / DAY / _SWING
    busy = 1.0 if not pace.steady else _busy_share(pace.steady)
    at = begin - begin % STEP
    left = 0.0 if not pace.steady else _spell(random, facts.PAUSE) * random.random()
    working = not pace.steady or random.random() < busy
    if working:
        left = _spell(random, facts.STREAK) * max(1.0, pace.steady) * random.random() + 1
    # The first gap is already under way when the log begins: longer gaps are likelier to be met, by their length.
    due = random.gammavariate(shape + 1, 1 / shape) * random.random()
    while at < end:
        if working:
            speed = load / busy * _told(pace, at) * facts.drawn(random, facts.SWING)
            moment, until = at, at + STEP
            while due < speed * (until - moment):
                moment += due / speed
                if moment >= end:
                    return
                if moment >= begin:
                    yield moment
                due = random.gammavariate(shape, 1 / shape)
            due -= speed * (until - moment)
        at += STEP
        left -= 1
        if left <= 0 and pace.steady:
            working = not working
            left = _spell(random, facts.STREAK) * pace.steady if working else _spell(random, facts.PAUSE)


_SWING = facts.mean(facts.SWING)

# Pauses and spells beyond two days would leave most clients of a short log without a word.
LONGEST = 2 * DAY / STEP


def _spell(random: Random, table: facts.Table) -> float:
    return min(LONGEST, facts.drawn(random, table))


_STREAK = facts.mean(tuple(min(LONGEST, steps) for steps in facts.STREAK))
_PAUSE = facts.mean(tuple(min(LONGEST, steps) for steps in facts.PAUSE))


def _busy_share(steady: float) -> float:
    """The share of steps that are busy: the mean spell over the mean of spell and pause."""
    return _STREAK * steady / (_STREAK * steady + _PAUSE)


def _told(pace: Tempo, at: float) -> float:
    local = at + pace.zone * HOUR
    hour = pace.hours[int(local // HOUR) % 24]
    # 1 January 1970 was a Thursday.
    return hour * pace.weekend if int(local // DAY + 3) % 7 >= 5 else hour


def stay(random: Random, begin: float, end: float) -> tuple[float, float]:
    """From when until when one is there at all: most for the whole log, some come or go meanwhile.

    One rule for all, attackers or not: when a key was first or last seen must tell nothing.
    """
    span = end - begin
    since = begin if random.random() < 0.72 else begin + random.random() * 0.7 * span
    until = end if random.random() < 0.85 else since + (0.3 + 0.7 * random.random()) * (end - since)
    return since, until


def spoken(random: Random, times: Iterator[float], begin: float, end: float) -> Iterator[float]:
    """The same times; one at least, for nobody takes a key and never tries it.

    >>> list(spoken(Random(1), iter([3.0, 4.0]), 0, 9)), len(list(spoken(Random(1), iter([]), 0, 9)))
    ([3.0, 4.0], 1)
    """
    first = next(times, None)
    return chain([begin + random.random() * (end - begin)] if first is None else [first], times)


def clockwork(random: Random, period: float, minute: float, many: int, begin: float, end: float) -> Iterator[float]:
    """A job that a timer starts: at each period's given second it asks so many times, one after the other.

    >>> [int(at) // 60 for at in clockwork(Random(1), 3600, 300, 2, 0, 7200)][::2]
    [5, 65]
    """
    late = random.random() * 1.5
    at = begin - begin % period + minute
    while at < end:
        moment = at + late + random.random() * 0.4
        for _ in range(many):
            if begin <= moment < end:
                yield moment
            moment += 0.15 + random.expovariate(2.0)
        at = max(at + period, moment - moment % period + minute)


def visits(random: Random, pace: Tempo, length: float, begin: float, end: float) -> Iterator[float]:
    """A person's requests: visits that come as the tempo says, of some length, with a reader's gaps between pages."""
    again = begin
    for start in arrivals(random, pace._replace(rate=pace.rate / length), begin, end):
        moment = max(start, again)
        while moment < end:
            yield moment
            if random.random() < 1 / length:
                break
            moment += facts.drawn(random, facts.GAP)
        again = moment + 1
