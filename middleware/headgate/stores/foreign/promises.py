"""What a store behind `limits` does not promise, in sentences, and which limits cannot be kept there at all.

Law: pure, and said before anything goes wrong: by `headgate check`, and once when a service starts. Each sentence has
a test that shows it to be true, and the tests hold the two lists equal: nothing is called weaker than it is, and
nothing weaker is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from headgate.quota.match import Limit
from headgate.quota.window import Max


class Weaker(NamedTuple):
    """One promise that does not hold as elsewhere: a name for it, the sentence, and the schemes of which it is true;
    none means all."""

    name: str
    words: str
    schemes: tuple[str, ...] = ()


WEAKER = (
    Weaker(
        "holds",
        "nothing is held: amounts that are known only afterwards (tokens, bytes) and `max` cannot be limited",
    ),
    Weaker(
        "merging",
        "usage is never moved: orgs that are declared to be one customer cannot share a limit, and no pepper can be "
        "replaced while the one before is told (`HEADGATE_PEPPER_PREVIOUS`)",
    ),
    Weaker(
        "atomic",
        "several limits are charged one after the other: a worker that is killed in between, or a server that fails, "
        "leaves some of them charged for a request that was not served",
    ),
    Weaker(
        "races",
        "of requests that race for the last units of different limits, one may be refused that would have fitted",
    ),
    Weaker(
        "repeats",
        "a command that is said again is known only in the worker that said it first: said by another it counts "
        "twice, and a cancellation gives back nothing there",
    ),
    Weaker(
        "rate",
        "a `rate` lets its amount and burst pass in any stretch of the time in which they refill: never more than "
        "elsewhere, but it refills in steps instead of evenly",
    ),
    Weaker(
        "windows",
        "a limit keeps its usage when its amount changes, and begins anew when its verb or its window does",
    ),
    Weaker(
        "clocks",
        "windows run by each worker's own clock: one that is set back opens a `rate` or a `rolling` window again, "
        "and the clocks of all hosts must be kept alike",
    ),
    Weaker(
        "first_use",
        "a window that opens at the first use ends by the server's clock, in whole seconds",
    ),
    Weaker(
        "forgets",
        "memcached forgets all usage when it restarts, and the usage of anybody when it runs out of memory: then "
        "windows begin anew",
        ("memcached",),
    ),
)  # fmt: skip
"""All of them, the gravest first."""


class Counted(Protocol):
    """What is read of a policy: its limits, and the orgs that are declared to be one customer."""

    @property
    def limits(self) -> tuple[Limit, ...]:
        """All rows of its table."""

    @property
    def affiliated(self) -> Sequence[object]:
        """Declared groups, with when they end."""


class Keeping(NamedTuple):
    """What a store behind `limits` says of itself, for whoever checks or loads a policy: see `policy.keeping`."""

    name: str
    weaker: tuple[str, ...]

    def unsupported(self, policy: Counted) -> dict[str, str]:
        """By its id, each limit of a policy that cannot be kept there, with the reason."""
        return unsupported(policy)


def weaker(uri: str) -> tuple[str, ...]:
    """The promises that do not hold for a store behind `limits`, one sentence each.

    >>> [sentence.partition(" ")[0] for sentence in weaker("memcached://127.0.0.1:11211")][-1]
    'memcached'
    """
    scheme = uri.partition("://")[0]
    return tuple([each.words for each in WEAKER if not each.schemes or scheme in each.schemes])


def unsupported(policy: Counted) -> dict[str, str]:
    """Which of a policy's limits cannot be kept at all, by id, each with the reason.

    >>> from types import SimpleNamespace
    >>> from headgate.quota.meter import BUILT_IN_METERS, Meter
    >>> tokens = Limit("tokens", Meter("tokens", "app"), ("key",), {})
    >>> rpm = Limit("rpm", BUILT_IN_METERS["requests"], ("key",), {})
    >>> unsupported(SimpleNamespace(limits=(rpm, tokens), affiliated=()))
    {'tokens': 'what a request takes of `tokens` is known only afterwards, and nothing can be held until then'}
    """
    reasons = {limit.id: _why(limit, bool(policy.affiliated)) for limit in policy.limits}
    return {name: why for name, why in reasons.items() if why}


def _why(limit: Limit, grouped: bool) -> str:
    values: Mapping[str, object] = {**limit.values, **(limit.candidate or {})}
    if any(isinstance(value, Max) for value in values.values()):
        return "places at a time are held while a request is served, and nothing can be held"
    name = limit.meter.name
    if limit.meter.things:
        return f"which different things `{name}` has counted would have to be kept, and only numbers are"
    if not limit.meter.known_before:
        return f"what a request takes of `{name}` is known only afterwards, and nothing can be held until then"
    if grouped and "group" in limit.per:
        return "orgs are declared to be one customer, and what they have used cannot be brought together"
    return ""
