"""`headgate groups`: who is judged to be one operator, how sure that is, and why.

Law: it reads and changes nothing. What is in force is worked out as the service does it, and what was found and is
not in force says why not. A group's confidence is shown as a sum that can be read, with what would exonerate.
"""

from __future__ import annotations

import json
import math
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.policies import Policies
from headgate.cli.registered import Registered, listed, no_group, opened
from headgate.cli.screen import plain, table

if TYPE_CHECKING:
    from headgate.quota.facts import Group
    from headgate.register import Linked, Said

COLUMNS = ("id", "state", "orgs", "keys", "confidence", "since", "by", "share")
NUMBERS = frozenset({"keys", "confidence"})

LOOKED_AT = 100
"""Groups whose usage is looked up."""

CERTAIN = 1e-9
"""How near to 0 and 1 a probability is shown as log odds at most."""

INNOCENT = {
    "payment": "one card pays for several clients of an agency: name it in `linking.ignore` (payment)",
    "device": "a device that many use: name it in `linking.ignore` (device)",
    "address": "a campus, an office or a carrier's NAT: name the network in `linking.ignore` (address)",
    "network": "a campus, an office or a carrier's NAT: name the network in `linking.ignore` (address)",
    "client": "the usual client software of a trade: name it in `linking.ignore` (software)",
    "software": "the usual client software of a trade: name it in `linking.ignore` (software)",
    "templates": "a published prompt, a course or a framework that all of them use: then other orgs use it, too",
    "questions": "a benchmark or an exercise that all of them work through: then the questions are public",
    "relay": "a walk through one listing at one time: then the pages are what the listing gives, in its order",
    "tiling": "tenants whose records lie beside each other: then each reads its own, and only those",
    "email_domain": "a free provider's domain, or that of an association: then many other orgs have it",
    "stride": "a usual page size or step: then other keys walk in it, too",
    "holes": "a collection that many read whole: then what one leaves out others leave out, too",
}
"""The innocent reading of a kind of evidence, and what would show it."""


class Format(StrEnum):
    """How it is written."""

    TEXT = "text"
    JSON = "json"


groups = typer.Typer(
    help="List the groups of linked orgs, and what speaks for each.",
    invoke_without_command=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@groups.callback()
def listing(
    context: typer.Context,
    format: Annotated[Format, typer.Option("--format", help="How it is written.")] = Format.TEXT,
    policies: Policies = None,
) -> None:
    """List the groups of linked orgs, and what people have said of orgs."""
    if context.invoked_subcommand is not None:
        return
    known = opened(policies, writes=False)
    rows = _rows(known)
    _share(known, rows)
    words = [each for each in known.register.said if each.active(known.now)]
    if format is Format.JSON:
        typer.echo(json.dumps({"groups": rows, "said": [_word(each, known) for each in words]}, indent=2))
        return
    if not rows and not words:
        typer.echo("no groups: each org has its limits to itself")
        return
    table(COLUMNS, [[_cell(name, row[name]) for name in COLUMNS] for row in rows], right=NUMBERS)
    if words:
        force = known.groups()
        typer.echo(("\n" if rows else "") + "Said by people, and not taken back:")
        for each in words:
            typer.echo(f"  {_told(each, known)}{_overruled(each, force)}")


@groups.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="GROUP", help="A group's id, or an org in it.")],
    policies: Policies = None,
) -> None:
    """Show what speaks for a group, as a sum from the prior to the confidence, and what would exonerate."""
    known = opened(policies, writes=False)
    rows = {row["id"]: row for row in _rows(known)}
    row = rows.get(name) or next((row for row in rows.values() if name in row["orgs"]), None)
    if row is None:
        former = next((group for group in known.register.past if group.id == name), None)
        if former is None:
            raise no_group(known, name, [*rows, *[org for row in rows.values() for org in row["orgs"]]])
        row = _row_of(known, former, {})
    typer.echo(f"{plain(row['id'])}  {row['state']}" + (f", since {row['since']}" if row["since"] else ""))
    typer.echo(f"  orgs  {listed(row['orgs'], 50)}")
    found = [group for group in (*known.register.groups, *known.register.past) if group.id in row["found"]]
    for group in found:
        _waterfall(known, group)
    about = set(row["orgs"])
    for each in known.register.said:
        if len(about.intersection((*each.orgs, *each.others))) > 1:
            typer.echo(f"  said  {_told(each, known)}")
    ids = {row["id"], *row["found"]}
    history = [change for change in known.register.changes if change.subject in ids]
    if history:
        typer.echo("What became of it")
        for change in reversed(history):
            when = _instant(change.at, known)
            typer.echo(
                plain(f"  {when}  {change.what} by {change.actor}" + (f": {change.reason}" if change.reason else ""))
            )


def _overruled(said: Said, force: dict[str, Group]) -> str:
    """What is to be added where a link is not in force, or not for all of its orgs: a later word goes before it."""
    together = {force[org].id if org in force else "" for org in said.orgs}
    return " (overruled)" if said.kind == "link" and (len(together) > 1 or "" in together) else ""


def _rows(known: Registered) -> list[dict[str, Any]]:
    """The groups in force, then what was found and is not."""
    force = known.groups()
    rows: dict[str, dict[str, Any]] = {}
    for group in sorted({id(each): each for each in force.values()}.values(), key=lambda group: group.id):
        rows[group.id] = _row_in_force(known, group)
    in_force = {id for row in rows.values() for id in row["found"]}
    for found in known.register.groups:
        if found.id not in in_force:
            rows.setdefault(found.id, _row_of(known, found, force))
    return list(rows.values())


def _share(known: Registered, rows: list[dict[str, Any]]) -> None:
    """What each group in force has used of the limit that it has used most of, where that is known."""
    import asyncio

    from headgate.errors import HeadgateError

    for row in rows:
        row["share"] = None
    if not known.there or not known.shared():
        return
    try:
        asyncio.run(_looked_up(known, [row for row in rows if row["state"] == "in force"][:LOOKED_AT]))
    except (HeadgateError, TimeoutError):
        return  # without a pepper, say: the groups are known all the same


async def _looked_up(known: Registered, rows: list[dict[str, Any]]) -> None:
    from headgate.cli.callers import of_org
    from headgate.service import Service

    service = Service(known.said)
    gate = service.prepare()
    try:
        await service.regroup()
        for row in rows:
            callers = [of_org(known.keys, org) for org in row["orgs"]] if known.keys is not None else []
            caller = next((each for each in callers if each is not None), None)
            seen = await gate.look(caller) if caller is not None else []
            shares = [
                ((now.used + now.held) / now.capacity, limit.id)
                for limit, now in seen
                if limit.per == ("group",) and now.capacity
            ]
            if shares:
                most, limit = max(shares)
                row["share"] = f"{most:.0%} of {limit}"
    finally:
        await service.stop()


def _row_in_force(known: Registered, group: Group) -> dict[str, Any]:
    from headgate.register.groups import rules_of
    from headgate.register.in_force import pooled_at

    rules = rules_of(known.policy)
    found = [
        each
        for each in known.register.groups
        if pooled_at(each, rules) <= known.now and len(group.orgs.intersection(each.orgs)) > 1
    ]
    words = [
        each for each in known.register.said
        if each.kind == "link" and each.active(known.now) and len(group.orgs.intersection(each.orgs)) > 1
    ]  # fmt: skip
    by = ["policy"] if any(group.id == named.id for named, end in known.policy.affiliated if known.now < end) else []
    by += sorted({each.actor for each in words}) + (["detector"] if found else [])
    begun = [each.since + (rules.pooled or 0) for each in found] + [each.at for each in words]
    return {
        "id": group.id,
        "state": "in force",
        "orgs": sorted(group.orgs),
        "keys": sum([len(each.members) for each in found]) or None,
        "confidence": max([each.confidence for each in found], default=None),
        "since": _instant(min(begun), known) if begun else None,
        "by": by,
        "found": [each.id for each in found],
    }


def _row_of(known: Registered, group: Linked, force: dict[str, Group]) -> dict[str, Any]:
    return {
        "id": group.id,
        "state": _why_not(known, group, force),
        "orgs": list(group.orgs),
        "keys": len(group.members),
        "confidence": group.confidence,
        "since": _instant(group.since, known),
        "by": ["detector"],
        "found": [group.id],
    }


def _why_not(known: Registered, group: Linked, force: dict[str, Group]) -> str:
    """Why what was found is not in force."""
    from headgate.quota.balance import FOREVER
    from headgate.register.groups import rules_of
    from headgate.register.in_force import kinds, pooled_at

    rules = rules_of(known.policy)
    if group.ended:
        return f"ended {_instant(group.ended, known)}: {plain(group.why)}"
    if group.state == "suspect":
        return "suspect"
    if len(group.orgs) < 2:
        return "linked; one org, which has its limits to itself anyway"
    if known.policy.linking is None:
        return "linked; not pooled: the policy has no `linking`"
    if rules.pooled is None:
        return "linked; not pooled: the ladder has no `pool`"
    if round(group.peak * 1_000_000) < rules.linked:
        return f"linked; not pooled: the policy asks for {rules.linked / 1_000_000:g}"
    if kinds(group.evidence) < rules.channels:
        return f"linked; not pooled: {kinds(group.evidence)} of {rules.channels} kinds of evidence"
    begins = pooled_at(group, rules)
    if known.now < begins < FOREVER:
        return f"linked; pooled from {_instant(begins, known)}"
    if any(org in force for org in group.orgs):
        return "linked; its orgs are in stronger groups"
    return "linked; kept apart"


def _waterfall(known: Registered, group: Linked) -> None:
    """From the prior to the confidence: log odds add up, in nats."""
    from headgate.register.groups import states_of

    linked = states_of(known.policy).linked / 1_000_000
    total = _log_odds(group.confidence)
    began = total - sum([item.weight for item in group.evidence])
    keys = sorted(group.members, key=lambda key: (group.members[key], key))
    typer.echo(f"  keys  {listed(keys, 50)}")
    typer.echo(f"What speaks for {group.id}, in nats (e-fold odds)")
    typer.echo(f"  {began:+8.2f}  where it begins: any keys at all, and what evidence of one kind says twice")
    weakest, without = "", 1.0
    for item in group.evidence:
        left = _probability(total - item.weight)
        if left < without:
            weakest, without = item.signal, left
        typer.echo(plain(f"  {item.weight:+8.2f}  {item.signal}: {item.detail}"))
        typer.echo(f"            {_rarity(item.weight)}; without it {left:.3f}")
    typer.echo(f"  {total:+8.2f}  confidence {group.confidence:.3f}")
    if weakest:
        stands = "it stands all the same" if without >= linked else f"under {linked:g}: it would not be linked"
        typer.echo(f"Its weakest link: without {weakest} it is {without:.3f}; {stands}")
        typer.echo("What would exonerate")
        for signal in dict.fromkeys(item.signal for item in group.evidence):
            if signal in INNOCENT:
                typer.echo(f"  {signal}: {INNOCENT[signal]}")
        typer.echo("  they have nothing to do with each other, and you know it:")
        typer.echo(plain(f'    headgate separate {" ".join(group.orgs[:8])} --reason "…" --until …'))


def _rarity(weight: float) -> str:
    """How common it is among keys that have nothing to do with each other: at most one in e^weight."""
    if weight <= 0:
        return "speaks for nobody"
    odds = math.exp(min(weight, 40.0))
    return (
        f"at most 1 in {odds:,.0f} unrelated pairs looks like that"
        if odds < 1e9
        else "no unrelated pair in 10^9 looks like that"
    )


def _log_odds(probability: float) -> float:
    bounded = min(max(probability, CERTAIN), 1 - CERTAIN)
    return math.log(bounded / (1 - bounded))


def _probability(log_odds: float) -> float:
    return 1 / (1 + math.exp(-max(min(log_odds, 40.0), -40.0)))


def _word(each: Said, known: Registered) -> dict[str, Any]:
    from headgate.quota.balance import FOREVER

    return {
        "id": each.id, "kind": each.kind, "orgs": list(each.orgs), "others": list(each.others),
        "reason": each.reason, "actor": each.actor, "at": _instant(each.at, known),
        "until": None if each.until >= FOREVER else _instant(each.until, known),
    }  # fmt: skip


def _told(each: Said, known: Registered) -> str:
    from headgate.quota.balance import FOREVER

    what = f"links {listed(each.orgs)}" if each.kind == "link" else f"keeps {listed(each.orgs)} apart"
    what += f" from {listed(each.others)}" if each.others else ""
    end = "" if each.until >= FOREVER else f" until {_instant(each.until, known)}"
    taken = f"; taken back by {each.ended_by} ({each.ended_why})" if each.ended else ""
    return plain(f"{each.id} {what}{end}: {each.reason} ({each.actor}, {_instant(each.at, known)}){taken}")


def _instant(at: int, known: Registered) -> str:
    from headgate.quota.explain import instant

    return instant(at, known.policy.zone)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name == "confidence":
        return f"{value:.3f}"
    return listed(value) if isinstance(value, list) else f"{value:,}" if isinstance(value, int) else plain(str(value))
