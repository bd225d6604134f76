"""The numbers of this half: how much each channel may say, how long it remembers, and when it is enough.

Law: every number that was chosen by looking at traffic stands here, and nowhere else. They were chosen on three
labelled worlds of simulated access to a data API (two with attacks, one without) and on four of `headgate drill`, and
read off three others; `benchmarks/linking/fit_places.py` says the figures anew, and what another value of any of them
would do. Evidence is in nats, time in seconds, distance in units (a unit is what one answer holds, see `units`).
"""

from __future__ import annotations

DAY = 86_400
HOUR = 3_600

# What is remembered.
REMEMBERED = DAY
"""How long a read counts as evidence: an operator's queue is worked off within a day, and catalogues are re-read."""
READS = 64
"""Units of a key that are remembered. The ends of its deep runs are, beyond these: ranges that touch, touch there."""
READERS = 6
"""Readers of a unit that are remembered, the latest: what more have read tells nothing of two of them."""
RUNS = 8
"""Runs of a key that are remembered, the latest grown."""
PAIRS = 32
"""Pairs of a key that are remembered, the strongest."""
STALE = DAY // 2
"""A pair that says next to nothing for as long is forgotten."""

# What is near.
REACH = 3
"""A relay may leave out two units: a search or a failure came between."""
REGION = 12
"""Letters (bits) of a number within one region: 4,096 items, some hours of one reader's work."""
PLACE = 32
"""Units of a place: where two who read the same chapter would meet by chance."""

# Crowds: what everybody reads tells nothing.
CROWD = 6
NEAR_CROWD = 10
FRESH = 120
"""In a crowd, only who has just stopped is looked at …"""
FRESH_FEW = 2
"""… if so few have …"""
THRONG = 25
"""… and it is no throng."""
COLD = 4
"""Reads of a unit, at most, of a place nobody goes to by chance (steps)."""
TILE_COLD = 3
"""The same for the ends of ranges."""

# Relay.
WARM = 1_800
"""At a log's beginning every reader seems to start where another was: nothing is said for as long."""
RELAY_LEAST = 0.3
"""More relays than these expected by chance are no news."""
RELAY_CAP = 9.0
RELAY_COST = 1.0
"""The price of having looked at three distances."""
REPEATED = 0.4
"""The share of ln h by which the h-th relay of a pair says less (see `places`). All of it would be right for relays
at a constant rate; the mean has grown from one to the next, so that less is."""
SPOT = 4
"""Units of a place at which a pair's relays count once: two who like one place come there again and again."""
LATE = 0.03
"""Keys that come in bursts, or by the clock, meet in time as well: that the other has just stopped says no more than
how few of its reads are as late."""
RELAY_OTHERS = 2.0
"""A start can be a relay from several; all but the nearest are one coincidence with it, and are worth little."""
RELAY_FULL = 2.5
"""A relay that says more than this counts for two hours or two places."""
QUIET = 3 * HOUR
"""A unit that a third has read so lately was to be read anyway: a class, a feed."""

# Holes.
HOLE_AGAIN = 0.12
"""The share of its own queue's units that an operator reads twice."""
HOLE_HOURS = 3 * HOUR
HOLE_READS = 4
"""Reads in a region before its holes are holes."""
HOLE_OPENS = 0.1
"""So much opens a pair; less is not worth its memory."""
OVERLAP_COST = 2.0
OVERLAP_OLD_CAP = 8.0
"""What was read by both at different times of a day, or by many: re-reading operators do so, too."""

# Tiling.
TILE_REACH = 6
TILE_RUN = 4
"""Units of a run, at least."""
TILE_ADD = 5.0
"""What the ends of two deep cold runs add: of those that meet by chance, most are shorter."""
TILE_CAP = 12.0
TILE_SHORT = ((6, -4.0), (8, -2.5), (12, -1.2))
"""Runs shorter than these are worth less. Of pairs whose ranges touch, the shorter run had 4 to 7 units in 250 of
four million unrelated pairs and in 25 of 800 true ones; 8 to 11 in 30 and 17; more in 10 and 39."""
TILE_LONG = 12
TILE_LONG_ADD = 1.0
TILE_FULL = 8.0
"""From here on, a tile is one of two deep runs, not a chance touch."""
TILE_AGAIN = 0.3
"""Who reads its own units again as often lives there: a tenant's rows lie between its neighbours' by nature."""
TILE_BOTH = 2
"""Units that both have read, at most, of a full tile: ranges that are shared out do not overlap."""
TILE_AWAY = 60
"""An end that touches counts when its reader has stayed away: else it is about to read on into it."""

# Stride.
STRIDE_LONGEST = 40_000
STRIDES = 4
STRIDE_CAP = 5.0
STRIDE_SAME = 0.4
STRIDE_FLOOR = 1e-3
STRIDE_HOLDERS = 24

# One pair, one key, one group.
PAIR_CAP = 16.0
MIXED = 0.25
"""The share of an operator's pairs that are expected to show anything: see `scoring.mixed`."""
HUB = 0.7
HOT = 3.5
"""From here on, a pair counts as one of its keys' partners."""
SUPPORT = 3.0
ORGS_LEAST = 200
PRIOR = 3.0
"""Added to ln(keys): the prior of a first pair."""
MEMBER = -1.6
"""Added to ln(keys): the prior of a further member of a group that is there."""
MARGIN = 3.0
OPEN = 4.0
OPEN_PLACES = 2.0
"""What a pair must say to be looked at, and how much of it by places: traits alone link nobody."""
STAY = 4.0
"""A member with less leaves."""
FIND = 12.0
FIND_TWO = 13.0
"""Mean support of its members from which a group is a finding, and that of two keys alone."""
BRIDGE = 0.7
"""The share of what two groups have in common that one key may hold at most if they are to become one."""
ROW = 4
ROW_ELSE = 4.0
"""Ranges alone make a finding from four in a row on: honest readers of whole collections leave two ends that touch,
and once or twice three. With fewer, relays and holes must say as much as this besides."""
KEEP = 7.0
"""A finding remains one down to here: no to and fro."""
APART = 6
"""From so many members on, who joins must have met the group in two hours or two places: see `groups`."""
SUREST = 0.985
"""No finding is surer: of the pairs in findings, as many were right in labelled worlds, however high the score."""
SURE = 0.955
"""A finding that has lost some support, but remains one."""
UNSURE = 0.94
"""A group that is no finding yet, at most."""
