"""What a reader of a report has to know beside its figures: what was assumed, and what the log does not say.

Law: an assumption that changes a figure is told, once, with how many it concerns. Keys are counted, not listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from headgate.quota.explain import duration
from headgate.register.in_force import kinds
from headgate.replay.counting import METERS
from headgate.replay.figures import COUNTED
from headgate.replay.groups import Linked
from headgate.replay.lines import COMMON

if TYPE_CHECKING:
    from headgate.replay.replaying import Replay


NAMED, LONGEST = 5, 40
"""Plans that are named, and letters of each: they are the log's words."""


def notes(replay: Replay, found: Sequence[Linked]) -> Iterator[str]:
    """The sentences for one replay that has found these groups."""
    yield from _about_logs(replay)
    yield from _about_callers(replay)
    yield from _about_figures(replay)
    yield from _about_policy(replay)
    yield from _about_groups(replay, found)


def _about_logs(replay: Replay) -> Iterator[str]:
    if replay.late.count:
        yield (
            f"{replay.late.count:,} lines stood more than 5 s behind later ones and were taken as if they had come 5 "
            "s before these; sorted by time, the log would say more"
        )
    if any(log.form == COMMON for log in replay.logs):
        yield (
            "in Common Log Format the key is the user's name; where there is none, each address counts as a key "
            "(`address-…`, a digest) and as a customer, and a path that ends in a number as a data item"
        )
    if replay.secrets:
        yield (
            f"{replay.secrets:,} lines have a secret (`hg_…`) where a key's public id belongs; it is shown as "
            "`secret-…`, a digest. Whoever can read the log can use it: revoke those keys"
        )


def _about_callers(replay: Replay) -> Iterator[str]:
    callers, policy, counting = replay.callers, replay.asked.policy, replay.counting
    if callers.unplanned:
        yield (
            f"nothing tells the plan of {_keys(len(callers.unplanned))}: decided as plan `{policy.plans[0]}`, the "
            "policy's first"
        )
    if callers.strange:
        names = sorted(set(callers.strange.values()))
        named = ", ".join([f"`{name[:LONGEST]}`" for name in names[:NAMED]]) + (", …" if len(names) > NAMED else "")
        whose = f"the plans that the log tells of {_keys(len(callers.strange))}"
        yield f"the policy does not have {whose} ({named}): decided as plan `{policy.plans[0]}`, its first"
    if callers.without_org:
        yield f"{_keys(callers.without_org)} without an org: each counts as a customer by itself"
    if counting.keyless:
        yield f"{counting.keyless:,} lines without a key were not decided: the policy serves nobody without one"


def _about_figures(replay: Replay) -> Iterator[str]:
    figures = replay.figures
    for meter, field in figures.fields.items():
        if field and COUNTED.get(meter) != field:
            yield f"the meter `{meter}` is read from the log's `{field}`"
    totals = replay.counting.usage(replay.counting.keys)
    missing = {
        field
        for field in figures.fields.values()
        if any(COUNTED[meter] == field and meter not in totals for meter in METERS)
    }
    for field in sorted(missing) if replay.entries else ():
        yield f"no line of the log says `{field}`: limits that count it saw nothing"
    held = [limit.meter.name for limit in figures.limits if limit.meter.reserve_from]
    if held:
        yield (
            f"a log does not say what a request announces ({', '.join(sorted(set(held)))}): as much is held ahead as "
            "the policy has it for requests that announce nothing"
        )


def _about_policy(replay: Replay) -> Iterator[str]:
    policy = replay.asked.policy
    if replay.asked.mode != "enforce":
        yield f"the policy's mode is `{replay.asked.mode}`: this is what it would decide if it were `enforce`"
    if not replay.ledgers.pools:
        yield "no limit that a log can decide counts `per: group`: linking would change no decision"
    pooling = [step for step in policy.ladder if step.do == "pool"]
    if policy.ladder and replay.ledgers.pools and not pooling:
        yield "the policy's ladder has no step `pool`: here groups count as one customer all the same"
    elif pooling and pooling[0].after:
        after = duration(pooling[0].after)
        yield f"the policy's ladder counts a group as one {after} after it is linked; here that is done at once"
    if replay.counting.newly_allowed:
        yield (
            f"{replay.counting.newly_allowed:,} requests would newly be granted: a group has the best of its "
            "members' plans"
        )


def _about_groups(replay: Replay, found: Sequence[Linked]) -> Iterator[str]:
    rules = replay.asked.policy.linking
    few = 0 if rules is None else sum([kinds(one.evidence) < rules.channels for one in found])
    if rules is not None and few:
        yield (
            f"{few:,} of the groups {'has' if few == 1 else 'have'} fewer kinds of evidence than the policy's "
            f"`channels: {rules.channels}`: a service lists such a group, and here it counts as one all the same"
        )


def _keys(number: int) -> str:
    return f"{number:,} key{'' if number == 1 else 's'}"
