"""Fits the numbers of headgate/linking/content/weights.py on labelled worlds. Needs numpy, scipy and scikit-learn.

    python benchmarks/linking/fit_content.py WORLD...

A world is a directory with `log.jsonl` and `labels.json`, as `headgate drill` writes it. Printed are the two stages,
as `weights.py` holds them, and how many pairs are right when 1, 3, 10, 30 and 100 are wrong, each judged by weights
that have not seen its operator. Three rules keep the weights from learning what only these worlds have:

- Every pair is shown twice, with what its accounts share and without, so that the rest can carry a decision alone.
- What two keys meet in over different templates, and what traits they share, may only speak for one operator; whole
  prompts that are alike and what a crowd shares only against (bounds on the signs). Products leave them out.
- An operator's pairs weigh as the root of their number: one with two hundred keys must not own the fit.

The odds of a group (CERTAINTY) are a logistic regression on `Groups.measures` of the groups found in other worlds.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from headgate.linking import Blind, Observation
from headgate.linking.content.content import Content
from headgate.linking.content.support import LOWEST, SUPPORT, support
from headgate.linking.content.weighing import CLIP, FEATURES

PRODUCTS = 70
"""Products of two that are chosen, of some five hundred: with more, unseen operators are judged worse."""

ELSEWHERE = ("question:", "clause:", "prompt:", "prompt_twice:", "name:")
RISING = (
    *ELSEWHERE,
    "template:beyond",
    "opening:beyond",
    "question_same:beyond",
    "traits:",
    "signup:",
    "prompt:share",
)
FALLING = ("whole:", "question_crowd", "question_same_crowd", "clause_crowd", "clause_same_crowd", "template_crowd")
TRAITS = 2  # the last numbers of FEATURES


class World:
    """What was weighed in a world, at the moments when it was: numbers, labels, keys, and when."""

    def __init__(self, folder: Path) -> None:
        labels = json.loads((folder / "labels.json").read_text())
        self.group = {key: name for name, group in labels["groups"].items() for key in group["keys"]}
        self.rows: list[list[float]] = []
        self.pairs: list[tuple[int, int]] = []
        self.when: list[int] = []
        self._content = content = Content()
        judging, now = content._judging, 0
        judging.judge = lambda pairs, at: self._weighed(pairs, now)  # type: ignore[method-assign]
        for now, observation in enumerate(observations(folder / "log.jsonl")):  # noqa: B007
            content.saw(observation)
        self.ids, self.org = content._meetings.keys.ids, content._meetings.keys.org
        groups = [(self.group.get(self.ids[a]), self.group.get(self.ids[b])) for a, b in self.pairs]
        self.true = np.array([one is not None and one == other for one, other in groups])
        told = [
            one if true else self.ids[a]
            for (one, _), (a, _b), true in zip(groups, self.pairs, self.true, strict=True)
        ]
        self.fold = np.array([zlib.crc32(str(name).encode()) & 1 for name in told])
        many = Counter(one for (one, _), true in zip(groups, self.true, strict=True) if true)
        self.weight = np.array(
            [many[one] ** -0.5 if true else 1.0 for (one, _), true in zip(groups, self.true, strict=True)]
        )

    def _weighed(self, pairs: Iterable[int], at: int) -> None:
        for pair in pairs:
            a, b = pair >> 22, pair & (1 << 22) - 1
            self.rows.append(self._content._judging.numbers(a, b))
            self.pairs.append((a, b))
            self.when.append(at)

    def supported(self, nats: np.ndarray) -> tuple[np.ndarray, list[int]]:
        """The numbers of SUPPORT for each row that is alike, with what was known at its moment."""
        near: dict[int, dict[int, float]] = defaultdict(dict)
        found, rows = [], []
        starts = [n for n, at in enumerate(self.when) if n == 0 or at != self.when[n - 1]]
        for start, end in pairwise([*starts, len(self.when)]):
            for n in range(start, end):
                a, b = self.pairs[n]
                if nats[n] > LOWEST:
                    near[a][b] = near[b][a] = nats[n]
                else:
                    near[a].pop(b, None), near[b].pop(a, None)
            for n in range(start, end):
                a, b = self.pairs[n]
                if nats[n] > LOWEST:
                    found.append(support(nats[n], near[a], near[b], self.org, a, b))
                    rows.append(n)
        return np.array(found).reshape(len(found), len(SUPPORT)), rows


def observations(log: Path) -> Iterable[Observation]:
    """A log's lines; those that are none are left out."""
    blind = Blind(b"of the fit")
    for line in log.open():
        try:
            said: dict[str, Any] = json.loads(line)
            at, key = int(float(said["ts"]) * 1e6), said["key"]
        except (ValueError, KeyError, TypeError):
            continue
        told = dict(said.get("traits") or {})
        made, joined = told.pop("signup_ts", None), told.pop("signup_ip", "")
        told.pop("plan", None)
        traits = [(name, blind(name, value)) for name, value in told.items() if value]
        traits += [("signup_network", value) for name, value in blind.network(joined) if name == "network"]
        traits += blind.network(said.get("ip") or "")
        traits.append(("client", blind("client", f"{said.get('user_agent')}|{said.get('ja4')}")))
        clauses, names = blind.prompt(said.get("prompt") or "")
        yield Observation(
            at,
            key,
            said.get("org") or "",
            said.get("status", 200) < 400,
            clauses=clauses,
            names=names,
            traits=tuple(traits),
            signup=int(float(made) * 1e6) if made else None,
        )


def fit_pairs(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> dict[str, Any]:
    """Stage 1: weights of `weighing.Weights`."""
    bare = x.copy()
    bare[:, -TRAITS:] = 0
    x, y, weight = np.vstack([x, bare]), np.r_[y, y], np.r_[weight, weight] / 2
    mean, spread = x.mean(0), x.std(0) + 1e-6
    ready = np.clip((x - mean) / spread, -CLIP, CLIP)
    places = [n for n, name in enumerate(FEATURES[:-TRAITS]) if not name.startswith(ELSEWHERE)]
    first, second = (np.array(side) for side in zip(*[(a, b) for a in places for b in places if a <= b], strict=True))
    all_ = np.hstack([ready, ready[:, first] * ready[:, second]])
    scaled = (all_ - all_.mean(0)) / (all_.std(0) + 1e-6)
    free = LogisticRegression(C=0.0003, max_iter=80).fit(scaled, y, weight).coef_[0][len(FEATURES) :]
    chosen = np.sort(np.argsort(-abs(free))[:PRODUCTS])
    first, second = first[chosen], second[chosen]
    all_ = np.hstack([ready, ready[:, first] * ready[:, second]])
    middle, wide = all_.mean(0), all_.std(0) + 1e-6
    each, start = bounded((all_ - middle) / wide, y, weight)
    each = each / wide
    return {
        "mean": mean,
        "spread": spread,
        "start": start - (each * middle).sum(),
        "each": each[: len(FEATURES)],
        "products": list(zip(first.tolist(), second.tolist(), each[len(FEATURES) :].tolist(), strict=True)),
        "usual": ready[~y].mean(0),
    }


def bounded(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
    """A logistic regression (C = 0.001) whose weights have the signs that they must have."""
    sign = np.where(y, 1.0, -1.0)

    def loss(v: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (x @ v[:-1] + v[-1])
        slope = -weight * sign / (1 + np.exp(np.clip(margin, -500, 500)))
        cost = (weight * np.logaddexp(0, -margin)).sum() + (v[:-1] ** 2).sum() / 0.002
        return cost, np.r_[x.T @ slope + v[:-1] / 0.001, slope.sum()]

    named = [*FEATURES, *[""] * (x.shape[1] - len(FEATURES))]
    bounds = [(0 if n.startswith(RISING) and n else None, 0 if n.startswith(FALLING) else None) for n in named]
    found = minimize(
        loss, np.r_[np.zeros(x.shape[1]), -3.0], jac=True, bounds=[*bounds, (None, None)], method="L-BFGS-B"
    )
    return found.x[:-1], float(found.x[-1])


def nats(fitted: dict[str, Any], x: np.ndarray) -> np.ndarray:
    """What stage 1 says of each row."""
    ready = np.clip((x - fitted["mean"]) / fitted["spread"], -CLIP, CLIP)
    total = ready @ fitted["each"] + fitted["start"]
    for one, other, weight in fitted["products"]:
        total = total + ready[:, one] * ready[:, other] * weight
    return total


def right_when_wrong(scores: np.ndarray, true: np.ndarray) -> str:
    """How many are right when so many are wrong, from the surest on."""
    wrong = np.cumsum(~true[np.argsort(-scores)])
    return ", ".join(f"{w}: {int(np.searchsorted(wrong, w)) - w + 1}" for w in (1, 3, 10, 30, 100))


def main(folders: list[str]) -> None:
    """Fits on the worlds and prints what goes into `weights.py`."""
    worlds = [World(Path(folder)) for folder in folders]
    x = np.vstack([world.rows for world in worlds])
    y, weight, fold = (np.concatenate([getattr(w, name) for w in worlds]) for name in ("true", "weight", "fold"))
    halves = [fit_pairs(x[fold == n], y[fold == n], weight[fold == n]) for n in (0, 1)]
    unseen = np.where(fold == 0, nats(halves[1], x), nats(halves[0], x))
    print("rows right, by pairs alone, when so many are wrong:", right_when_wrong(unseen, y))
    found, labels, at = [], [], 0
    for world in worlds:
        numbers, rows = world.supported(unseen[at : at + len(world.pairs)])
        found.append(numbers)
        labels.append(world.true[rows])
        at += len(world.pairs)
    numbers, true = np.vstack(found), np.concatenate(labels)
    second = LogisticRegression(C=0.3, max_iter=600).fit((numbers - numbers.mean(0)) / (numbers.std(0) + 1e-6), true)
    each = second.coef_[0] / (numbers.std(0) + 1e-6)
    start = float(second.intercept_[0] - (each * numbers.mean(0)).sum())
    print("… and with third keys:", right_when_wrong(numbers @ each + start, true))
    whole = fit_pairs(x, y, weight)
    print(json.dumps({name: np.asarray(value).tolist() for name, value in whole.items()}))
    print(json.dumps({"start": start, "each": each.tolist()}))


if __name__ == "__main__":
    main(sys.argv[1:])
