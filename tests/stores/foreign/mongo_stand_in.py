"""A stand-in for MongoDB: it speaks the wire protocol, and knows the few commands that counters need.

`python mongo_stand_in.py` prints the port of 127.0.0.1 on which it listens, and keeps what it is told in memory. What
it shows is that the real client and the real `limits` are spoken to rightly; of a real server it shows nothing.
"""

from __future__ import annotations

import asyncio
import struct
from datetime import UTC, datetime
from typing import Any

from bson import CodecOptions, decode, encode

AWARE: CodecOptions[Any] = CodecOptions(tz_aware=True)
HELLO = {
    "ismaster": True, "isWritablePrimary": True, "helloOk": True, "maxBsonObjectSize": 2**24, "minWireVersion": 0,
    "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000, "maxWireVersion": 25, "readOnly": False,
}  # fmt: skip

held: dict[str, dict[str, dict[str, Any]]] = {}
"""Collections by name, each with its documents by id."""


def value(expression: Any, document: dict[str, Any]) -> Any:
    """An aggregation expression's value. A field that is not there is None."""
    match expression:
        case "$$NOW":
            return datetime.now(UTC)
        case str() if expression.startswith("$"):
            return document.get(expression[1:])
        case {"$cond": {"if": test, "then": one, "else": other}}:
            return value(one if value(test, document) else other, document)
        case {"$lt": [one, other]}:
            left, right = value(one, document), value(other, document)
            return left is None or left < right  # in BSON's order nothing stands before every date
        case {"$add": parts}:
            return sum(value(part, document) for part in parts)
        case dict():
            raise ValueError(f"not known here: {expression}")
    return expression


def matches(document: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a document meets a filter."""
    for field, test in wanted.items():
        there = document.get(field)
        match test:
            case {"$in": some}:
                met = there in some
            case {"$gte": least}:
                met = there is not None and there >= least
            case _:
                met = there == test
        if not met:
            return False
    return True


def answer(command: dict[str, Any]) -> dict[str, Any]:
    """What the server answers to a command."""
    name, of = next(iter(command.items()))
    match name.lower():
        case "hello" | "ismaster":
            return HELLO | {"localTime": datetime.now(UTC)}
        case "find":
            found = [doc for doc in held.get(of, {}).values() if matches(doc, command["filter"])]
            return {"cursor": {"firstBatch": found, "id": 0, "ns": f"limits.{of}"}}
        case "findandmodify":
            collection = held.setdefault(of, {})
            before = collection.get(command["query"]["_id"], dict(command["query"]))
            after = dict(before)
            for stage in command["update"]:
                after |= {field: value(expression, before) for field, expression in stage["$set"].items()}
            collection[after["_id"]] = after
            return {"value": after, "lastErrorObject": {"n": 1}}
        case "dropdatabase":
            held.clear()
        case "createindexes" | "ping" | "endsessions":
            pass
        case _:
            return {"ok": 0, "errmsg": f"no such command: {name}", "code": 59}
    return {}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One client, until it goes."""
    while True:
        try:
            length, request, _, kind = struct.unpack("<iiii", await reader.readexactly(16))
            body = await reader.readexactly(length - 16)
        except asyncio.IncompleteReadError:
            break
        # A handshake may come in the form of old; everything else is a message with one document.
        old = kind == 2004
        command = decode(body[body.index(b"\0", 4) + 9 :] if old else body[5:], AWARE)
        said = encode({"ok": 1, **answer(command)})
        told = struct.pack("<iqii", 8, 0, 0, 1) + said if old else struct.pack("<IB", 0, 0) + said
        writer.write(struct.pack("<iiii", 16 + len(told), 0, request, 1 if old else 2013) + told)
        await writer.drain()
    writer.close()


async def main() -> None:
    """Listen, and say where."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
