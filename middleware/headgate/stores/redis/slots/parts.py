"""Which places of a command lie together on a cluster, and how the answers of several slots become one.

Law: a part is what one slot is asked; every demand is in exactly one part, parts stand in the order in which the
command names them, and a joined answer stands in the demands' order. No I/O and no decision here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from headgate.quota.command import Command, Demand, Refusal, Reserve
from headgate.stores.redis.script.codec import tag_of
from headgate.stores.redis.script.lines import Kept, usual

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The demands of one slot: its tag, where they stand in the command, and those that use at once and are therefore
    to be confirmed if they were only held at first. Each is itself and no other: answers are kept by it."""

    tag: bytes
    at: tuple[int, ...]
    demands: tuple[Demand, ...]
    at_once: tuple[Demand, ...]


def parts_of(demands: Sequence[Demand]) -> tuple[Part, ...]:
    """The demands by the slots in which their places lie.

    >>> from headgate.quota.window import Total
    >>> key, org, group = [Demand((who, "life"), Total(9), 1) for who in (b"org-----key-----", b"org-----org-----", b"g")]
    >>> [part.at for part in parts_of((key, group, org))]
    [(0, 2), (1,)]
    """  # noqa: E501
    by_tag: dict[bytes, list[int]] = {}
    for at, demand in enumerate(demands):
        by_tag.setdefault(tag_of(demand.place[0]), []).append(at)
    return tuple([_part(tag, at, tuple([demands[n] for n in at])) for tag, at in by_tag.items()])


def _part(tag: bytes, at: list[int], demands: tuple[Demand, ...]) -> Part:
    return Part(tag, tuple(at), demands, tuple([d for d in demands if d.amount and not d.hold]))


_divided = Kept(parts_of, usual)
"""How the demands of reservations divide: a tariff hands out the same tuple again and again."""


def divided(command: Command) -> tuple[Part, ...]:
    """The parts of a command; those of a reservation are remembered."""
    return _divided.of(command.demands) if type(command) is Reserve else parts_of(command.demands)


def spread(command: Command) -> bool:
    """Whether a command names places in more than one slot."""
    if type(command) is Reserve:
        return len(_divided.of(command[1])) > 1
    demands = command.demands
    if len(demands) < 2:
        return False
    first = demands[0].place[0]
    tag = tag_of(first)
    return any(d.place[0] != first and tag_of(d.place[0]) != tag for d in demands)


def woven(parts: Sequence[Part], lists: Iterable[Sequence[T]]) -> tuple[T, ...]:
    """What was told part by part, in the order of the whole."""
    by_place = {at: item for part, items in zip(parts, lists, strict=True) for at, item in zip(part.at, items)}  # noqa: B905
    return tuple([by_place[at] for at in sorted(by_place)])


def refused_of(part: Part, refusals: Sequence[Refusal], *, shadow: bool) -> dict[int, Refusal]:
    """Each refusal of a part under the number of its demand; those of limits in shadow are told apart. What is owed
    refuses nothing, though another demand on the same limit may."""
    left, found = list(refusals), {}
    for at, demand in zip(part.at, part.demands, strict=True):
        if left and demand.shadow is shadow and not demand.owed and left[0].limit == demand.place[1]:
            found[at] = left.pop(0)
    return found


def in_order(*found: dict[int, T]) -> tuple[T, ...]:
    """What several parts told of some of their demands, in the order of the whole."""
    every = {at: item for one in found for at, item in one.items()}
    return tuple([every[at] for at in sorted(every)])
