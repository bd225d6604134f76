"""`headgate explain`: why a request is, or was, decided as it is.

Law: what is explained is what would be served: the request is read as the middleware reads it, the limits come from
the tariff that the gate decides by, and a decision comes from the event that told of it. Nothing is counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.callers import principal_of
from headgate.cli.policies import Policies, keys_of, policy_of, settings
from headgate.cli.registered import linked_now
from headgate.cli.screen import note, plain
from headgate.errors import IdentityError

if TYPE_CHECKING:
    from headgate.directory import KeysFile
    from headgate.policy import Policy
    from headgate.quota.facts import Call, Principal
    from headgate.settings import Settings

SHORTEST = 8
"""Letters of the shortest beginning of a decision's id that is looked for: fewer would find others' decisions."""

URN = "urn:headgate:decision:"
"""How a refusal's `instance` writes a decision's id; it may be pasted as it stands."""


def explain(
    what: Annotated[str, typer.Argument(metavar="METHOD|ID", help="A request's method, or a decision's id.")],
    path: Annotated[str | None, typer.Argument(help="The request's path, with its query.")] = None,
    key: Annotated[str, typer.Option("--key", help="The caller's key, by its public id.")] = "",
    org: Annotated[str, typer.Option("--org", help="The caller's org; default: as keys.yaml has it.")] = "",
    plan: Annotated[str, typer.Option("--plan", help="The caller's plan; default: as keys.yaml has it.")] = "",
    header: Annotated[list[str] | None, typer.Option("--header", "-H", help="A header, `n: v`.")] = None,
    ip: Annotated[str, typer.Option("--ip", help="The address that the request comes from.")] = "192.0.2.1",
    route: Annotated[str, typer.Option("--route", help="The router's template, such as /items/{id}.")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A tag of the caller.")] = None,
    body: Annotated[str, typer.Option("--body", help="The request's JSON body.")] = "",
    at: Annotated[str, typer.Option("--at", help="The instant, as 2027-01-31T22:59:00Z; default: now.")] = "",
    log: Annotated[Path | None, typer.Option("--log", help="The log to look in; default: HEADGATE_LOG.")] = None,
    policies: Policies = None,
) -> None:
    """Say what each limit makes of a request, or what was decided: `explain GET /v1/x --key k1`, `explain 3f2a…`."""
    if path is None:
        _decision(what.strip().removeprefix(URN).lower(), log, policies)
        return
    said = settings(policies)
    policy = policy_of(said)
    keys = _keys(policy, said, needed=not (org and plan)) if key or org else None
    principal = principal_of(policy, keys, key=key, org=org, plan=plan, tags=frozenset(tag or ()))
    if principal is None:
        typer.echo("refused with 401 before any limit: this policy serves nobody without a key (say --key or --org)")
        raise typer.Exit(1)
    call = _call(policy, principal, what, path, header or [], ip, route, body)
    _request(policy, call, _instant(at), said)


def _keys(policy: Policy, said: Settings, *, needed: bool) -> KeysFile | None:
    """The file of keys; a broken or missing one matters only where not all was said that it would tell."""
    try:
        return keys_of(policy, said)
    except IdentityError:
        if needed:
            raise
        return None


def _request(policy: Policy, call: Call, at: int | None, said: Settings) -> None:
    from headgate.clock import wall_clock
    from headgate.gate import Gate
    from headgate.quota.explain import described, explained
    from headgate.stores import open_store

    now = wall_clock() if at is None else at
    # The pepper decides where a balance lies and nothing else: none is needed to say which limits apply.
    gate = Gate(policy, open_store("memory://"), peppers=(b"explain",), clock=lambda: now)
    gate.tariffs.groups.take(linked_now(said))
    found = explained(policy.limits, policy.overrides, call, gate.tariff(call.principal), now)
    who = call.principal
    caller = f"key {who.key or '(none)'}, org {who.org}" if who.org else "anonymous"
    typer.echo(plain(f"{call.method} {call.paths[0]} by {caller}{f', plan {who.plan}' if who.plan else ''}"))
    if len(call.paths) > 1:
        typer.echo(plain(f"also matched as {', '.join(call.paths[1:])}"))
    charged = [one.limit.id for one in found if one.demand is not None]
    typer.echo(f"policy {policy.name}, mode {policy.mode}; charged: {', '.join(charged) or 'nothing'}")
    if policy.mode == "disabled":
        typer.echo("the policy is disabled: every request passes untouched")
    clauses = {clause.id: f"{clause.title} {clause.url}".strip() for clause in policy.clauses.values()}
    for one in sorted(found, key=lambda one: one.demand is None):
        typer.echo()
        for line in described(one, policy.zone, clauses):
            typer.echo(plain(line))


def _call(
    policy: Policy, principal: Principal, method: str, target: str, header: list[str], ip: str, route: str, body: str
) -> Call:
    """The request as the middleware would see it."""
    from urllib.parse import unquote

    from headgate.asgi.identify import Wire, intake
    from headgate.quota.identify import network_of

    if not method.isalpha():
        raise IdentityError(
            f"`{plain(method)}` is no method; write `headgate explain GET /path`, or a decision's id alone"
        )
    if not target.startswith("/"):
        raise IdentityError(f"`{plain(target)}` is no path; it begins with `/`")
    if network_of(ip) is None:
        raise IdentityError(f"--ip `{plain(ip)}` is no address")
    path, _, query = target.partition("?")
    scope: dict[str, Any] = {
        "type": "http",
        "method": method.upper(),
        "path": unquote(path),
        "query_string": query.encode(),
        "headers": [_header(text) for text in header],
        "client": (ip, 0),
    }
    call = Wire(principal, scope, intake(policy))
    call.route, call.body = route, _body(body) if body else None
    return call


def _header(text: str) -> tuple[bytes, bytes]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise IdentityError(f"--header `{plain(text)}` is no `name: value`")
    return name.strip().lower().encode("latin-1", "replace"), value.strip().encode("latin-1", "replace")


def _body(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise IdentityError("--body is no JSON object")
    return found


def _instant(text: str) -> int | None:
    from headgate.directory.record import Unfit, instant

    try:
        return instant(text) if text else None
    except Unfit as fault:
        raise IdentityError(f"--at {fault}") from None


def _decision(wanted: str, log: Path | None, policies: str | None) -> None:
    from headgate.errors import PolicyError
    from headgate.quota.explain import recounted

    if len(wanted) < SHORTEST or not all(letter in "0123456789abcdef" for letter in wanted):
        raise IdentityError(
            f"`{plain(wanted)}` is no decision's id ({SHORTEST} to 32 hex digits); of a request, say method and path"
        )
    said = settings(policies)
    file = log if log is not None else Path(said.log) if said.log not in {"", "stderr"} else None
    if file is None:
        raise IdentityError("which log? --log names it, or HEADGATE_LOG where events are written to a file")
    found = {event["decision"]: event for event in _events(file) if event["decision"].startswith(wanted)}
    if len(found) != 1:
        told = "is in" if not found else f"begins the ids of {len(found)} decisions in"
        note(f"headgate: {'no decision ' if not found else ''}{wanted} {told} {file}")
        if not found and said.log_level != "debug":
            note("headgate: note: served requests are told at HEADGATE_LOG_LEVEL=debug, refused ones at info")
        raise typer.Exit(1)
    try:
        zone = policy_of(said).zone
    except PolicyError:
        zone = "UTC"
    for line in recounted(next(iter(found.values())), zone):
        typer.echo(plain(line))


def _events(log: Path) -> Iterator[Mapping[str, Any]]:
    """The log's events that tell a decision. Lines of others, and lines that are no JSON, are passed over."""
    try:
        with log.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if '"decision"' not in line:
                    continue
                try:
                    event = json.loads(line[line.index("{") :])
                except (ValueError, RecursionError):
                    continue
                if (
                    isinstance(event, dict)
                    and event.get("event") in {"headgate.decision", "headgate.denied", "headgate.shadowed"}
                    and isinstance(event.get("decision"), str)
                ):
                    yield event
    except OSError as fault:
        raise IdentityError(f"{log}: cannot be read: {fault.strerror}") from None
