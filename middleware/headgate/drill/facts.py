"""What is true of real traffic, in small tables.

Law: no figure here is made up. Each table is a row of quantiles of public measurements, and says of which; what is
drawn from it is as spread out as the real thing was.

| source | licence | what was taken |
| --- | --- | --- |
| alibaba/ServeGen, request rates of 422 clients of LLM APIs in ten-minute steps, two weeks | Apache-2.0 | `RATE`, `BURST`, `STREAK`, `PAUSE`, `SWING`, `DAYS` |
| Azure/AzurePublicDataset, LLM inference trace 2023, code and conversation | CC-BY-4.0 | `TOKENS` |
| kvcache-ai/Mooncake, conversation trace | Apache-2.0 | `CONTINUES` |
| elastic/examples, Apache log of 2015 (1,753 clients) | Apache-2.0 | `CLIENTS`, `OWN_CLIENT`, `GAP`, `SIZE` |
| NASA-HTTP, Internet Traffic Archive | free to redistribute | `POPULARITY` (with the Apache log) |
"""  # noqa: E501  (a table's row is one line)

from __future__ import annotations

from itertools import pairwise
from math import log, pow
from random import Random

Table = tuple[float, ...]
"""Eleven quantiles: the hundredth and the 99th hundredth at the ends, the tenths between. Nothing is drawn beyond."""

# ServeGen: mean requests a second of a client over the two weeks. Five decades: a few clients are nearly all load.
RATE: Table = (0.0003, 0.0027, 0.0081, 0.0221, 0.0527, 0.1087, 0.3279, 0.9345, 2.3448, 9.5774, 109.4505)
# ServeGen: coefficient of variation of the gaps between requests, a client's median. 1 would be chance alone.
BURST: Table = (0.351, 0.893, 0.995, 1.05, 1.13, 1.41, 1.73, 2.24, 3.555, 5.84, 24.4)
# ServeGen: ten-minute steps that a client is busy without a pause, and that it pauses.
STREAK: Table = (1, 1, 1, 1, 2, 2, 3, 5, 10, 35, 438)
PAUSE: Table = (1, 1, 1, 1, 2, 3, 4, 6, 12, 37, 332)
# ServeGen: a busy step's rate over the client's mean.
SWING: Table = (0.0053, 0.071, 0.1706, 0.3382, 0.5388, 0.7629, 0.9669, 1.1236, 1.4051, 1.9953, 5.439)
# ServeGen: rate in each hour of the day over the mean, of the three commonest kinds of client by k-means: one that
# hardly knows the hour, one of the evening, one of the office.
DAYS: tuple[Table, ...] = tuple(
    tuple(float(part) for part in hours.split())
    for hours in (
        "1.11 1.36 1.56 1.40 1.26 1.14 1.15 1.33 1.22 0.88 0.95 0.96 "
        "0.82 0.79 0.78 0.70 0.82 0.79 0.83 0.74 0.88 0.80 0.83 0.90",
        "0.87 0.79 0.51 0.44 0.49 0.48 0.50 0.56 0.66 0.96 1.07 1.17 "
        "0.98 0.99 1.08 1.18 1.33 1.40 1.34 1.51 1.70 1.58 1.32 1.09",
        "0.30 0.19 0.18 0.15 0.14 0.12 0.13 0.21 0.58 1.45 2.22 2.16 "
        "1.24 1.91 2.20 1.99 2.17 1.90 1.20 0.91 0.82 0.79 0.62 0.42",
    )
)
# Azure: tokens in and tokens out, for code and for conversation.
TOKENS: dict[str, tuple[Table, Table]] = {
    "code": (
        (17, 147, 385, 770, 1075, 1469, 1909, 2433, 3193, 5194, 7436),
        (6, 7, 8, 9, 11, 13, 16, 20, 29, 55, 252),
    ),
    "conversation": (
        (29, 207, 387, 403, 703, 1020, 1071, 1130, 1315, 2735, 4142),
        (16, 54, 77, 91, 103, 129, 177, 384, 400, 424, 601),
    ),
}
# Mooncake: share of requests that go on with a prompt that was sent before, beyond the system prompt all share.
CONTINUES = 0.39
# Apache: clients of each of the commonest user agents; and the share of clients whose user agent nobody else had.
CLIENTS: Table = (105, 76, 69, 65, 57, 50, 45, 42, 39, 34, 33, 33, 32, 28, 18, 18, 18, 17, 17, 16, 16, 14, 13, 12, 12)
OWN_CLIENT = 355 / 1753
# Apache: seconds from one request of a client to its next, within a visit (the log counts whole seconds: 0 is 0.2
# here); and bytes of an answer.
GAP: Table = (0.2, 0.2, 1, 2, 3, 4, 5, 8, 12, 19, 39)
SIZE: Table = (229, 1015, 3638, 4877, 8764, 12292, 15945, 29941, 50112, 65748, 1199558)
# Apache 1.03, NASA 1.12: the exponent of Zipf's law that the popularity of the first 300 pages follows.
POPULARITY = 1.03


def drawn(random: Random, table: Table) -> float:
    """A value of the table's distribution: between two quantiles, all logarithms are equally likely.

    >>> all(RATE[0] <= drawn(Random(seed), RATE) <= RATE[-1] for seed in range(50))
    True
    """
    at = random.random() * (len(table) - 1)
    below = int(at)
    low: float = table[below]
    return low * pow(table[below + 1] / low, at - below)


def mean(table: Table, power: float = 1.0) -> float:
    """The mean of what `drawn` draws, or of a power of it: between a and b it is (b - a) / ln(b / a).

    >>> draws = [drawn(Random(seed), PAUSE) for seed in range(4000)]
    >>> abs(mean(PAUSE) - sum(draws) / 4000) < 0.15 * mean(PAUSE)
    True
    """
    raised = [pow(value, power) for value in table]
    parts = [low if low == high else (high - low) / log(high / low) for low, high in pairwise(raised)]
    return sum(parts) / len(parts)


def popular(random: Random, many: int) -> int:
    """The rank, from 0, of one of so many things, drawn by their popularity (Zipf's law, by its inverse integral).

    >>> ranks = [popular(Random(seed), 1000) for seed in range(400)]
    >>> min(ranks), max(ranks) < 1000, sum(rank < 10 for rank in ranks) > sum(rank >= 500 for rank in ranks)
    (0, True, True)
    """
    power = 1 - POPULARITY
    return min(many - 1, int((1 + random.random() * ((many + 1) ** power - 1)) ** (1 / power)) - 1)
