"""What linking says: which keys are one operator's, how sure that is, and why.

Law: a finding can be read. Each item of evidence names the keys that it is about, weighs in nats (natural logarithms
of how much likelier it is if one operator is behind them), and says in a sentence what was seen and what was to be
expected of keys that have nothing to do with each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Evidence(NamedTuple):
    """One measured resemblance of two keys or more.

    `signal`: its kind, one word (`templates`, `questions`, `relay`, `tiling`, `payment`, …); `weight` in nats;
    `detail`: a sentence for a reviewer, without any text, address or secret in it.
    """

    signal: str
    keys: tuple[str, ...]
    weight: float
    detail: str


class Finding(NamedTuple):
    """Keys that are judged to be one operator's.

    `members`: each key and the instant (microseconds) of the request after which it was among them; `confidence`: the
    probability that two of them, drawn at random, have one operator; `evidence`: the strongest first.
    """

    members: Mapping[str, int]
    orgs: tuple[str, ...]
    confidence: float
    evidence: tuple[Evidence, ...]
