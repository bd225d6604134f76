"""What a policy would have decided: in log time, by the log's own figures, with groups and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.directory import KeysFile
from headgate.replay import replaying

from .worlds import HEAD, Told, line, log_of, policy_of, replayed


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaying, "LOOK", 1)


RPM = "limits: {rpm: {meter: requests, per: key, rate: {free: 2/min, build: 60/min}, burst: 1}}\n"
DAY = "limits: {day: {meter: requests, per: group, quota: {free: 3/day, build: 10/day}}}\n"


def test_the_clock_is_the_logs(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, RPM)
    report = replayed(policy, log_of(tmp_path, [line(at) for at in (0, 1, 2, 3, 60, 61)]))
    assert (report.decisions.allowed, report.decisions.denied) == (5, 1)
    assert report.decisions.by_limit == {"rpm": 1}
    assert (report.events, report.skipped, report.keys, report.orgs) == (6, 0, 1, 1)


def test_what_was_used_is_what_the_log_says(tmp_path: Path) -> None:
    policy = policy_of(
        tmp_path,
        "meters: {u: {preset: openai-usage}}\nlimits: {tokens: {meter: output_tokens, per: org, quota: 100/day}}\n",
    )
    lines = [line(at, f"k{at}", tokens_in=9, tokens_out=40) for at in range(4)]
    report = replayed(policy, log_of(tmp_path, lines))
    # 40, 80, then 120: the third one fits as long as a token is left, and what it took is owed.
    assert (report.decisions.allowed, report.decisions.by_limit) == (3, {"tokens": 1})


def test_different_things_count_once(tmp_path: Path) -> None:
    policy = policy_of(
        tmp_path, "meters: {docs: {distinct: app}}\nlimits: {docs: {meter: docs, per: org, quota: 4/day}}\n"
    )
    reads = [["d:1", "d:2", "d:3"], ["d:1", "d:2"], ["d:2", "d:3"], ["d:4"], ["d:5"]]
    report = replayed(policy, log_of(tmp_path, [line(at, resources=read) for at, read in enumerate(reads)]))
    assert report.decisions.allowed == 4 and report.decisions.by_limit == {"docs": 1}
    assert "the meter `docs` is read from the log's `resources`" in report.notes


def test_a_thing_named_by_the_path_is_read_from_the_logs_resources(tmp_path: Path) -> None:
    policy = policy_of(
        tmp_path, "meters: {docs: {distinct: path.id}}\nlimits: {docs: {meter: docs, per: org, quota: 2/day}}\n"
    )
    reads = ["d:1", "d:1", "d:2", "d:1", "d:3"]
    report = replayed(policy, log_of(tmp_path, [line(at, resources=[read]) for at, read in enumerate(reads)]))
    assert (report.decisions.allowed, report.decisions.denied) == (4, 1)


def test_plans_come_from_the_log_and_the_first_where_nobody_tells(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, RPM)
    lines = [line(0, "k1", traits={"plan": "build"}), *[line(at / 10, "k1") for at in range(1, 9)]]
    lines += [line(5 + at / 10, "k2", "bold") for at in range(4)]
    lines += [line(6 + at / 10, "k3", "cold", traits={"plan": "gold"}) for at in range(4)]
    report = replayed(policy, log_of(tmp_path, lines))
    assert [(one.key, one.plan, one.denied) for one in report.affected] == [("k2", "free", 1), ("k3", "free", 1)]
    assert "nothing tells the plan of 1 key: decided as plan `free`, the policy's first" in report.notes
    told = (
        "the policy does not have the plans that the log tells of 1 key (`gold`): decided as plan `free`, its first"
    )
    assert told in report.notes


def test_the_file_of_keys_goes_before_the_log(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(
        f"headgate-keys: v1\norgs: {{acme: {{plan: build}}}}\nkeys: [{{key: k1, org: acme, digest: {32 * '1'}}}]\n",
        encoding="utf-8",
    )
    policy = policy_of(tmp_path, DAY)
    log = log_of(tmp_path, [line(at, "k1", None, traits={"plan": "free"}) for at in range(8)])
    assert replayed(policy, log).decisions.denied == 5
    report = replayed(policy, log, keys=KeysFile(file, ()))
    assert (report.decisions.denied, report.orgs) == (0, 1)


def test_keys_of_one_org_are_one_customer_and_keys_without_one_are_each_their_own(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, DAY)
    together = [line(at, f"k{at}") for at in range(5)]
    apart = [line(10 + at, f"n{at}", None) for at in range(5)]
    report = replayed(policy, log_of(tmp_path, [*together, *apart]))
    assert report.decisions.denied == 2
    assert report.orgs == 1 and "5 keys without an org: each counts as a customer by itself" in report.notes


def test_an_org_that_a_later_line_tells_counts_from_then_on(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, DAY)
    lines = [line(0, "k1", None), line(1, "k1"), line(2, "k1", None), line(3, "k2"), line(4, "k2")]
    report = replayed(policy, log_of(tmp_path, lines))
    assert report.orgs == 1 and report.decisions.denied == 1


def test_limits_in_shadow_refuse_nobody_and_are_told_apart(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, "limits: {rpm: {meter: requests, per: key, rate: 2/min, burst: 1, mode: shadow}}\n")
    report = replayed(policy, log_of(tmp_path, [line(at / 10) for at in range(5)]))
    assert (report.decisions.denied, report.decisions.in_shadow) == (0, {"rpm": 2})


def test_lines_without_a_key_are_anonymous_or_not_decided(tmp_path: Path) -> None:
    lines = [line(at, "", ip="192.0.2.7") for at in range(4)]
    log = log_of(tmp_path, lines)
    report = replayed(policy_of(tmp_path, RPM), log)
    assert (report.events, report.decisions.allowed, report.decisions.denied) == (4, 0, 0)
    assert "4 lines without a key were not decided: the policy serves nobody without one" in report.notes
    open_head = HEAD.replace("anonymous: refuse", "anonymous: {plan: free, per: ip}")
    report = replayed(policy_of(tmp_path, RPM, open_head), log)
    assert (report.decisions.allowed, report.decisions.denied, report.keys) == (3, 1, 0)


def four_orgs(times: int = 3) -> list[dict]:
    """Four orgs, each of which takes what one customer may take in a day, in turns."""
    return [line(turn * 100 + at, f"k{at}", f"org{at}") for turn in range(times) for at in range(4)]


def test_what_is_linked_has_one_quota_from_then_on_and_what_was_taken_before_counts(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, DAY)
    log = log_of(tmp_path, four_orgs())
    assert replayed(policy, log).decisions.denied == 0
    linking = Told([["k0", "k1", "k2", "k3"]])
    report = replayed(policy, log, linking=linking)
    [group] = report.groups
    # k0 and k1 are linked after the second line, k2 and k3 after theirs: by then the day's three are taken.
    assert (report.decisions.allowed, report.decisions.denied, report.newly_refused) == (4, 8, 8)
    assert group.newly_refused == {"k0": 2, "k1": 2, "k2": 2, "k3": 2}
    assert report.alone.denied == 0 and group.refused_by == {"day": report.newly_refused}
    assert group.spared == {"requests": report.newly_refused}
    assert (group.keys, group.orgs) == (("k0", "k1", "k2", "k3"), ("org0", "org1", "org2", "org3"))
    assert [(share.limit, share.value) for share in group.may_take] == [("day", "3/day (UTC)")]


def test_a_neighbour_who_is_in_no_group_decides_as_before(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, DAY)
    lines = sorted([*four_orgs(), *[line(at + 0.5, "other", "honest") for at in range(5)]], key=lambda one: one["ts"])
    report = replayed(policy, log_of(tmp_path, lines), linking=Told([["k0", "k1", "k2", "k3"]]))
    assert [(one.key, one.denied) for one in report.affected] == [("other", 2)]
    assert report.alone.denied == 2 and report.alone.by_limit == {"day": 2}


def test_a_group_that_is_found_at_the_end_refuses_nobody_before(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, DAY)
    report = replayed(policy, log_of(tmp_path, four_orgs()), linking=Told([["k0", "k1", "k2", "k3"]], since=3))
    assert len(report.groups) == 1 and report.newly_refused == 0


def test_a_key_that_is_not_linked_itself_pays_for_its_org(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, DAY)
    lines = [*four_orgs(2), *[line(900 + at, "second", "org0") for at in range(2)]]
    report = replayed(policy, log_of(tmp_path, lines), linking=Told([["k0", "k1", "k2", "k3"]]))
    assert report.groups[0].newly_refused["second"] >= 1 and "second" not in report.groups[0].keys


def test_the_best_plan_of_the_members_is_the_groups(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, DAY)
    lines = four_orgs()
    lines[0]["traits"] = {"plan": "build"}
    report = replayed(policy, log_of(tmp_path, lines), linking=Told([["k0", "k1", "k2", "k3"]]))
    assert report.newly_refused == 2 and report.groups[0].may_take[0].value == "10/day (UTC)"


def test_where_nothing_counts_by_group_a_link_changes_nothing_and_that_is_said(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, RPM)
    report = replayed(policy, log_of(tmp_path, four_orgs()), linking=Told([["k0", "k1", "k2", "k3"]]))
    assert report.newly_refused == 0 and len(report.groups) == 1
    assert "no limit that a log can decide counts `per: group`: linking would change no decision" in report.notes


APART = (
    "linking: {{states: {{suspect: 0.6, linked: 0.95}}, "
    "{word}: [{{orgs: [org0, org1], reason: said so, until: 2099-01-01}}]}}\n"
)


def test_orgs_that_are_declared_one_customer_are_no_finding(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, DAY + APART.format(word="affiliated"))
    assert replayed(policy, log_of(tmp_path, four_orgs()), linking=Told([["k0", "k1"]])).groups == ()
    [group] = replayed(policy, log_of(tmp_path, four_orgs()), linking=Told([["k0", "k2"]])).groups
    assert group.orgs == ("org0", "org2")


def test_orgs_that_are_declared_separate_are_never_in_one_group(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, DAY + APART.format(word="separate"))
    assert replayed(policy, log_of(tmp_path, four_orgs()), linking=Told([["k0", "k1"]])).groups == ()
    [group] = replayed(policy, log_of(tmp_path, four_orgs()), linking=Told([["k0", "k1", "k2", "k3"]])).groups
    assert len({"org0", "org1"} & set(group.orgs)) == 1 and len(group.orgs) == 3


def test_an_entry_that_has_ended_by_the_logs_time_says_nothing(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, DAY + APART.format(word="separate").replace("2099-01-01", "2026-03-09"))
    assert len(replayed(policy, log_of(tmp_path, four_orgs()), linking=Told([["k0", "k1"]])).groups) == 1


def test_groups_are_listed_from_the_surest_and_the_rest_counted(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, DAY)
    linking = Told([["k0", "k1"], ["k2", "k3"]])
    report = replayed(policy, log_of(tmp_path, four_orgs()), linking=linking, most=1)
    assert (len(report.groups), report.hidden) == (1, 1)
    unsure = Told([["k0", "k1"]], confidence=0.94)
    assert replayed(policy, log_of(tmp_path, four_orgs()), linking=unsure).groups == ()
    assert len(replayed(policy, log_of(tmp_path, four_orgs()), linking=unsure, least=0.9).groups) == 1


def test_who_is_declared_one_with_a_member_is_in_the_group_too(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, DAY + APART.format(word="affiliated").replace("org1", "org4"))
    lines = [*four_orgs(1), *[line(200 + at, "k4", "org4") for at in range(2)]]
    report = replayed(policy, log_of(tmp_path, lines), linking=Told([["k0", "k1", "k2"]]))
    assert report.newly_refused == report.decisions.denied == 2 and report.alone.denied == 0


def test_a_group_that_is_found_no_more_leaves_each_org_what_it_took_itself(tmp_path: Path) -> None:
    class Fickle(Told):
        def groups(self) -> list:
            return [] if len(self.seen) >= 6 else super().groups()

        def findings(self) -> list:
            return [] if len(self.seen) >= 6 else super().findings()

    policy = policy_of(tmp_path, DAY)
    lines = [line(at, f"k{at % 2}", f"org{at % 2}") for at in range(10)]
    report = replayed(policy, log_of(tmp_path, lines), linking=Fickle([["k0", "k1"]]))
    # As one, the fourth to the sixth request are refused; by themselves, k0 has taken two of three, and k1 one.
    assert report.newly_refused == 3 and report.groups == ()
    assert (report.decisions.allowed, report.decisions.denied) == (6, 4)
    assert (report.alone.allowed, report.alone.denied) == (6, 4)


def test_a_key_in_two_findings_is_in_the_surer_group(tmp_path: Path) -> None:
    class Twice(Told):
        def findings(self) -> list:
            return [one._replace(confidence=0.96 + 0.01 * at) for at, one in enumerate(super().findings())]

    linking = Twice([["k0", "k1", "k2"], ["k2", "k3"]])
    report = replayed(policy_of(tmp_path, DAY), log_of(tmp_path, four_orgs()), linking=linking)
    assert [group.keys for group in report.groups] == [("k2", "k3"), ("k0", "k1")]


def test_what_a_group_is_refused_does_not_count_against_its_other_limits(tmp_path: Path) -> None:
    policy = policy_of(
        tmp_path,
        "limits:\n"
        "  day: {meter: requests, per: group, quota: 3/day}\n"
        "  life: {meter: requests, per: key, total: 6}\n",
    )
    lines = [line(at, f"k{at % 2}", f"org{at % 2}") for at in range(12)]
    lines += [line(86_400 + at, f"k{at % 2}", f"org{at % 2}") for at in range(4)]
    report = replayed(policy, log_of(tmp_path, lines), linking=Told([["k0", "k1"]]))
    # By themselves each takes three a day; as one they take three in all, and nothing else is used up by the rest.
    assert report.alone.by_limit == {"day": 6}
    assert report.decisions.by_limit == {"day": 10}


def test_lines_that_come_far_too_late_are_told(tmp_path: Path) -> None:
    report = replayed(policy_of(tmp_path, RPM), log_of(tmp_path, [line(0), line(60), line(10), line(57)]))
    [told] = [note for note in report.notes if "behind later ones" in note]
    assert told.startswith("1 lines stood more than 5 s behind") and report.decisions.allowed == 4
