"""Under which keys a ledger lies in Redis, and which of them share a slot.

Law: a key tells nothing but digests. It begins with two letters that say what lies there, and has the tag in braces
of which a cluster makes the slot: 8 bytes of the subject's digest, the org's, so that what one request names lies
together.

| key | holds |
| --- | --- |
| `hg{tag}rest` | a subject's balances |
| `hh{tag}rest` | its holds |
| `hr{tag}rid` | a receipt |
| `hm{tag}rest` and a limit's name | a parcel that waits to be taken (see `parcel`) |
| `hd{tag}rest` and a limit's name | a sketch of different things |
| `hn{name}` | a document (see `documents`); it has no end |
| `he{shard}`, `hw{watch}name` | what was seen of requests, and what who watches keeps (see `headgate.watch.redis`) |
| `ho{tag}`, `hp{tag}`, `hl{tag}` and a limit's name | the same of the overflow: of the server, or of a slot |
"""

from __future__ import annotations

from binascii import crc_hqx
from functools import cache
from hashlib import blake2b

SLOTS = 16_384
"""Hash slots of a cluster; a key's is the CRC16 (XMODEM) of its tag modulo this (the cluster specification)."""

DIGEST = 16
"""Bytes of a subject that is a digest. Any other is digested first."""

WATCH = "watch"
"""The tag of all that who watches keeps."""

_SAFE = bytes.maketrans(b"{}", b"[]")
"""A tag ends at the first brace. Two tags may become one by this: they share a slot, and `rest` keeps them apart."""


def tag_of(subject: bytes) -> bytes:
    """What the keys of a subject share with those of the other subjects of its org.

    >>> tag_of(b"acme's--its key.") == tag_of(b"acme's--its org.") == b"acme's--"
    True
    """
    if len(subject) != DIGEST:
        subject = blake2b(subject, digest_size=DIGEST).digest()
    return subject[:8].translate(_SAFE)


def keys_of(subject: bytes) -> tuple[bytes, bytes]:
    """The keys of a subject's balances and of its holds.

    >>> keys_of(b"acme's--its key.")
    (b"hg{acme's--}its key.", b"hh{acme's--}its key.")
    """
    if len(subject) != DIGEST:
        subject = blake2b(subject, digest_size=DIGEST).digest()
    key = b"hg{%b}%b" % (subject[:8].translate(_SAFE), subject[8:])
    return key, holds_key(key)


def holds_key(key: bytes) -> bytes:
    """The key of the holds that belong to a key's balances: the second letter is the next one. The script makes it
    alike."""
    return b"h%c%b" % (key[1] + 1, key[2:])


def sketch_key(key: bytes, name: bytes) -> bytes:
    """The key of the sketch that belongs to a key's balances, of the limit with this name. The script makes it alike.

    >>> sketch_key(b"hg{acme's--}its key.", b"name")
    b"hd{acme's--}its key.name"
    """
    return b"h%c%b%b" % (key[1] - 3, key[2:], name)


def receipt_key(tag: bytes) -> bytes:
    """What the receipts of a tag begin with; the reservation's id follows."""
    return b"hr{%b}" % tag


def stream_key(shard: str) -> str:
    """The key of a shard of what was seen of requests, which has a slot of its own.

    >>> stream_key("0")
    'he{0}'
    """
    return f"he{{{shard}}}"


def watch_key(name: str) -> str:
    """The key of something that who watches keeps; all of them share a slot.

    >>> watch_key("lead")
    'hw{watch}lead'
    """
    return f"hw{{{WATCH}}}{name}"


def document_key(name: str) -> str:
    """The key of a document. Its name is its tag: each lies in a slot of its own.

    >>> document_key("groups")
    'hn{groups}'
    """
    return f"hn{{{name}}}"


def slot_of(tag: bytes) -> int:
    """The slot in which a tag's keys lie.

    >>> slot_of(b"123456789")    # the specification's own example
    12739
    """
    return crc_hqx(tag, 0) % SLOTS


def overflow_keys(tag: bytes | None) -> tuple[bytes, bytes]:
    """The keys at which those are counted that find no room, and their holds: of the slot of a tag, or of a server
    without slots.

    >>> overflow_keys(None)
    (b'ho{}', b'hp{}')
    >>> slot_of(overflow_keys(b"acme's--")[0][3:-1]) == slot_of(b"acme's--")
    True
    """
    key = b"ho{%b}" % (b"" if tag is None else _tags()[slot_of(tag)])
    return key, holds_key(key)


@cache
def _tags() -> dict[int, bytes]:
    """For each slot the first tag of two bytes, none of them a brace, that lies in it. Worked out once, in some 10
    milliseconds, by a worker of a cluster."""
    tags: dict[int, bytes] = {}
    for number in range(256 * 256):
        tag = number.to_bytes(2, "big")
        if tag == tag.translate(_SAFE):
            tags.setdefault(slot_of(tag), tag)
            if len(tags) == SLOTS:
                break
    return tags
