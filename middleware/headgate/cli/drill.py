"""`headgate drill`: labelled traffic of one's own, to see what policies and linking make of it.

Law: the same words make the same files, byte for byte. What was written is named, and so is the command that reads
it; a file that is there is replaced only by `--force`.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.errors import HeadgateError

if TYPE_CHECKING:
    from headgate.drill.world import World
    from headgate.drill.writing import Written


def drill(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write to; made if it is not there.")],
    kind: Annotated[
        str, typer.Option("--kind", help="`llm` (prompts and tokens) or `data` (items and records).")
    ] = "llm",
    seed: Annotated[int, typer.Option("--seed", help="The same seed, the same world.")] = 1,
    days: Annotated[float, typer.Option("--days", help="Length of the log.")] = 3.0,
    keys: Annotated[int, typer.Option("--keys", help="Keys, attackers and look-alikes among them.")] = 1500,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            "--attack", help="Scenarios: `baton`, `baton,hydra`, … (may come again); `all` by default, or `none`."
        ),
    ] = None,
    groups: Annotated[int, typer.Option("--groups", help="Groups of each scenario.")] = 1,
    size: Annotated[int | None, typer.Option("--size", help="Keys of each group; else drawn.")] = None,
    cover: Annotated[
        str | None,
        typer.Option("--cover", help="Share of an attacking key's requests that is ordinary use; else drawn."),
    ] = None,
    overlap: Annotated[
        str | None, typer.Option("--overlap", help="What a group's accounts share: none, low, high; else drawn.")
    ] = None,
    share: Annotated[
        str | None, typer.Option("--share", help="Share of a catalogue that a group is after; else drawn.")
    ] = None,
    jitter: Annotated[
        float | None, typer.Option("--jitter", help="Seconds by which an operator's work may wait; else drawn.")
    ] = None,
    duplicates: Annotated[
        str | None, typer.Option("--duplicates", help="Share of its requests for what it has already; else drawn.")
    ] = None,
    paraphrase: Annotated[str, typer.Option("--paraphrase", help="Share of prompts that are said anew.")] = "10%",
    rate: Annotated[float, typer.Option("--rate", help="Mean requests of a key a day.")] = 50.0,
    ids: Annotated[str, typer.Option("--ids", help="A data API's numbers: dense, mixed, opaque.")] = "mixed",
    look_alikes: Annotated[
        bool, typer.Option("--look-alikes/--no-look-alikes", help="Innocent families that look like attackers.")
    ] = True,
    traits: Annotated[
        bool, typer.Option("--traits/--no-traits", help="Tell traits of accounts, addresses and client software.")
    ] = True,
    malformed: Annotated[int, typer.Option("--malformed", help="Lines that cannot be read.")] = 10,
    name: Annotated[str, typer.Option("--name", help="The log's name; .gz and .zst pack it.")] = "log.jsonl",
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Write an access log with one operator behind many keys in it, and its labels."""
    from headgate.drill.world import Drill, attacks, world
    from headgate.drill.writing import write

    asked = Drill(
        kind=kind,
        seed=seed,
        days=days,
        keys=keys,
        attacks=attacks(kind, [name for names in attack or ["all"] for name in names.split(",")]),
        groups=groups,
        cover=_share("--cover", cover),
        overlap=overlap,
        size=size,
        share=_share("--share", share),
        jitter=jitter,
        duplicates=_share("--duplicates", duplicates),
        paraphrase=_share("--paraphrase", paraphrase) or 0.0,
        per_key=rate,
        ids=ids,
        look_alikes=look_alikes,
        traits=traits,
    )
    if name != Path(name).name or name in ("", "labels.json", "meta.json"):
        raise HeadgateError(f"--name is the log's name in {out}, and no path: {name}")
    there = [file for file in (out / name, out / "labels.json", out / "meta.json") if file.exists()]
    if there and not force:
        raise HeadgateError(f"{there[0]} is there already; --force replaces it")
    if not 0 <= malformed <= 100_000:
        raise HeadgateError("--malformed is from 0 to 100,000")
    made = world(asked)
    _say(made, write(made, out, name, malformed))


def _share(option: str, said: str | None) -> float | None:
    """A share as a person writes it: `30%` or `0.3`; None where nothing is said."""
    if said is None:
        return None
    try:
        return float(said[:-1]) / 100 if said.endswith("%") else float(said)
    except ValueError:
        raise HeadgateError(f"{option} is a share, as `30%` or `0.3`: {said}") from None


def _say(made: World, done: Written) -> None:
    members = sum(len(keys) for keys in made.members.values())
    alike = sum(len(keys) for _, keys in made.look_alikes.values())
    typer.echo(
        f"wrote  {done.log}  {done.events:,} requests of {len(made.orgs):,} keys in {_many(made.drill.days, 'day')}"
        + (f", and {_many(done.malformed, 'line')} that cannot be read" if done.malformed else "")
    )
    groups = f"{_many(len(made.members), 'group')} of {members} keys" if made.members else "no groups"
    typer.echo(f"wrote  {done.folder / 'labels.json'}  who is who: {groups}, {alike} keys that only look so")
    typer.echo(f"wrote  {done.folder / 'meta.json'}  what each group shares and took, and the plans")
    step = "" if Path("headgate.yaml").exists() else f"  headgate init {made.drill.kind}-api\n"
    typer.echo(f"\nNext:\n{step}  headgate replay {shlex.quote(str(done.log))} --policies headgate.yaml")


def _many(count: float, what: str) -> str:
    return f"{count:g} {what}" if count == 1 else f"{count:g} {what}s"
