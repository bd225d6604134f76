"""What is counted, and what is held of it before it is known.

Law: a meter says how much a request will take before it is served (`ahead`) and where the truth comes from
afterwards (`source`). It charges nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from headgate.errors import AmountError
from headgate.quota.balance import SAFE

BUILT_IN = ("requests", "bytes_in", "bytes_out", "streams")
"""Meters of every policy: requests begun; body bytes received and sent; responses under way."""


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
class Meter:
    """One thing that is counted.

    | field | meaning |
    | --- | --- |
    | `source` | `request` (1, known before), `bytes_in`, `bytes_out`, `app` (the endpoint reports), `header.NAME` (of the response), `preset.NAME`, `distinct.SOURCE`, `sum` |
    | `reserve` | units held before serving, where the truth is known only afterwards |
    | `reserve_from` | a source such as `body.max_tokens` that says it better, "" for none |
    | `most` | the most that one request may report, None for no bound |
    | `overrun` | `finish` or `cut`: what happens when the limit is reached in mid-stream |

    >>> BUILT_IN_METERS["requests"].known_before
    True
    """  # noqa: E501  (a table's row is one line)

    name: str
    source: str
    reserve: int = 0
    reserve_from: str = ""
    most: int | None = None
    overrun: str = "finish"

    @property
    def known_before(self) -> bool:
        """Whether the amount is certain before the request is served."""
        return self.source == "request"

    @property
    def enforced(self) -> bool:
        """Whether this version can measure it; a limit on any other meter is parsed and not enforced."""
        kind = self.source.partition(".")[0]
        return kind in {"request", "bytes_in", "bytes_out", "app", "header"}

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
}
