"""The slow path: what is seen of served requests, and what is found in it, beside the gate.

A request leaves a glimpse in a `ring`; `flushing` makes digests of it and puts parcels into a `stream`; one
`watcher` among all processes reads them, has them learnt from, and publishes what was found.
"""

from headgate.watch.beside import beside
from headgate.watch.eye import Eye
from headgate.watch.sight import watches
from headgate.watch.streams import open_stream
from headgate.watch.watcher import Watcher
from headgate.watch.watching import Watching

__all__ = ["Eye", "Watcher", "Watching", "beside", "open_stream", "watches"]
