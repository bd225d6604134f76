"""The whole state of linking as bytes, and back: for a process that must go on where another has stopped.

Law: no code comes out of bytes. A state is made of numbers, text, bytes, packed arrays, tuples, lists, deques, dicts
and sets of these, and of objects of classes that are named in a table; whatever else is met is a fault of the
program. A state carries a version, and one of another version is refused: what it would have known is learnt anew.

An object that several others refer to stays one object: each is written once and referred to by its number.
"""

from __future__ import annotations

import types
from array import array
from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

VERSION = 1

_PLAIN = (int, float, str, bytes, bool, type(None))


def packed(root: object, classes: Mapping[str, type]) -> bytes:
    """An object and all that hangs on it, as bytes.

    >>> class Point:
    ...     def __init__(self, x): self.x = x
    >>> unpacked(packed(Point({1: (2, "a")}), {"point": Point}), {"point": Point}).x
    {1: (2, 'a')}
    """
    names = {kind: name for name, kind in classes.items()}
    seen: dict[int, int] = {}
    kept: list[object] = []

    def put(value: Any) -> Any:
        if isinstance(value, _PLAIN):
            return value
        number = seen.get(id(value))
        if number is not None:
            return ["@", number]
        seen[id(value)] = len(seen)
        # Kept alive, so that no other object comes to have its number.
        kept.append(value)
        kind = type(value)
        if kind is array:
            return ["a", value.typecode, value.tobytes()]
        if kind in (list, tuple, deque, set, frozenset):
            items = sorted(value) if kind in (set, frozenset) else value
            return [kind.__name__, [put(item) for item in items]]
        if isinstance(value, dict):
            return ["d", [[put(key), put(item)] for key, item in value.items()]]
        if isinstance(value, types.MethodType):
            return ["m", put(value.__self__), value.__name__]
        if kind in names and isinstance(value, tuple):
            return ["n", names[kind], [put(item) for item in value]]
        if kind in names:
            return ["o", names[kind], [[name, put(item)] for name, item in _attributes(value)]]
        raise TypeError(f"a state holds no {kind.__name__}")

    return msgspec.msgpack.encode([VERSION, put(root)])


def unpacked(state: bytes, classes: Mapping[str, type]) -> Any:
    """What `packed` made bytes of.

    Raises `ValueError` for bytes that are broken or of another version.
    """
    found: dict[int, Any] = {}

    def get(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        tag = value[0]
        if tag == "@":
            return found[value[1]]
        number = len(found)
        found[number] = None
        made: Any
        if tag == "a":
            made = found[number] = array(value[1], value[2])
        elif tag in ("list", "deque"):
            made = found[number] = [] if tag == "list" else deque()
            made.extend(get(item) for item in value[1])
        elif tag in ("tuple", "set", "frozenset"):
            made = {"tuple": tuple, "set": set, "frozenset": frozenset}[tag]([get(item) for item in value[1]])
            found[number] = made
        elif tag == "d":
            made = found[number] = {}
            for key, item in value[1]:
                made[get(key)] = get(item)
        elif tag == "m":
            made = found[number] = getattr(get(value[1]), value[2])
        elif tag == "n":
            made = found[number] = classes[value[1]](*[get(item) for item in value[2]])
        else:
            kind = classes[value[1]]
            made = found[number] = object.__new__(kind)
            for name, item in value[2]:
                object.__setattr__(made, name, get(item))
        return made

    try:
        version, root = msgspec.msgpack.decode(state)
        if version != VERSION:
            raise ValueError(f"a state of version {version}, not {VERSION}")
        return get(root)
    except (msgspec.MsgspecError, KeyError, IndexError, TypeError, AttributeError, ValueError) as fault:
        raise ValueError(f"not a state of linking: {fault}") from fault


def _attributes(value: object) -> list[tuple[str, object]]:
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    named = [(name, getattr(value, name)) for name in slots if hasattr(value, name)]
    return [*named, *getattr(value, "__dict__", {}).items()]
