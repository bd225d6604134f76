"""What the detector finds, taken into the register.

Law: a group keeps its id while it keeps most of its keys, and what becomes of it is told. It is in at `linked` and
out below `OUT`: a confidence that trembles links nobody by turns. What a detector does not mention it has not taken
back: one that has just been started again knows little yet. So a group that is not found again ends after
`FORGOTTEN`; at once if most of its keys are found under `OUT`, if some are found in another group, or if the detector
says that these are all its findings (`whole`).

A publication that changes nothing that anybody acts on leaves the register as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from headgate.linking.finding import Evidence, Finding
from headgate.register.entries import DETECTOR, Change, Linked, Register, State, States
from headgate.register.in_force import WEIGHS

OUT = 600_000
"""Under this probability (millionths) a group that was linked is not linked any more."""

FORGOTTEN = 30 * 86_400_000_000
"""How long (microseconds) a group that is not found again stays: the half-life of what texts tell."""

CONFIRMED = 86_400_000_000
"""How old (microseconds) the last finding of an unchanged group may grow before it is written again."""

TREMBLES = 0.01
"""How much a confidence may move without being written."""

ITEMS, KEYS, LETTERS = 12, 8, 300
"""Items of evidence that are kept of a group, keys that are named in one, letters of what it says: the strongest say
it, and a group takes some 4 kB."""

PAST, CHANGES = 200, 200
"""Former groups and changes that are kept."""


class _Match(NamedTuple):
    """Where a finding comes from. `same`: it is that group still (or again)."""

    before: Linked
    same: bool


def published(
    register: Register, findings: Sequence[Finding], now: int, states: States, *, whole: bool = False
) -> Register:
    """The register after the detector has told its findings, a key in one at most, the strongest first.

    >>> finding = Finding({"k1": 5, "k2": 6}, ("a", "b"), 0.99, (Evidence("templates", ("k1", "k2"), 9.0, "…"),))
    >>> after = published(Register(), [finding], 7, States())
    >>> [(group.state, group.orgs, group.since) for group in after.groups], [change.what for change in after.changes]
    ([('linked', ('a', 'b'), 7)], ['linked'])
    >>> published(after, [finding], 8, States()) is after
    True
    """
    matches = _matches(findings, register)
    told: list[tuple[Linked, str, str]] = []  # a group as it is now, what became of it, and why
    groups: list[Linked] = []
    ended: list[Linked] = []
    taken: dict[str, str] = {}
    denied: dict[str, float] = {}
    matched: set[str] = set()
    for finding, match in zip(findings, matches, strict=True):
        before = match.before if match is not None and match.same and not match.before.ended else None
        state = _state(round(finding.confidence * 1_000_000), before.state if before is not None else None, states)
        if before is not None:
            matched.add(before.id)
        if state is None:
            if before is not None:
                ended.append(before._replace(ended=now, why=_fell(finding.confidence)))
            if finding.confidence * 1_000_000 < OUT:
                denied.update(dict.fromkeys(finding.members, finding.confidence))
            continue
        group = _grown(finding, match, before, state, now)
        taken.update(dict.fromkeys(group.members, group.id))
        groups.append(group)
        what = _became(before, group)
        if what:
            told.append((group, *what))
    for before in register.groups:
        if before.id not in matched:
            why = _over(before, taken, denied, now, whole=whole)
            if why:
                ended.append(before._replace(ended=now, why=why))
            else:
                groups.append(before)
    told += [(group, "ended", group.why) for group in ended]
    if not told and {id(group) for group in groups} == {id(group) for group in register.groups}:
        return register
    alive = {group.id for group in groups}
    past = (*ended, *[group for group in register.past if group.id not in alive])[:PAST]
    return register._replace(
        groups=tuple(groups),
        past=past,
        changes=(*[_change(*each, now) for each in told], *register.changes)[:CHANGES],
    )


def slimmed(register: Register) -> Register:
    """The register with what decides and little else: for one that would be too large. Of each kind of evidence there
    stays as much as makes it count.

    >>> items = [Evidence("templates", ("k1", "k2", "k3"), 9.0, "…"), Evidence("templates", ("k1", "k3"), 8.0, "…")]
    >>> finding = Finding({"k1": 5, "k2": 6, "k3": 6}, ("a", "b"), 0.99, tuple(items))
    >>> slimmed(published(Register(), [finding], 7, States())).groups[0].evidence
    (Evidence(signal='templates', keys=('k1', 'k2'), weight=9.0, detail='…'),)
    """
    groups = tuple([group._replace(evidence=_slim(group.evidence)) for group in register.groups])
    return register._replace(groups=groups, past=(), changes=register.changes[: CHANGES // 4])


def _slim(evidence: Sequence[Evidence]) -> tuple[Evidence, ...]:
    kept = [evidence[at] for at in _least(evidence)]
    return tuple([item._replace(keys=item.keys[:2], detail=item.detail[:100]) for item in kept])


def _least(evidence: Sequence[Evidence]) -> list[int]:
    """Which items make each kind count that does."""
    weights: dict[str, float] = {}
    kept: list[int] = []
    for at, item in enumerate(evidence):
        before = weights.get(item.signal, 0.0)
        if before < WEIGHS:
            kept.append(at)
        weights[item.signal] = before + item.weight
    return kept


def digest(*parts: str) -> str:
    """Twelve hex digits that stand for these texts."""
    whole = blake2b(digest_size=6)
    for part in parts:
        text = part.encode("utf-8", "surrogatepass")
        whole.update(len(text).to_bytes(4, "big") + text)
    return whole.hexdigest()


def _matches(findings: Sequence[Finding], register: Register) -> list[_Match | None]:
    """For each finding the group that it goes on with, if their keys are the same by half (Jaccard), or else the one
    that it has the most keys of. Each group goes on once, as the finding that is most like it; one that lives goes
    before one that has ended."""
    known = [*register.groups, *register.past]
    by_key: dict[str, list[int]] = {}
    for at, group in enumerate(known):
        for key in group.members:
            by_key.setdefault(key, []).append(at)
    shared: list[dict[int, int]] = []
    likeness: list[tuple[bool, float, int, int]] = []
    for number, finding in enumerate(findings):
        counts: dict[int, int] = {}
        for key in finding.members:
            for at in by_key.get(key, ()):
                counts[at] = counts.get(at, 0) + 1
        shared.append(counts)
        for at, both in counts.items():
            union = len(finding.members) + len(known[at].members) - both
            if 2 * both >= union:
                likeness.append((known[at].ended != 0, -both / union, at, number))
    same: dict[int, int] = {}
    gone_on: set[int] = set()
    for _, _, at, number in sorted(likeness):
        if number not in same and at not in gone_on:
            same[number] = at
            gone_on.add(at)
    found: list[_Match | None] = []
    for number, counts in enumerate(shared):
        if number in same:
            found.append(_Match(known[same[number]], True))
        elif counts:
            _, most = max([(both, -at) for at, both in counts.items()])
            found.append(_Match(known[-most], False))
        else:
            found.append(None)
    return found


def _state(confidence: int, before: State | None, states: States) -> State | None:
    if confidence >= states.linked or (before == "linked" and confidence >= min(OUT, states.linked)):
        return "linked"
    stays = before is not None and confidence >= min(OUT, states.suspect)
    return "suspect" if stays or confidence >= states.suspect else None


def _grown(finding: Finding, match: _Match | None, before: Linked | None, state: State, now: int) -> Linked:
    """The group that a finding makes, or makes of the one before."""
    earlier = match.before.members if match is not None and match.same else {}
    members = {key: min(at, earlier.get(key, at)) for key, at in finding.members.items()}
    orgs = tuple(sorted({org for org in finding.orgs if org}))
    if before is not None and _trembles(before, finding.confidence):
        same = (before.state, before.orgs, before.members.keys()) == (state, orgs, members.keys())
        if same and now - before.confirmed < CONFIRMED:
            return before
    stays = before is not None and before.state == state
    return Linked(
        id=match.before.id if match is not None and match.same else "g_" + digest(str(now), *sorted(members)),
        state=state,
        members=dict(sorted(members.items(), key=lambda item: (item[1], item[0]))),
        orgs=orgs,
        confidence=round(finding.confidence, 6),
        peak=round(max(finding.confidence, before.peak if stays and before is not None else 0.0), 6),
        evidence=_strongest(finding.evidence),
        since=before.since if stays and before is not None else now,
        confirmed=now,
        parent="" if match is None else match.before.parent if match.same else match.before.id,
    )


def _trembles(before: Linked, confidence: float) -> bool:
    return abs(before.confidence - confidence) < TREMBLES and confidence < before.peak + TREMBLES / 5


def _strongest(evidence: Sequence[Evidence]) -> tuple[Evidence, ...]:
    """The first items, in their order; and of each kind as many as make it count, wherever they stand."""
    needed = _least(evidence)
    first = list(range(min(ITEMS, len(evidence))))
    rest = [at for at in needed if at >= ITEMS]
    spare = [at for at in first if at not in needed]
    dropped = set(spare[max(0, len(spare) - len(rest)) :] if rest else ())
    return tuple([_short(evidence[at]) for at in [*[at for at in first if at not in dropped], *rest]])


def _short(item: Evidence) -> Evidence:
    return Evidence(item.signal, tuple(item.keys[:KEYS]), round(float(item.weight), 3), item.detail[:LETTERS])


def _became(before: Linked | None, group: Linked) -> tuple[str, str] | None:
    """What became of a group, and why; None where nothing did that is to be told."""
    strongest = group.evidence[0].detail if group.evidence else ""
    if before is None or before.state != group.state:
        return ("linked" if group.state == "linked" else "suspected"), strongest
    more = [key for key in group.members if key not in before.members]
    fewer = [key for key in before.members if key not in group.members]
    if more or fewer or before.orgs != group.orgs:
        parts = [f"{len(more)} keys joined" if more else "", f"{len(fewer)} keys left" if fewer else ""]
        return ("grown" if more else "shrunk"), ", ".join(part for part in parts if part) or "other orgs"
    return None


def _fell(confidence: float) -> str:
    return f"its confidence fell to {confidence:.2f}"


def _over(group: Linked, taken: dict[str, str], denied: dict[str, float], now: int, *, whole: bool) -> str:
    """Why a group that was not found again is over; "" while it is not. `taken`: which group each key is found in
    now; `denied`: keys that are found in none, and how likely."""
    into = [taken[key] for key in group.members if key in taken]
    if into:
        return f"its keys are found in {max(dict.fromkeys(into), key=into.count)}"
    unlikely = [denied[key] for key in group.members if key in denied]
    if 2 * len(unlikely) >= len(group.members):
        return _fell(max(unlikely))
    if whole:
        return "it is not found any more"
    return "it has not been found again for 30 days" if now - group.confirmed >= FORGOTTEN else ""


def _change(group: Linked, what: str, why: str, now: int) -> Change:
    return Change("e_" + digest(str(now), what, group.id), now, DETECTOR, what, group.id, group.orgs, why)
