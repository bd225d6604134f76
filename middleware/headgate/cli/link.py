"""`headgate link`, `unlink`, `separate`: what a person says of orgs, and how it is taken back.

Law: nothing is said without a reason and a name, and nothing is rewritten. Each command tells what is other from now
on, worked out as the service will, and how to undo it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.policies import Policies
from headgate.cli.registered import Registered, asked, listed, named_orgs, no_group, opened
from headgate.cli.screen import note, plain
from headgate.errors import IdentityError

if TYPE_CHECKING:
    from headgate.quota.facts import Group
    from headgate.register import Register, Said

Orgs = Annotated[list[str] | None, typer.Argument(metavar="ORG…", help="Orgs, by their names.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it stays in the record.")]
Until = Annotated[str, typer.Option("--until", help="The last day on which it holds, or an instant.")]
Undo = Annotated[str, typer.Option("--undo", metavar="ID", help="Take back what was said under this id.")]
Actor = Annotated[str, typer.Option("--actor", help="Who says so; default: the login name.")]


def link(
    orgs: Orgs = None,
    reason: Reason = "",
    until: Until = "",
    undo: Undo = "",
    actor: Actor = "",
    policies: Policies = None,
) -> None:
    """Say that orgs are one customer: they share `per: group` limits within two seconds, on every worker."""
    known = opened(policies, writes=True)
    if undo:
        _take_back(known, undo, "link", orgs, reason, actor)
        return
    named = named_orgs(known, orgs or [])
    _not_against_the_policy(known, named)
    _say(known, "link", named, (), reason, actor, _end(until, known))


def separate(
    orgs: Orgs = None,
    reason: Reason = "",
    until: Until = "",
    undo: Undo = "",
    actor: Actor = "",
    policies: Policies = None,
) -> None:
    """Keep orgs apart: they are not linked until that day, even if the detector says so."""
    known = opened(policies, writes=True)
    if undo:
        _take_back(known, undo, "separate", orgs, reason, actor)
        return
    if not until:
        raise IdentityError("until when? --until 2027-06-30 (`headgate unlink` keeps apart without an end)")
    named = named_orgs(known, orgs or [])
    _not_declared(known, named)
    _say(known, "separate", named, (), reason, actor, _end(until, known))


def unlink(
    names: Annotated[
        list[str], typer.Argument(metavar="GROUP|ORG…", help="A group by its id, or orgs that leave theirs.")
    ],
    reason: Reason = "",
    until: Until = "",
    actor: Actor = "",
    policies: Policies = None,
) -> None:
    """Take a group apart, or orgs out of it; they are not linked again until this is undone, or that day."""
    known = opened(policies, writes=True)
    words = {each.id: each for each in known.register.said}
    if len(names) == 1 and names[0] in words:
        if words[names[0]].kind == "separate":
            raise IdentityError(f"{names[0]} keeps orgs apart; `headgate separate --undo {names[0]}` takes it back")
        _take_back(known, names[0], "link", None, reason, actor)
        return
    force = known.groups()
    by_id = {group.id: sorted(group.orgs) for group in force.values()}
    by_id |= {group.id: list(group.orgs) for group in known.register.groups if group.id not in by_id}
    if len(names) == 1 and names[0] in by_id and (names[0] not in force or force[names[0]].id == names[0]):
        named, others = tuple(by_id[names[0]]), tuple[str, ...]()
    elif len(names) > 1 and any(name in by_id and name not in force for name in names):
        raise IdentityError("one group at a time; or several orgs")
    else:
        named = _members(known, names, force, by_id)
        others = tuple(sorted({org for name in named for org in force[name].orgs} - set(named)))
    if len(named) + len(others) < 2:
        note(f"headgate: `{plain(names[0])}` has one org alone: there is nobody to unlink it from")
        raise typer.Exit(1)
    _not_declared(known, named, others)
    _say(known, "separate", named, others, reason, actor, _end(until, known))


def _members(
    known: Registered, names: Sequence[str], force: dict[str, Group], by_id: dict[str, list[str]]
) -> tuple[str, ...]:
    """Orgs that are in a group each. Ends with 1 where one is in none."""
    for name in names:
        if name not in force:
            if name in known.known_orgs():
                note(f"headgate: org `{plain(name)}` is linked to nobody now")
                raise typer.Exit(1)
            raise no_group(known, name, [*by_id, *known.known_orgs()])
    return tuple(dict.fromkeys(names))


def _say(
    known: Registered,
    kind: str,
    orgs: tuple[str, ...],
    others: tuple[str, ...],
    reason: str,
    actor: str,
    until: int,
) -> None:
    from headgate.ids import new_id
    from headgate.register.found import digest
    from headgate.register.said import spoken

    who, id = _actor(actor), ("l_" if kind == "link" else "s_") + digest(new_id().hex())

    def change(register: Register) -> Register:
        try:
            return spoken(
                register, "link" if kind == "link" else "separate", orgs,
                reason=_reason(reason), actor=who, at=known.now, until=until, others=others, id=id,
            )  # fmt: skip
        except ValueError as odd:
            raise IdentityError(str(odd)) from None

    after = asked(known.said, change)
    said = next(each for each in after.said if each.id == id)
    typer.echo(_told(said, known.policy.zone))
    _consequences(known, after, (*orgs, *others))
    undoing = "unlink" if kind == "link" else "separate --undo"
    typer.echo(f'Undo: headgate {undoing} {id} --reason "…"')


def _take_back(known: Registered, id: str, kind: str, orgs: Sequence[str] | None, reason: str, actor: str) -> None:
    from headgate.nearest import suggestion
    from headgate.register.said import undone

    if orgs:
        raise IdentityError("--undo takes back what was said under an id; it needs no orgs")
    words = {each.id: each for each in known.register.said if each.kind == kind}
    said = words.get(id)
    if said is None:
        note(
            f"headgate: nothing was said under `{plain(id)}`{suggestion(id, words)}; `headgate groups` lists what was"
        )
        raise typer.Exit(1)
    if said.ended:
        note(f"headgate: {id} was taken back already, by {plain(said.ended_by)}: {plain(said.ended_why)}")
        raise typer.Exit(1)
    why, who = _reason(reason), _actor(actor)
    after = asked(known.said, lambda register: undone(register, [id], reason=why, actor=who, at=known.now))
    typer.echo(f"{id} is taken back (it said: {plain(said.reason)}).")
    _consequences(known, after, (*said.orgs, *said.others))
    how, until = ("link", "") if kind == "link" else ("unlink", "") if said.others else ("separate", " --until …")
    typer.echo(f'Undo: headgate {how} {" ".join(said.orgs)} --reason "…"{until}')


def _told(said: Said, zone: str) -> str:
    from headgate.quota.balance import FOREVER
    from headgate.quota.explain import instant

    end = "until it is taken back" if said.until >= FOREVER else f"until {instant(said.until, zone)}"
    if said.kind == "link":
        return f"{said.id} links {listed(said.orgs)} {end}: {plain(said.reason)}"
    from_ = f" from {listed(said.others)}" if said.others else ""
    return f"{said.id} keeps {listed(said.orgs)} apart{from_} {end}: {plain(said.reason)}"


def _consequences(known: Registered, after: Register, orgs: Sequence[str]) -> None:
    """What is other from now on, as the service works it out."""
    before, now = known.groups(), known.groups(after)
    told: dict[str, None] = {}
    for org in orgs:
        was, is_ = before.get(org), now.get(org)
        if (was and was.orgs) == (is_ and is_.orgs):
            continue
        if is_ is not None:
            told[f"{listed(sorted(is_.orgs))} {_sharing(known)}"] = None
        else:
            told[f"{plain(org)} is by itself, with what it alone has used."] = None
    if told:
        typer.echo("From now on, within 2 s on every worker:")
        for line in told:
            typer.echo(f"  {line}")
    else:
        typer.echo("Nothing is other from now on: " + _why_nothing(before, now, orgs))


def _sharing(known: Registered) -> str:
    shared = known.shared()
    if not shared:
        return "are one group; the policy has no limit `per: group` that they would share."
    return f"share {', '.join(shared)}; what each has used so far counts."


def _why_nothing(before: dict[str, Group], now: dict[str, Group], orgs: Sequence[str]) -> str:
    together = {now[org].id for org in orgs if org in now}
    if len(together) == 1 and all(org in now for org in orgs):
        return f"they are in {plain(together.pop())} all the same."
    return "no two of them are together, before or after." if not together else "other entries decide."


def _not_against_the_policy(known: Registered, orgs: Sequence[str]) -> None:
    """Ends with 1 where the policy keeps two of them apart: it goes before what is said here."""
    from headgate.quota.explain import instant

    for entry in known.policy.linking.separate if known.policy.linking is not None else ():
        both = [org for org in orgs if org in entry.names]
        if len(both) > 1 and known.now < entry.until:
            end = instant(entry.until, known.policy.zone)
            note(
                f"headgate: the policy keeps {listed(both)} apart until {end} ({plain(entry.reason)}); "
                "change its `linking.separate`"
            )
            raise typer.Exit(1)


def _not_declared(known: Registered, orgs: Sequence[str], others: Sequence[str] = ()) -> None:
    """Ends with 1 where the policy declares two that would be kept apart to be one customer: it goes before what is
    said here."""
    for group, end in known.policy.affiliated:
        inside = [org for org in orgs if org in group.orgs]
        both = [*inside, *[org for org in others if org in group.orgs]]
        if inside and len(both) > 1 and known.now < end:
            note(f"headgate: the policy declares {listed(both)} one customer; change its `linking.affiliated`")
            raise typer.Exit(1)


def _reason(text: str) -> str:
    if not text.strip():
        raise IdentityError('why? --reason "one invoice, contract 2231" (it stays in the record)')
    return text.strip()


def _actor(text: str) -> str:
    import getpass

    if text.strip():
        return text.strip()
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in a container
        raise IdentityError("who says so? This user has no name: say --actor") from None


def _end(text: str, known: Registered) -> int:
    """The instant at which it ends: a date counts on its own day, in the policy's zone."""
    from datetime import date

    from headgate.directory.record import Unfit, instant
    from headgate.policy.values import end_of
    from headgate.quota.balance import FOREVER

    if not text:
        return FOREVER
    try:
        end = instant(text)
        if len(text) == len("2027-06-30"):
            end = end_of(date.fromisoformat(text), known.policy.zone)
    except Unfit as odd:
        raise IdentityError(f"--until {odd}") from None
    if end <= known.now:
        raise IdentityError("--until is past already")
    return end
