"""Where subjects lie: what belongs to one org begins alike, so that one machine of a fleet has all of it."""

from __future__ import annotations

from headgate.policy.compiled import Policy
from headgate.quota.balance import FOREVER
from headgate.quota.facts import Call, Group, Principal
from headgate.quota.gcra import Rate
from headgate.quota.identify import Identify
from headgate.quota.match import Limit
from headgate.quota.meter import BUILT_IN_METERS
from headgate.tariffs import Tariffs

PER: tuple[tuple[str, ...], ...] = (
    ("key",), ("org",), ("key", "route"), ("org", "ip"), ("group",), ("group", "route"), ("ip",),
    ("header.x-region",),
)  # fmt: skip


def subjects(principal: Principal, *, linked: bool = False) -> dict[str, bytes]:
    limits = [Limit("+".join(per), BUILT_IN_METERS["requests"], per, {"": Rate(9, 60_000_000)}) for per in PER]
    group = Group("g1", frozenset({"acme", "zeta"}))
    policy = Policy(
        "doc", "0", "enforce", Identify(), tuple(limits), affiliated=((group, FOREVER),) if linked else ()
    )
    tariff = Tariffs((b"pepper",)).of(principal, policy, None, now=0).tariff
    call = Call(principal, network="192.0.2.7", lookup=lambda source, name: f"{source}.{name}")
    return {demand.place[1]: demand.place[0] for demand in tariff.asked(call).demands}


def test_all_that_is_one_orgs_begins_alike_and_is_told_apart() -> None:
    one, other = subjects(Principal("k1", "acme")), subjects(Principal("k2", "acme"))
    theirs = ("key", "org", "key+route", "org+ip", "group", "group+route")
    assert len({found[limit][:8] for found in (one, other) for limit in theirs}) == 1
    assert one["key"] != other["key"]
    assert one["org"] == other["org"] == one["group"], "a group of one is the org"
    assert len(set(one.values())) == len(one) - 1
    assert subjects(Principal("k3", "zeta"))["org"][:8] != one["org"][:8]


def test_what_nobody_owns_lies_by_itself() -> None:
    one, other = subjects(Principal("k1", "acme")), subjects(Principal("k9", "zeta"))
    assert (one["ip"], one["header.x-region"]) == (other["ip"], other["header.x-region"])
    assert len({one["org"][:8], one["ip"][:8], one["header.x-region"][:8]}) == 3


def test_a_groups_budget_lies_with_the_group_whichever_member_asks() -> None:
    one, other = (subjects(Principal(f"k-{org}", org), linked=True) for org in ("acme", "zeta"))
    assert one["group"] == other["group"]
    assert one["group"][:8] == one["group+route"][:8]
    assert len({one["group"][:8], one["org"][:8], other["org"][:8]}) == 3
