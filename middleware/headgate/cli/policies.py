"""The policy that a command speaks of: found by its option, else by the settings.

Law: a command reads what the service would read, the same files, the same variables, the same mode.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.errors import IdentityError, PolicyError

if TYPE_CHECKING:
    from headgate.directory import KeysFile
    from headgate.policy import Policy
    from headgate.settings import Settings

Policies = Annotated[
    str | None,
    typer.Option(
        "--policies",
        help=f"The policy: a file or a folder, several joined by `{os.pathsep}`. Default: HEADGATE_POLICIES, or "
        "headgate.yaml.",
    ),
]


def settings(policies: str | None = None) -> Settings:
    """The settings, with the policy that an option names; a mistyped variable is told. Raises SettingsError."""
    from headgate.cli.screen import note
    from headgate.settings import Settings, unknown_variable

    found = Settings() if policies is None else Settings(policies=policies)
    for name in found.unknown():
        note(f"headgate: warning: {unknown_variable(name)}")
    return found


def base_of(paths: Sequence[Path]) -> Path:
    """The folder that file names in a policy are relative to: that of its first file."""
    return paths[0] if paths[0].is_dir() else paths[0].parent


def policy_of(settings: Settings) -> Policy:
    """The policy that the service would run. Raises PolicyError with the whole report, or what is missing."""
    from headgate.policy import load

    paths = settings.policy_paths()
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise PolicyError(f"{', '.join(missing)}: no such file; `headgate init` makes a policy, --policies names one")
    return load(paths, environ=os.environ, mode=settings.mode)


def keys_of(policy: Policy, settings: Settings) -> KeysFile | None:
    """The file of keys that a policy names, if it names one; None where the app answers for its keys itself."""
    from headgate.directory import PYTHON, KeysFile

    name = policy.identify.directory
    if not name or name.startswith(PYTHON):
        return None
    return KeysFile(base_of(settings.policy_paths()) / name, ())


def known_plan(policy: Policy, plan: str) -> None:
    """Raises IdentityError for a plan that the policy does not have."""
    from headgate.nearest import suggestion

    if policy.plans and plan not in policy.plans:
        known = ", ".join(policy.plans)
        what = f"has no plan `{plan}`{suggestion(plan, policy.plans)}" if plan else "needs a plan: say --plan"
        raise IdentityError(f"the policy `{policy.name}` {what} (there are {known})")
