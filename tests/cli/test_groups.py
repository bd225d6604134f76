"""`headgate groups`, `link`, `unlink` and `separate`: what people read and say of linked orgs."""

from __future__ import annotations

import asyncio
import getpass
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from headgate.clock import wall_clock
from headgate.linking.finding import Evidence, Finding
from headgate.quota.facts import Call, Principal
from headgate.register import Register, Registry, States
from headgate.service import Service
from headgate.settings import Settings
from headgate.stores.documents import open_documents
from headgate.testing.servers import Server

from .conftest import Run

STORE = "sqlite:///headgate.db"
ORGS = "orgs:\n  acme: {plan: free}\n  bigco: {plan: build}\n  zeta: {plan: free}\n  acme-labs: {plan: free}\n"
LINKING = "linking: {states: {suspect: 0.70, linked: 0.95}}\n"
EVIDENCE = (
    Evidence("templates", ("k_1", "k_2"), 9.0, "both send 9 of 11 templates that nobody else sends"),
    Evidence("payment", ("k_1", "k_2"), 6.5, "both orgs pay with one card; 3 of 812,440 orgs use it"),
)


@pytest.fixture(autouse=True)
def _home(policy: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "keys.yaml").write_text(f"headgate-keys: v1\n{ORGS}keys: []\n", encoding="utf-8")
    monkeypatch.setattr(getpass, "getuser", lambda: "ann")


def register() -> Register:
    return asyncio.run(Registry(open_documents(STORE)).read())


def found(
    *orgs: str, confidence: float = 0.987, evidence: Sequence[Evidence] = EVIDENCE, policy: str = LINKING
) -> str:
    """What the detector has found; the group's id."""
    with Path("headgate.yaml").open("a", encoding="utf-8") as file:
        file.write(policy)
    finding = Finding({"k_1": 1, "k_2": 2}, orgs, confidence, tuple(evidence))
    asyncio.run(Registry(open_documents(STORE)).publish([finding], wall_clock(), States()))
    return register().groups[0].id


def test_nothing_linked_is_said_in_a_sentence_and_makes_no_file(run: Run, folder: Path) -> None:
    said = run("groups")
    assert (said.exit_code, said.stdout, said.stderr) == (0, "no groups: each org has its limits to itself\n", "")
    assert json.loads(run("groups", "--format", "json").stdout) == {"groups": [], "said": []}
    assert not (folder / "headgate.db").exists()


def test_a_link_says_what_is_other_from_now_on_and_how_to_undo_it(run: Run) -> None:
    said = run("link", "acme", "zeta", "--reason", "one invoice", "--until", "2099-12-31")
    [word] = register().said
    assert said.exit_code == 0, said.stderr
    assert said.stdout.splitlines() == [
        f"{word.id} links acme, zeta until 2100-01-01 00:00:00+01:00: one invoice",
        "From now on, within 2 s on every worker:",
        "  acme, zeta share month; what each has used so far counts.",
        f'Undo: headgate unlink {word.id} --reason "…"',
    ]
    assert (word.actor, word.orgs, word.reason) == ("ann", ("acme", "zeta"), "one invoice")
    listed = run("groups").stdout
    assert re.search(rf"^{word.id} +in force +acme, zeta +- +- +\S+ \S+ +ann +-$", listed, re.M)
    assert f"{word.id} links acme, zeta until 2100-01-01 00:00:00+01:00: one invoice (ann, " in listed


def test_what_was_said_is_taken_back_by_its_id(run: Run) -> None:
    run("link", "acme", "zeta", "--reason", "one invoice")
    [word] = register().said
    said = run("unlink", word.id, "--reason", "a mistake", "--actor", "bob")
    assert said.exit_code == 0, said.stderr
    assert said.stdout.splitlines() == [
        f"{word.id} is taken back (it said: one invoice).",
        "From now on, within 2 s on every worker:",
        "  acme is by itself, with what it alone has used.",
        "  zeta is by itself, with what it alone has used.",
        'Undo: headgate link acme zeta --reason "…"',
    ]
    assert (register().said[0].ended_by, register().said[0].ended_why) == ("bob", "a mistake")
    again = run("link", "--undo", word.id, "--reason", "x")
    assert again.exit_code == 1 and "was taken back already, by bob: a mistake" in again.stderr


def test_who_is_linked_already_is_told_so(run: Run) -> None:
    run("link", "acme", "zeta", "--reason", "one invoice")
    said = run("link", "zeta", "acme", "--reason", "and one owner")
    assert "Nothing is other from now on: they are in l_" in said.stdout
    more = run("link", "zeta", "bigco", "--reason", "one owner")
    assert "  acme, bigco, zeta share month; what each has used so far counts." in more.stdout


def test_a_found_group_is_listed_and_explained_as_a_sum(run: Run) -> None:
    id = found("acme", "zeta")
    assert re.search(rf"^{id} +in force +acme, zeta +2 +0\.987 +\S+ \S+ +detector +-$", run("groups").stdout, re.M)
    lines = run("groups", "show", id).stdout.splitlines()
    assert lines[0].startswith(f"{id}  in force, since ")
    assert lines[1:3] == ["  orgs  acme, zeta", "  keys  k_1, k_2"]
    sums = [float(line.split()[0]) for line in lines if re.match(r"^ +[+-]\d+\.\d\d  ", line)]
    assert sums == pytest.approx([4.33 - 15.5, 9.0, 6.5, 4.33], abs=0.01)
    assert sum(sums[:-1]) == pytest.approx(sums[-1], abs=0.02), "it adds up"
    text = "\n".join(lines)
    assert "+9.00  templates: both send 9 of 11 templates that nobody else sends" in text
    assert "at most 1 in 8,103 unrelated pairs looks like that; without it 0.009" in text
    assert "Its weakest link: without templates it is 0.009; under 0.95: it would not be linked" in text
    assert "payment: one card pays for several clients of an agency" in text
    assert "headgate separate acme zeta" in text
    assert "linked by detector: both send 9 of 11" in text
    assert run("groups", "show", "zeta").stdout.splitlines()[0] == lines[0], "an org in it will do"


def test_each_group_that_is_not_in_force_says_why_not(run: Run) -> None:
    found("acme", "zeta", confidence=0.8)
    assert " suspect " in run("groups").stdout


@pytest.mark.parametrize(
    ("sections", "evidence", "orgs", "why"),
    [
        ("", EVIDENCE, ("acme", "zeta"), "not pooled: the policy has no `linking`"),
        (LINKING + "ladder: [{when: linked, do: flag}]\n", EVIDENCE, ("acme", "zeta"), "the ladder has no `pool`"),
        (LINKING + "ladder: [{when: linked, do: pool, after: 24h}]\n", EVIDENCE, ("acme", "zeta"), "pooled from 20"),
        ("linking: {states: {suspect: 0.7, linked: 0.99}}\n", EVIDENCE, ("acme", "zeta"), "the policy asks for 0.99"),
        (LINKING, EVIDENCE[:1], ("acme", "zeta"), "1 of 2 kinds of evidence"),
        (LINKING, EVIDENCE, ("acme",), "one org, which has its limits to itself"),
    ],
)
def test_a_linked_group_that_shares_nothing_says_why(
    run: Run, sections: str, evidence: Sequence[Evidence], orgs: tuple[str, ...], why: str
) -> None:
    found(*orgs, evidence=evidence, policy=sections)
    said = run("groups")
    assert said.exit_code == 0 and why in said.stdout, said.stdout + said.stderr


def test_a_group_is_taken_apart_and_stays_so_when_it_is_found_again(run: Run) -> None:
    id = found("acme", "zeta")
    said = run("unlink", id, "--reason", "appeal 12 upheld")
    [word] = register().said
    assert said.exit_code == 0, said.stderr
    assert said.stdout.splitlines()[0] == f"{word.id} keeps acme, zeta apart until it is taken back: appeal 12 upheld"
    assert f'Undo: headgate separate --undo {word.id} --reason "…"' in said.stdout
    found("acme", "zeta", confidence=0.999, policy="")
    assert re.search(rf"^{id} +linked; kept apart", run("groups").stdout, re.M)
    undone = run("separate", "--undo", word.id, "--reason", "the appeal was forged")
    assert "  acme, zeta share month; what each has used so far counts." in undone.stdout


def test_one_org_leaves_its_group_and_the_others_stay(run: Run) -> None:
    found("acme", "zeta", "bigco")
    said = run("unlink", "zeta", "--reason", "another firm of that name")
    assert said.stdout.splitlines()[2:4] == [
        "  zeta is by itself, with what it alone has used.",
        "  acme, bigco share month; what each has used so far counts.",
    ]


def test_who_is_kept_apart_until_a_day_is_not_linked_before(run: Run) -> None:
    run("separate", "acme", "zeta", "--reason", "shared proxy", "--until", "2099-06-30")
    found("acme", "zeta")
    assert "kept apart" in run("groups").stdout
    [row] = json.loads(run("groups", "--format", "json").stdout)["said"]
    assert (row["kind"], row["orgs"], row["until"]) == ("separate", ["acme", "zeta"], "2099-07-01 00:00:00+02:00")


def test_how_much_a_group_has_used_is_shown_where_it_is_known(
    run: Run, pepper: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("link", "acme", "zeta", "--reason", "one invoice")

    async def three_requests() -> None:
        service = Service(Settings())
        await service.start()
        await service.regroup()
        for org in ("acme", "zeta", "zeta"):
            assert (await service.gate.admit(Call(Principal(f"k_{org}", org, "free"), route="/x"))).allowed
        await service.stop()

    asyncio.run(three_requests())
    assert run("groups").stdout.splitlines()[1].endswith("ann  60% of month")
    rows = {row["limit"]: row for row in json.loads(run("usage", "acme", "--json").stdout)["limits"]}
    assert rows["month"]["used"] == 3, "of one org the group's count is shown as well"
    monkeypatch.delenv("HEADGATE_PEPPER")
    assert run("groups").stdout.splitlines()[1].endswith("ann  -"), "without the pepper nobody knows where it lies"


def test_a_fleets_register_is_spoken_to_over_its_server(
    run: Run, valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_STORE", valkey.url)
    assert run("link", "acme", "zeta", "--reason", "one invoice").exit_code == 0
    listed = run("groups")
    assert " in force  acme, zeta " in listed.stdout and listed.stderr == ""
    monkeypatch.setenv("HEADGATE_STORE", "redis://127.0.0.1:1")
    away = run("link", "acme", "zeta", "--reason", "one invoice")
    assert away.exit_code == 2 and "127.0.0.1:1: nothing listens there" in away.stderr


def test_what_is_explained_is_what_the_group_would_be_charged(run: Run) -> None:
    alone = run("explain", "GET", "/x", "--org", "acme").stdout
    run("link", "acme", "zeta", "--reason", "one invoice")
    linked = run("explain", "GET", "/x", "--org", "acme")
    assert linked.exit_code == 0 and linked.stderr == ""
    changed = set(linked.stdout.splitlines()) - set(alone.splitlines())
    assert any("group l_" in line for line in changed), changed


# What is refused, and in which words.


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["link", "acme", "zetta", "--reason", "x"], 1, "nobody knows an org `zetta`; did you mean `zeta`?"),
        (["link", "acme", "zeta"], 2, 'why? --reason "one invoice'),
        (["link", "acme", "--reason", "x"], 2, "two orgs or more are needed"),
        (["link", "acme", "acme", "--reason", "x"], 2, "two orgs or more are needed"),
        (["link", "acme", "zeta", "--reason", "x", "--until", "2001-01-01"], 2, "--until is past already"),
        (["link", "acme", "zeta", "--reason", "x", "--until", "soon"], 2, "--until is neither a date"),
        (["separate", "acme", "zeta", "--reason", "x"], 2, "until when?"),
        (["unlink", "acme", "--reason", "x"], 1, "org `acme` is linked to nobody now"),
        (["unlink", "acne", "--reason", "x"], 1, "there is no group `acne`; did you mean `acme`?"),
        (["link", "--undo", "l_none", "--reason", "x"], 1, "nothing was said under `l_none`"),
        (["link", "acme", "--undo", "l_none", "--reason", "x"], 2, "it needs no orgs"),
        (["groups", "show", "g_none"], 1, "there is no group `g_none`"),
    ],
)
def test_what_cannot_be_done_is_told_and_not_written_down(run: Run, words: list[str], code: int, says: str) -> None:
    said = run(*words)
    assert (said.exit_code, said.stdout) == (code, "")
    assert says in said.stderr and len(said.stderr.splitlines()) == 1
    assert register().said == ()


def test_the_policy_goes_before_what_is_said_here(run: Run, policy: Path) -> None:
    policy.write_text(
        policy.read_text()
        + "linking:\n"
        + "  affiliated: [{orgs: [acme, acme-labs], reason: one firm, until: 2099-01-01}]\n"
        + "  separate: [{orgs: [acme, zeta], reason: shared proxy by contract, until: 2099-01-01}]\n"
    )
    linked = run("link", "acme", "zeta", "--reason", "x")
    assert linked.exit_code == 1
    assert (
        "the policy keeps acme, zeta apart until 2099-01-02 00:00:00+01:00 (shared proxy by contract)"
        in linked.stderr
    )
    for words in (["unlink", "acme"], ["separate", "acme", "acme-labs", "--until", "2098-01-01"]):
        refused = run(*words, "--reason", "x")
        assert refused.exit_code == 1, refused
        assert "the policy declares" in refused.stderr and "`linking.affiliated`" in refused.stderr
    assert re.search(r"^acme +in force +acme, acme-labs +- +- +- +policy +-$", run("groups").stdout, re.M)


def test_who_joined_a_declared_group_may_leave_it(run: Run, policy: Path) -> None:
    declared = "linking: {affiliated: [{orgs: [acme, acme-labs], reason: one firm, until: 2099-01-01}]}\n"
    policy.write_text(policy.read_text() + declared)
    run("link", "acme", "zeta", "--reason", "x")
    assert re.search(r"^acme +in force +acme, acme-labs, zeta ", run("groups").stdout, re.M)
    said = run("unlink", "zeta", "--reason", "y")
    assert said.exit_code == 0, said.stderr
    assert re.search(r"^acme +in force +acme, acme-labs ", run("groups").stdout, re.M)
    refused = run("unlink", "acme", "--reason", "y")
    assert refused.exit_code == 1 and "the policy declares acme, acme-labs one customer" in refused.stderr


def test_a_store_that_keeps_no_groups_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_STORE", "memory://")
    refused = run("link", "acme", "zeta", "--reason", "x")
    assert refused.exit_code == 2 and "memory:// is each process's own" in refused.stderr
    looked = run("groups")
    assert looked.exit_code == 0 and "cannot be seen from here" in looked.stderr
    monkeypatch.setenv("HEADGATE_STORE", "memcached://127.0.0.1:11211")
    assert "memcached://127.0.0.1:11211 keeps no groups; those of the policy are shown" in run("groups").stderr
    foreign = run("link", "acme", "zeta", "--reason", "x")
    assert foreign.exit_code == 2 and "keeps no groups" in foreign.stderr


def test_a_register_that_cannot_be_read_is_not_written_over(run: Run) -> None:
    documents = open_documents(STORE)
    assert asyncio.run(documents.swap("groups", "{", 0, b"x" * 16))
    for words in (["groups"], ["link", "acme", "zeta", "--reason", "x"]):
        refused = run(*words)
        assert refused.exit_code == 2 and refused.stdout == ""
        assert "the document `groups` cannot be read: it is torn" in refused.stderr
    assert asyncio.run(documents.read("groups")).body == "{"


def test_no_control_character_of_the_register_reaches_a_terminal(run: Run) -> None:
    run("link", "acme", "zeta", "--reason", "\x1b[2Jgone", "--actor", "\x07bell")
    found("acme", "zeta", evidence=(Evidence("payment", ("k_1",), 9.0, "\x1b[31mred"), EVIDENCE[0]))
    for words in (["groups"], ["groups", "show", "acme"]):
        said = run(*words)
        assert said.exit_code == 0 and "\x1b" not in said.stdout and "\x07" not in said.stdout


def test_a_link_that_a_later_word_overrules_is_marked(run: Run) -> None:
    run("link", "acme", "zeta", "--reason", "one invoice")
    assert "(overruled)" not in run("groups").stdout
    run("separate", "acme", "zeta", "--reason", "two firms", "--until", "2099-12-31")
    assert "(overruled)" in run("groups").stdout


def test_who_takes_back_that_an_org_left_is_told_a_command_that_works(run: Run) -> None:
    run("link", "acme", "zeta", "bigco", "--reason", "one invoice")
    assert run("unlink", "zeta", "--reason", "sold").exit_code == 0
    word = next(each for each in register().said if each.kind == "separate")
    said = run("separate", "--undo", word.id, "--reason", "not sold")
    assert said.stdout.splitlines()[-1] == 'Undo: headgate unlink zeta --reason "…"'
    assert run("unlink", "zeta", "--reason", "sold after all").exit_code == 0
