"""How much a response has used of each meter, by what has passed: facts as they were counted, tokens as they were
reported or else estimated, sums of them.

Law: it may be asked at any time and answers by what is known then; it changes nothing. What failed (status 400 or
above) has generated no tokens and handed out nothing. Tokens that are reported for good count as reported; until then
what was generated since the last report is estimated, so that a stream that is broken off is charged for what was
sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from headgate.asgi.metering.estimating import Estimating, estimating
from headgate.quota.decision import Decision
from headgate.quota.estimate import BY_BYTES
from headgate.quota.meter import MILLION, Meter
from headgate.quota.things import MOST_THINGS
from headgate.quota.window import Max
from headgate.tokens import METERS, Reader, Said, Usage

KEPT_THINGS = 100_000
"""Things that are kept of one response until they are settled, ten times as many as can be at once: 14 MB."""

GOOD = 400
"""The status from which on a response has failed."""


class Touched:
    """Different things that were handed out under one meter: those that are to be settled by their digests, how
    many were settled before, and how many could not be named."""

    __slots__ = ("named", "settled", "unnamed")

    def __init__(self) -> None:
        self.named: dict[bytes, None] = {}
        self.settled = self.unnamed = 0

    def __len__(self) -> int:
        """All of them: at most so many are new to the limit."""
        return len(self.named) + self.settled + self.unnamed

    def add(self, things: Iterable[bytes]) -> None:
        """Note what is handed out. More than are kept count as they come."""
        for thing in things:
            if thing in self.named or len(self.named) < KEPT_THINGS:
                self.named[thing] = None
            else:
                self.unnamed += 1

    def taken(self) -> tuple[tuple[bytes, ...], int]:
        """What is to be settled next: those that have names, as many as a ledger can be told at once, and how many
        have none. They count as settled."""
        named, unnamed = tuple(islice(self.named, MOST_THINGS)), self.unnamed
        self.settled += len(named) + unnamed
        self.unnamed = 0
        for thing in named:
            del self.named[thing]
        return named, unnamed


class Known(NamedTuple):
    """What a reader knew at some moment: it cannot be made to forget what it has read since."""

    usage: Usage
    complete: bool
    text: int
    said: Said | None


class Passed:
    """What has passed of one request.

    | field | meaning |
    | --- | --- |
    | `bytes_in`, `bytes_out`, `messages` | content received and sent; messages that a caller sent |
    | `asked` | the beginning of what was received, for whoever counts it; None where nobody does |
    | `status` | the response's, 101 of a WebSocket that was accepted, 0 before |
    | `gone` | the client went away: what the app sends from then on reaches nobody |
    | `reader` | reads the response for what it reports; None where that cannot be read, or nothing asks for it |
    | `reported`, `told` | what the endpoint said with `charge`, and in headers of the response, by meter |
    | `touched` | what it handed out, by meter |
    | `stirred` | the endpoint has said something since somebody looked |
    | `ended` | it is over: what has not been reported by now is estimated |
    | `mute` | the response is a picture, a sound or the like: its bytes are no text |
    """

    __slots__ = (
        "_asked_tokens", "asked", "bytes_in", "bytes_out", "ended", "gone", "messages", "mute", "reader", "reported",
        "status", "stirred", "told", "touched",
    )  # fmt: skip

    def __init__(self) -> None:
        self.bytes_in = self.bytes_out = self.messages = self.status = 0
        self.ended = self.gone = self.mute = self.stirred = False
        self.asked: bytearray | None = None
        self._asked_tokens = -1, 0  # bytes received, and the tokens that they were counted to be
        self.reader: Reader | Known | None = None
        self.reported: dict[str, int] = {}
        self.told: dict[str, int] = {}
        self.touched: dict[str, Touched] = {}

    @property
    def served(self) -> bool:
        """Whether something was handed out."""
        return 0 < self.status < GOOD

    def tokens(self, by: Estimating) -> Mapping[str, int]:
        """Tokens by meter."""
        if self.status >= GOOD or not (self.status or self.gone):
            return {}
        reader = self.reader
        if reader is None:
            # Packed, or no object of JSON: an estimate of all that came and went; before the first byte, of the
            # question alone.
            return {"input_tokens": self._asked(by), "output_tokens": 0 if self.mute else by.of(self.bytes_out)}
        found = {name: getattr(reader.usage, field) or 0 for name, field in METERS.items()}
        if reader.usage.input is None:
            found["input_tokens"] = self._asked(by)
        if not reader.complete or reader.usage.output is None:
            found["output_tokens"] += by.of(reader.text) if reader.said is None else by.said(reader.said)
        return found

    def _asked(self, by: Estimating) -> int:
        """Tokens of the question, while nobody has told them: nothing before the end, for a picture's bytes would cut
        off an answer that reports a thousandth of them a moment later."""
        if not self.ended:
            return 0
        if self.asked is None:
            return by.of(self.bytes_in)
        if self._asked_tokens[0] != self.bytes_in:
            self._asked_tokens = self.bytes_in, by.asked(bytes(self.asked), self.bytes_in)
        return self._asked_tokens[1]


@dataclass(frozen=True, slots=True)
class Gauge:
    """What the limits of one decision measure, worked out once for a choice of limits.

    `meters`: of which amounts are held, by name. `reads`: whether any counts tokens. `told`: those that a header of
    the response tells. `sums`: those that add up others. `texts`: whether bytes count, so that texts need encoding.
    `cuts`: whether any may end a response; `bounds`, `sends`: whether bytes that come, or that go, may.
    `estimating`: what stands in for tokens that nobody reports.
    """

    meters: Mapping[str, Meter]
    reads: bool
    texts: bool
    told: tuple[Meter, ...]
    sums: tuple[Meter, ...]
    parts: Mapping[str, Meter]
    cuts: bool
    bounds: bool
    sends: bool
    estimating: Estimating

    def amounts(self, passed: Passed, factors: Mapping[str, int], held: Mapping[str, int]) -> dict[str, int]:
        """Units used, by the meter's name. `factors` (millionths) are those of the sums; `held` is what counts of a
        meter that the response was to tell and did not."""
        used = {
            "requests": 1, "bytes_in": passed.bytes_in, "bytes_out": passed.bytes_out, "messages": passed.messages,
        }  # fmt: skip
        parts = self.parts
        tokens = passed.tokens(self.estimating).items() if self.reads else ()
        for name, amount in tokens:
            if name in parts and parts[name].source.startswith("preset."):
                used[name] = parts[name].bounded(amount)
        for name, amount in passed.reported.items():
            if name in parts:
                used[name] = parts[name].bounded(amount)
        for meter in self.told:
            amount = passed.told.get(meter.name, -1)
            used[meter.name] = held.get(meter.name, meter.reserve) if amount < 0 else meter.bounded(amount)
        for name, touched in tuple(passed.touched.items()):
            used[name] = len(touched)
        for meter in self.sums:
            assert meter.sum is not None, "a sum"
            used[meter.name] = meter.bounded(meter.sum.summed(used, factors[meter.name]))
        return used

    def counts(self, name: str) -> bool:
        """Whether a callable counts what is not reported of these tokens, so that their text is wanted."""
        return name in self.parts and self.estimating.counts

    def rates(self, meter: Meter, factor: int) -> tuple[int, int]:
        """The most (millionths of a unit) by which a meter grows by a byte that is sent, and by one of generated
        text. Of other tokens than the output's more is known only by a report, and of other meters only by what the
        endpoint says."""
        said_by = self.parts.get("output_tokens")
        estimated = said_by is not None and said_by.source.startswith("preset.")
        a_letter = self.estimating.a_byte if estimated else 0
        if meter.sum is None:
            return (MILLION if meter.source == "bytes_out" else 0), (a_letter if meter.name == "output_tokens" else 0)
        weights = meter.sum.weights
        sent, said = weights.get("bytes_out", 0) * MILLION, weights.get("output_tokens", 0) * a_letter
        return -(-sent * factor // (MILLION * MILLION)), -(-said * factor // (MILLION * MILLION))


def gauge(decision: Decision) -> Gauge | None:
    """What a decision's limits measure; None where nothing but places at a time is held."""
    pairs = zip(decision.demands, decision.limits, strict=True)
    meters = {limit.meter.name: limit.meter for d, limit in pairs if d.hold and type(d.verb) is not Max}
    if not meters:
        return None
    parts = {part.name: part for part in _parts(meters.values())}
    return Gauge(
        meters=meters,
        reads=any(part.source.startswith("preset.") for part in parts.values()),
        texts=any(part.source in {"bytes_in", "bytes_out"} or part.name in METERS for part in parts.values()),
        told=tuple([part for part in parts.values() if part.source.startswith("header.")]),
        sums=tuple([meter for meter in meters.values() if meter.sum is not None]),
        parts=parts,
        cuts=any(meter.overrun == "cut" for meter in meters.values()),
        estimating=estimating(next((p.estimate for p in parts.values() if p.source.startswith("preset.")), BY_BYTES)),
        bounds=any(meter.overrun == "cut" and meter.source in {"bytes_in", "sum"} for meter in meters.values()),
        sends=any(meter.overrun == "cut" and _sent(meter) for meter in meters.values()),
    )


def _sent(meter: Meter) -> bool:
    """Whether bytes that are sent count."""
    return meter.source == "bytes_out" or (meter.sum is not None and meter.sum.weights.get("bytes_out", 0) > 0)


def _parts(meters: Iterable[Meter]) -> list[Meter]:
    """The meters themselves, and in the place of sums what they add up."""
    return [part for meter in meters for part in (meter.parts if meter.sum is not None else (meter,))]
