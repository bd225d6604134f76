"""Reservation ids, made by headgate and never by a client.

Law: no two requests have the same id, whichever worker they reach, so that a ledger may take a repeated id for a
repeated command.
"""

from __future__ import annotations

import os
import secrets
from itertools import count


def new_id() -> bytes:
    """A reservation's id: 12 bytes drawn at random for this process and a counter of 4, which wraps after four
    billion requests, long after the first of them is forgotten.

    >>> len(new_id()), new_id() != new_id()
    (16, True)
    """
    return _epoch + (next(_numbers) & 0xFFFFFFFF).to_bytes(4, "big")


def _draw() -> None:
    global _epoch
    _epoch = secrets.token_bytes(12)


_numbers = count()
_epoch = secrets.token_bytes(12)
# A forked worker goes on with its parent's memory: without a draw of its own, two would make the same ids.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_draw)
