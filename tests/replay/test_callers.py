"""Who made each request: what the log tells bit by bit comes together."""

from __future__ import annotations

from headgate.policy import Policy
from headgate.quota.facts import Principal
from headgate.quota.identify import Identify
from headgate.replay.callers import Callers
from headgate.replay.entry import Entry


def callers() -> Callers:
    return Callers(Policy("doc", "0", "enforce", Identify(), (), plans=("free", "pro")))


def told(them: Callers, key: str, org: str | None = "acme", plan: str | None = None) -> Principal:
    found = them.of(key, Entry(org=org, traits=None if plan is None else {"plan": plan}))
    assert found is not None
    return found


def plans(them: Callers, org: str = "acme") -> set[str]:
    found = them.org(org)
    assert found is not None
    return set(found.plans)


def test_the_same_object_is_answered_until_something_changes() -> None:
    them = callers()
    first = told(them, "k1", plan="pro")
    assert told(them, "k1") is told(them, "k1", plan="pro") is told(them, "k1", None) is first
    assert told(them, "k1", plan="free") is not first


def test_a_plan_that_changes_leaves_the_org() -> None:
    them = callers()
    told(them, "k1", plan="free")
    told(them, "k2", plan="free")
    told(them, "k1", plan="pro")
    assert plans(them) == {"free", "pro"}
    told(them, "k2", plan="pro")
    assert plans(them) == {"pro"}


def test_another_plan_in_the_org_makes_all_its_principals_anew() -> None:
    them = callers()
    first = told(them, "k1", plan="free")
    told(them, "k2", plan="pro")
    assert told(them, "k1") == first and told(them, "k1") is not first


def test_an_org_that_is_told_late_takes_the_key_with_its_plan() -> None:
    them = callers()
    alone = told(them, "k1", None, "pro")
    assert (them.orgs, them.without_org) == (0, 1)
    found = told(them, "k1", "acme")
    assert (found.org, found.plan) == ("acme", "pro") != (alone.org, alone.plan)
    assert (them.orgs, them.without_org, plans(them)) == (1, 0, {"pro"})
    assert told(them, "k1", "other").org == "acme", "keys do not change hands"


def test_a_plan_that_is_told_late_is_no_longer_missed() -> None:
    them = callers()
    assert told(them, "k1").plan == "free" and them.unplanned == {"k1"}
    assert told(them, "k1", plan="gold").plan == "free" and them.strange == {"k1": "gold"}
    assert told(them, "k1", plan="pro").plan == "pro" and not them.unplanned and not them.strange
