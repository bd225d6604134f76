"""What is counted, and what is held of it before it is known.

Law: a meter says how much a request will take before it is served, and where the truth comes from afterwards
(`source`); a sum says what several meters weigh together. It charges nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headgate.errors import AmountError
from headgate.quota.balance import SAFE
from headgate.quota.estimate import BY_BYTES, Estimate
from headgate.quota.globs import one_glob

BUILT_IN = ("requests", "bytes_in", "bytes_out", "streams", "messages")
"""Meters of every policy: requests begun; body bytes received and sent; responses under way; messages that a caller
sent over a WebSocket."""

MILLION = 1_000_000
"""Weights and factors are counted in millionths: a price has six decimals at most."""


def checked(amount: int) -> int:
    """The amount, if it can be counted: an integer, 0 <= amount <= 2^53 - 1. Raises AmountError for anything else.

    Truth values, floats and digits in a string are not taken for numbers, whatever they look like.

    >>> checked(True)
    Traceback (most recent call last):
    headgate.errors.AmountError: an amount is a whole number from 0 to 2^53 - 1; got True
    """
    if type(amount) is not int or not 0 <= amount <= SAFE:
        raise AmountError(f"an amount is a whole number from 0 to 2^53 - 1; got {amount!r:.40}")
    return amount


@dataclass(frozen=True, slots=True)
class Sum:
    """A meter that adds up others. All numbers are millionths.

    | field | meaning |
    | --- | --- |
    | `weights` | by the other meter's name |
    | `by` | what chooses a factor: a source such as `body.model` or a built-in scope; "" for nothing |
    | `factors` | pairs of glob and factor, of which the first that matches counts |
    | `default` | the factor where none matches |
    | `inside` | pairs (`cached_tokens`, `input_tokens`): the first is a part of the second and has its own weight, so that the second counts without it |

    >>> credits = Sum({"input_tokens": 1_000_000, "output_tokens": 5_000_000}, "body.model", (("big-*", 4_000_000),))
    >>> credits.summed({"input_tokens": 100, "output_tokens": 10}, credits.factor("big-7"))
    600
    """  # noqa: E501  (a table's row is one line)

    weights: Mapping[str, int]
    by: str = ""
    factors: tuple[tuple[str, int], ...] = ()
    default: int = MILLION
    inside: tuple[tuple[str, str], ...] = ()

    def factor(self, value: str) -> int:
        """The factor (millionths) for a value of `by`; "" where the request has none."""
        for glob, factor in self.factors:
            if one_glob(glob)(value):
                return factor
        return self.default

    def summed(self, used: Mapping[str, int], factor: int) -> int:
        """What amounts by meter weigh together, in whole units: rounded up, at most 2^53 - 1. What is not among them
        counts as 0.

        >>> Sum({"input_tokens": MILLION, "cached_tokens": 100_000}, inside=(("cached_tokens", "input_tokens"),)).summed(
        ...     {"input_tokens": 1_000, "cached_tokens": 900}, MILLION)
        190
        """  # noqa: E501
        weighed = sum([weight * used.get(name, 0) for name, weight in self.weights.items()])
        for part, whole in self.inside:
            weighed -= self.weights[whole] * min(used.get(part, 0), used.get(whole, 0))
        return min(-(-weighed * factor // (MILLION * MILLION)), SAFE)


@dataclass(frozen=True, slots=True)
class Meter:
    """One thing that is counted.

    | field | meaning |
    | --- | --- |
    | `source` | `request` (1, known before), `bytes_in`, `bytes_out`, `messages`, `app` (the endpoint reports), `header.NAME` (of the response), `preset.NAME+NAME`, `distinct.SOURCE` (different things: `distinct.app`, `distinct.path.id`), `sum` |
    | `reserve` | units held before serving, where the truth is known only afterwards |
    | `reserve_from` | sources such as `body.max_tokens` that say it better: the largest that a request names counts |
    | `reserve_times` | sources such as `body.n` that say how many answers are wanted, of which each may take as much |
    | `most` | the most that one request may report, None for no bound |
    | `overrun` | `finish` or `cut`: what happens when the limit is reached in mid-stream |
    | `sum` | of a sum: how its `parts` are weighed; else None |
    | `parts` | the meters that a sum adds up, none of them a sum |
    | `estimate` | of a preset's: what stands in for tokens that nobody reports |

    >>> BUILT_IN_METERS["requests"].known_before
    True
    """  # noqa: E501  (a table's row is one line)

    name: str
    source: str
    reserve: int = 0
    reserve_from: tuple[str, ...] = ()
    reserve_times: tuple[str, ...] = ()
    most: int | None = None
    overrun: str = "finish"
    sum: Sum | None = None
    parts: tuple[Meter, ...] = ()
    estimate: Estimate = BY_BYTES

    @property
    def known_before(self) -> bool:
        """Whether the amount is certain before the request is served."""
        if self.source == "sum":
            return all(part.known_before for part in self.parts)
        return self.source == "request"

    @property
    def things(self) -> str:
        """Of a meter that counts different things, where a request names them: `app`, or a source; else "".

        >>> Meter("parcels", "distinct.path.parcel_id").things, Meter("rows", "app").things
        ('path.parcel_id', '')
        """
        return self.source[len("distinct.") :] if self.source.startswith("distinct.") else ""

    def bounded(self, amount: int) -> int:
        """What is charged for a reported amount: never above `most`, nor above what can be counted.

        Raises AmountError for what is no whole number from 0 up.

        >>> Meter("compute", "header.x-query-cost", most=5).bounded(9)
        5
        """
        most = SAFE if self.most is None else self.most
        return checked(min(amount, most) if type(amount) is int else amount)


BUILT_IN_METERS = {
    "requests": Meter("requests", "request"),
    "streams": Meter("streams", "request"),
    "bytes_in": Meter("bytes_in", "bytes_in"),
    "bytes_out": Meter("bytes_out", "bytes_out"),
    "messages": Meter("messages", "messages"),
}
