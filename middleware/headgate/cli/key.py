"""`headgate key`: issue, list and revoke the keys of keys.yaml.

Law: a secret is printed once, alone on standard output, and stored nowhere: the file holds its keyed digest.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.policies import Policies, base_of, known_plan, policy_of, settings
from headgate.cli.screen import note, plain, table
from headgate.errors import PolicyError

if TYPE_CHECKING:
    from headgate.policy import Policy
    from headgate.settings import Settings

key = typer.Typer(
    help="Issue, list and revoke keys.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Into = Annotated[
    Path | None,
    typer.Option("--into", help="The file of keys. Default: the one that the policy names, else keys.yaml."),
]
From = Annotated[
    Path | None,
    typer.Option("--from", help="The file of keys. Default: the one that the policy names, else keys.yaml."),
]


@key.command("new")
def new(
    org: Annotated[str, typer.Option("--org", help="The customer that the key is for.")],
    plan: Annotated[
        str, typer.Option("--plan", help="The org's plan; for an org that has one, this key's own.")
    ] = "",
    into: Into = None,
    policies: Policies = None,
) -> None:
    """Issue a key: print its secret, once, and store its digest."""
    from headgate.directory import issue

    said = settings(policies)
    policy = _policy(said, required=policies is not None)
    file = into if into is not None else _file(policy, said)
    if policy is not None:
        known_plan(policy, plan or _plan_of(file, org))
    there = file.exists()
    issued = issue.issue(file, org, plan, said.peppers()[0], _today())
    typer.echo(issued.secret)
    made = "" if there else f" (made {file})"
    on = f" on plan {plain(issued.plan)}" if issued.plan else ""
    note(f"key {issued.key} of org {plain(org)}{on} is in {file}{made}. The secret above is shown this once.")
    if plan and not issued.new_org and issued.plan != _org_plan(file, org):
        note(f"note: org {plain(org)} is on plan {plain(_org_plan(file, org))}; this key alone has {plain(plan)}")


@key.command("list")
def listed(source: From = None, policies: Policies = None) -> None:
    """List the keys: public ids, orgs, plans and days, no secrets."""
    from headgate.directory import KeysFile

    said = settings(policies)
    file = source if source is not None else _file(_policy(said, required=policies is not None), said)
    entries = KeysFile(file, ()).table.entries
    if not entries:
        note(f"{file} has no keys; `headgate key new --org ORG` makes one")
    rows = [
        [e.principal.key, plain(e.principal.org), plain(e.principal.plan) or "-", e.created or "-", e.revoked or "-"]
        for e in entries
    ]
    table(("key", "org", "plan", "created", "revoked"), rows)


@key.command("revoke")
def revoke(
    key: Annotated[str, typer.Argument(help="The key's public id, such as k_3f9c21d07a55.")],
    source: From = None,
    policies: Policies = None,
) -> None:
    """Revoke a key: running services refuse it from their next look at the file on, a second later by default."""
    from headgate.directory import KeysFile, issue
    from headgate.nearest import suggestion

    said = settings(policies)
    file = source if source is not None else _file(_policy(said, required=policies is not None), said)
    known = [entry.principal.key for entry in KeysFile(file, ()).table.entries]
    if key not in known:
        what = "is a secret; a key is revoked by its public id" if key.startswith("hg_") else "is not there"
        shown = "that" if key.startswith("hg_") else f"`{plain(key)}`"
        note(f"headgate: {file}: {shown} {what}{suggestion(key, known)}")
        raise typer.Exit(1)
    if issue.revoke(file, key, _today()):
        note(f"key {key} is revoked in {file}")
    else:
        note(f"key {key} was revoked before; nothing is changed")


def _policy(said: Settings, *, required: bool) -> Policy | None:
    """The policy, if there is one that can be read: keys may be made before it is."""
    if not required and not all(path.exists() for path in said.policy_paths()):
        return None
    try:
        return policy_of(said)
    except PolicyError:
        if required:
            raise
        note(
            "headgate: warning: the policy cannot be used (see `headgate check`), so the plan is not looked up in it"
        )
        return None


def _file(policy: Policy | None, said: Settings) -> Path:
    from headgate.directory import PYTHON
    from headgate.errors import IdentityError

    if policy is None or not policy.identify.directory:
        return Path("keys.yaml")
    name = policy.identify.directory
    if name.startswith(PYTHON):
        raise IdentityError(f"the policy asks the app for its keys ({name}); --into or --from names a file")
    return base_of(said.policy_paths()) / name


def _org_plan(file: Path, org: str) -> str:
    from headgate.directory import KeysFile

    known = KeysFile(file, ()).table.orgs.get(org)
    return known.plan if known is not None else ""


def _plan_of(file: Path, org: str) -> str:
    return _org_plan(file, org) if file.exists() else ""


def _today() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).date().isoformat()
