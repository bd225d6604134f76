"""`headgate usage`: what a key or an org has used, as the ledger has it now.

Law: it reads and charges nothing. It shows what `GET /headgate/v1/usage` shows the caller itself, limit by limit.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.callers import of_org
from headgate.cli.policies import Policies, keys_of, known_plan, policy_of, settings
from headgate.cli.screen import note, plain, table
from headgate.errors import IdentityError, StoreError

if TYPE_CHECKING:
    from headgate.directory import KeysFile
    from headgate.policy import Policy
    from headgate.quota.facts import Principal
    from headgate.settings import Settings

COLUMNS = ("limit", "per", "used", "held", "of", "left", "resets", "mode")
NUMBERS = frozenset({"used", "held", "of", "left"})


def usage(
    who: Annotated[str, typer.Argument(metavar="KEY|ORG", help="A key's public id, or an org's name.")],
    org: Annotated[str, typer.Option("--org", help="The key's org, where no file of keys tells it.")] = "",
    plan: Annotated[str, typer.Option("--plan", help="The plan, where no file of keys tells it.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    policies: Policies = None,
) -> None:
    """Show what a key or an org has used, under each limit: of an org, the limits that all its keys share."""
    from headgate.quota.explain import instant

    said = settings(policies)
    policy = policy_of(said)
    principal, whole = _principal(policy, keys_of(policy, said), who, org, plan)
    said = _store_there(said)
    rows = [row for row in asyncio.run(_looked(said, principal)) if whole or "key" not in row["per"].split("+")]
    shown_not = sorted({limit.id for limit in policy.limits} - {row["limit"] for row in rows})
    if shown_not:
        note(
            f"not shown: {', '.join(shown_not)} ({'unlimited, or' if whole else 'by key, unlimited, or'} by request)"
        )
    if as_json:
        shown = {
            "key": principal.key if whole else None,
            "org": principal.org,
            "plan": principal.plan,
            "limits": rows,
        }
        for row in rows:
            row["resets"] = row["resets"] and instant(row["resets"], "UTC").replace(" ", "T").replace("+00:00", "Z")
        typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    for row in rows:
        row["resets"] = row["resets"] and instant(row["resets"], policy.zone)
    table(COLUMNS, [[_cell(row[name]) for name in COLUMNS] for row in rows], right=NUMBERS)


def _principal(policy: Policy, keys: KeysFile | None, who: str, org: str, plan: str) -> tuple[Principal, bool]:
    """Whom to look for, and whether that is one key (else an org)."""
    from dataclasses import replace

    from headgate.nearest import suggestion
    from headgate.quota.facts import Principal

    if who.startswith("hg_"):
        raise IdentityError("a key is named by its public id (k_…), never by its secret")
    found, whole = (keys.principal(who), True) if keys is not None else (None, bool(org))
    if found is None and keys is not None:
        found, whole = of_org(keys, who), False
    if found is None and (org or plan):
        found, whole = Principal(who if org else "(any)", org or who), bool(org)
    if found is None:
        known = [*keys.table.orgs, *(e.principal.key for e in keys.table.entries)] if keys is not None else []
        where = f"{keys.path} has no key or org" if keys is not None else "the app answers for its keys itself:"
        note(f"headgate: {where} `{plain(who)}`{suggestion(who, known)}; --org and --plan say whose it is")
        raise typer.Exit(1)
    known_plan(policy, plan or found.plan)
    return replace(found, plan=plan or found.plan), whole


def _store_there(said: Settings) -> Settings:
    """The settings with a store to look into. A ledger that is not there yet is not made by looking: whoever looks
    may be another user than the service, which could then not write to it."""
    scheme, _, rest = said.store.partition(":///")
    if scheme == "sqlite" and not Path(rest).exists():
        note(f"headgate: note: {rest} is not there yet: nothing has been counted")
        return said.model_copy(update={"store": "memory://"})
    if said.store.startswith("memory://"):
        note("headgate: note: memory:// is each process's own: what the service counts cannot be seen from here")
    return said


async def _looked(said: Settings, principal: Principal) -> list[dict[str, Any]]:
    from headgate.quota.balance import FOREVER
    from headgate.quota.window import Max
    from headgate.service import Service

    service = Service(said)
    gate = service.prepare()
    try:
        await service.regroup()
        lines = {line.name: line for line in gate.tariff(principal).lines}
        seen = await gate.look(principal)
    except TimeoutError:
        raise StoreError("the store did not answer in time", transient=True) from None
    finally:
        await service.stop()
    return [
        {
            "limit": limit.id,
            "meter": limit.meter.name,
            "per": "+".join(limit.per),
            "verb": lines[limit.id].verb.kind,
            "used": now.used,
            "held": now.held,
            "of": now.capacity,
            "left": now.left,
            "resets": None if isinstance(lines[limit.id].verb, Max) or now.resets >= FOREVER else now.resets,
            "mode": "shadow" if lines[limit.id].shadow else "enforce",
        }
        for limit, now in seen
    ]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else plain(str(value))
