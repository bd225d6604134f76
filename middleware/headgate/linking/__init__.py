"""One operator behind many keys: what is looked at, how it is weighed, and when it is enough.

Law: observations in, findings out. Nothing here reads a clock, a file or a setting, or draws a lot, and no raw text,
address or secret comes in: `observation` makes digests of them first. What is said of an instant rests on what was
seen before it.
"""

from headgate.linking.finding import Evidence, Finding
from headgate.linking.observation import Blind, Observation

__all__ = ["Blind", "Evidence", "Finding", "Observation"]
