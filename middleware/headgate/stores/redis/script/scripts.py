"""The script, put together from the `.lua` files beside this one.

Law: one text, twice. Redis refuses a script that may write when its memory is full, unless the script says beforehand
that it is allowed to: so there is the usual one, and the same with that permission, for subjects that lie there
already (the overflow counts the others). A server knows a script by the digest of its text.

A server runs all of the text anew for each call, and making a function costs it half a microsecond. So what few calls
need stands within a function of its own, and is made when the first command comes that needs it:

| file | holds |
| --- | --- |
| `call` | what every call needs: the layout, what is known in one call |
| `plain` | a reservation as nearly every request makes it |
| `balance`, `gcra`, `window`, `holds`, `ledger` | the rest of the ledger; read them beside `headgate.quota` |
| `things`, `sketches` | different things: how they are counted, how they lie in Redis |
| `rows`, `wire` | how balances lie in Redis; how commands and outcomes are written |
| `merge`, `parcel` | what moves between subjects, in one slot and over several |
| `dispatch`, `run` | which command it is; the call from its begin to its end |
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple

LEDGER = ("balance", "gcra", "window", "rows", "holds", "wire", "ledger")
"""The files that make up `general`, in their order: each uses what stands before it."""

DISTINCT = ("things", "sketches")
"""Those that make up `distinct`, within `general`."""

MOVING = ("merge", "parcel")
"""Those that make up `movers`, within `general`."""


class Script(NamedTuple):
    """A script's text, and the digest by which a server knows it once it has it."""

    text: bytes
    sha: bytes


def assembled(parts: Mapping[str, str], flags: str = "") -> Script:
    """The script of these files. Its first line names the engine and the flags.

    >>> assembled(read(), "allow-oom").text.partition(b"\\n")[0]
    b'#!lua flags=allow-oom'
    """
    lines = [f"#!lua flags={flags}" if flags else "#!lua", parts["call"], parts["plain"], "local function general()"]
    lines += ["local function distinct()", *[parts[name] for name in DISTINCT], "end"]
    lines += [parts[name] for name in LEDGER]
    lines += ["local function movers()", *[parts[name] for name in MOVING], "end"]
    lines += [parts["dispatch"], "end", parts["run"], ""]
    text = "\n".join(lines).encode()
    return Script(text, sha1(text, usedforsecurity=False).hexdigest().encode())


def read() -> dict[str, str]:
    """The files' texts by their names, as they lie in the package."""
    here = files(__package__)
    names = ("call", "plain", *LEDGER, *DISTINCT, *MOVING, "dispatch", "run")
    return {name: (here / f"{name}.lua").read_text("utf-8").rstrip() for name in names}


SCRIPT = assembled(read())
"""For a server that has memory."""

SCRIPT_FULL = assembled(read(), "allow-oom")
"""For one that has none left; its first argument then says `full`."""
