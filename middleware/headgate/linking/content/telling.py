"""Why keys are held to be one operator's, in sentences and in nats that add up.

Law: a reviewer can add it up. The items of a group run from the prior to its confidence: what a pair of keys that has
nothing to do with each other starts from, what each kind of resemblance adds, what third keys say of it, and what the
group as a whole is worth. Each is the mean over the members' closest ties, and their sum is the logarithm of the odds
that the confidence stands for. Counts stand beside what is to be expected of unrelated keys that are as busy.
"""

from __future__ import annotations

from collections.abc import Sequence

from headgate.linking.content.groups import Group
from headgate.linking.content.judging import Judging
from headgate.linking.content.kinds import COUNTS, counts
from headgate.linking.content.weighing import FEATURES, expected
from headgate.linking.content.weights import PAIR
from headgate.linking.finding import Evidence

SIGNALS = {
    "question": "questions",
    "question_same": "questions",
    "prompt": "questions",
    "prompt_twice": "questions",
    "question_crowd": "questions",
    "question_same_crowd": "questions",
    "clause": "clauses",
    "clause_same": "clauses",
    "clause_crowd": "clauses",
    "clause_same_crowd": "clauses",
    "template": "templates",
    "opening": "templates",
    "template_crowd": "templates",
    "opening_crowd": "templates",
    "name": "names",
    "name_same": "names",
    "whole": "prompts",
    "prompts": "activity",
    "variety": "activity",
    "traits": "traits",
    "signup": "traits",
}
"""The signal that each number looked at belongs to."""

_SAID = {
    "questions": ("put the same questions into their prompts", ("question", "question_same")),
    "clauses": ("use clauses that few others use", ("clause", "clause_same")),
    "templates": ("share prompt templates", ("template", "opening")),
    "names": ("name the same things", ("name", "name_same")),
    "prompts": ("send whole prompts that are alike, as classes and benchmarks do", ("whole",)),
}
_FIELD = {name: place for place, name in enumerate(COUNTS)}


def told(judging: Judging, group: Group) -> tuple[Evidence, ...]:
    """The items of evidence for a group, the strongest first."""
    ids, org = judging.meetings.keys.ids, judging.meetings.keys.org
    ties = []
    for key in sorted(group.keys):
        inside = {o: n for o, n in judging.groups.ties.get(key, {}).items() if o in group.keys and org[o] != org[key]}
        if inside:
            other = max(inside, key=lambda one: (inside[one], -one))
            ties.append((key, other, inside[other]))
    if not ties:
        return ()
    sums: dict[str, float] = {}
    own = 0.0
    for a, b, _ in ties:
        numbers = judging.numbers(a, b)
        parts = PAIR.parts(numbers)
        for name, part in zip(FEATURES, parts[:-1], strict=True):
            signal = SIGNALS[name.partition(":")[0]]
            sums[signal] = sums.get(signal, 0.0) + part
        sums["prior"] = sums.get("prior", 0.0) + parts[-1]
        own += sum(parts)
    tied = sum([nats for _, _, nats in ties])
    sums["company"] = tied - own
    sums["group"] = group.held * len(ties) - tied
    keys = tuple(sorted(ids[key] for key in group.keys))
    items = [
        Evidence(signal, keys, nats / len(ties), _sentence(judging, signal, ties, group))
        for signal, nats in sums.items()
        if abs(nats) >= 0.005 * len(ties)
    ]
    return tuple(sorted(items, key=lambda item: (-item.weight, item.signal)))


def _sentence(judging: Judging, signal: str, ties: Sequence[tuple[int, int, float]], group: Group) -> str:
    keys, met = judging.meetings.keys, judging.meetings.met
    orgs = judging.groups.orgs(group.keys)
    if signal in _SAID:
        doing, names = _SAID[signal]
        seen = by_chance = 0.0
        for a, b, _ in ties:
            record = counts(judging.meetings.pairs.record(a << 22 | b if a < b else b << 22 | a))
            seen += sum([record[_FIELD[name]] for name in names])
            by_chance += sum([expected(_FIELD[name], keys, met, a, b) for name in names])
        return (
            f"{len(group.keys)} keys of {orgs} orgs {doing}: {seen / len(ties):.1f} in common of each and the key "
            f"closest to it; {by_chance / len(ties):.2f} would be expected of unrelated keys as busy."
        )
    if signal == "activity":
        prompts = sorted(keys.prompts[key] for key in group.keys)
        return f"They sent {prompts[0]} to {prompts[-1]} prompts each, of so many templates and clauses."
    if signal == "traits":
        return (
            "Their accounts and connections are alike or differ: traits weigh by how few unrelated orgs share them."
        )
    if signal == "company":
        return "Third keys are like both of two members: one operator ties many, a coincidence two."
    if signal == "group":
        return (
            f"How far {len(group.keys)} keys of {orgs} orgs hold together, against groups that came about by chance."
        )
    return (
        "What two keys start from that have met a few times, as busy keys do that have nothing to do with each other."
    )
