"""One operator's walk through a collection behind many keys: found by who goes on where another has stopped.

Law: time and place are the evidence. B starts exactly where A has just stopped, where nobody else reads, and neither
reads the other's pages: `relay`. Ranges that touch: `tiling`. Gaps that are filled: `holes`. A common odd step:
`stride`. What accounts share only adds to these.
"""

from headgate.linking.places.counts import Counts
from headgate.linking.places.groups import Groups
from headgate.linking.places.keys import Keys
from headgate.linking.places.pairs import Pairs
from headgate.linking.places.places import Places
from headgate.linking.places.readers import Readers
from headgate.linking.places.reading import Chances
from headgate.linking.places.scoring import Scores
from headgate.linking.places.stride import Strides
from headgate.linking.places.tiling import Runs, Tiling
from headgate.linking.places.units import Lanes
from headgate.linking.traits import Traits

STATE = (Places, Keys, Lanes, Runs, Readers, Chances, Counts, Pairs, Traits, Strides, Tiling, Scores, Groups)
"""The classes that a state of this half is made of (see `packed`)."""

__all__ = ["STATE", "Places"]
