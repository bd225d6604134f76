"""`headgate init`: from an empty folder to a policy, a file of keys and a pepper.

Law: nothing that is there is replaced unless `--force` says so, and then only the policy: keys and pepper are never
replaced. Every file is named, whether it was made or found.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from headgate.errors import IdentityError

DEFAULT = "llm-api"
SCHEMA = "headgate-v1.schema.json"


def init(
    name: Annotated[str, typer.Argument(help="A ready-made policy: llm-api, data-api, per-key, …")] = DEFAULT,
    into: Annotated[Path, typer.Option("--into", help="The folder to write to; made if it is not there.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace headgate.yaml if it is there.")] = False,
) -> None:
    """Write a ready-made policy to headgate.yaml, with an empty keys.yaml and a pepper beside it."""
    from headgate.directory import issue
    from headgate.settings import made_pepper

    source = ready_made(name)
    policy, keys, pepper = into / "headgate.yaml", into / "keys.yaml", into / "headgate.pepper"
    text = source.read_text(encoding="utf-8")
    if policy.exists() and not force:
        raise IdentityError(f"{policy} is there already; --force replaces it (keys and pepper are never replaced)")
    try:
        into.mkdir(parents=True, exist_ok=True)
        policy.write_text(text, encoding="utf-8")
    except OSError as fault:
        raise IdentityError(f"{policy}: cannot be written: {fault.strerror}") from None
    _say(policy, True, f"the policy, from `{name}`")
    schema = into / SCHEMA
    if f"./{SCHEMA}" in text and not schema.exists():
        schema.write_bytes(source.with_name(SCHEMA).read_bytes())
        _say(schema, True, "what the policy's first lines name, for editors that complete and check YAML")
    _say(keys, issue.made(keys), "the keys: none, until `headgate key new`")
    _say(pepper, made_pepper(pepper), "the pepper: a secret; keep it, and keep it out of version control")
    typer.echo(_next(into, _first_plan(policy)))


def ready_made(name: str) -> Path:
    """The ready-made policy of a name. Raises IdentityError, with what there is, for one that there is not."""
    from headgate.nearest import suggestion

    folder = _folder()
    names = sorted(path.stem for path in folder.glob("*.yaml") if not path.stem.endswith(".test"))
    if name not in names:
        there = ", ".join(names) or "none in this installation"
        raise IdentityError(f"there is no ready-made policy `{name}`{suggestion(name, names)} (there are: {there})")
    return folder / f"{name}.yaml"


def _folder() -> Path:
    """Where the ready-made policies are: in the wheel inside the package, in a checkout beside the sources."""
    import headgate

    package = Path(headgate.__file__).parent
    inside = package / "policies"
    return inside if inside.is_dir() else package.parents[1] / "policies"


def _first_plan(policy: Path) -> str:
    from headgate.policy import check

    found = check(policy).policy
    return found.plans[0] if found is not None and found.plans else ""


def _say(path: Path, made: bool, what: str) -> None:
    typer.echo(f"made   {path}  {what}" if made else f"found  {path}  left as it is")


def _next(into: Path, plan: str) -> str:
    go = "" if into == Path() else f"cd {shlex.quote(str(into))} && "
    plan = f" --plan {plan}" if plan else ""
    return f"""
Next:
  1. {go}headgate check
     says what the policy does and what is wrong with it
  2. {go}headgate key new --org acme{plan} --into keys.yaml
     makes a key and prints its secret, once
  3. app.add_middleware(HeadgateMiddleware)
     is the one line for the app (from headgate import HeadgateMiddleware)"""
