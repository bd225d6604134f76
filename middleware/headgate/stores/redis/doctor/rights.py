"""What a user of the server must be allowed, and the line that allows exactly that.

Law: the least that headgate works with. A script may do no more than the user who runs it, so that what the scripts
call is read from their text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from headgate.stores.finding import Finding, Kind
from headgate.stores.redis.doctor.facts import BEGINNINGS, PATTERN, Facts, Right, Server, Shape

RIGHTS = Kind("rights", ("fault",), "What the user may not do fails when it is needed: then on_store_error decides.")

KINDS = (RIGHTS,)

CALLED = re.compile(r"\b(?:redis\.p?call|call)\s*\(\s*['\"]([A-Za-z]+)['\"]")
"""How a script names a command of the server."""

LOOKING = ("config|get", "slowlog|get", "scan", "pttl", "cluster|info", "cluster|nodes")
"""What `headgate doctor` reads besides. Without them it says what is not known."""

ALWAYS = (
    Right("evalsha", "EVALSHA x KEYS"),
    Right("eval", "EVAL x KEYS"),
    Right("ping", "PING"),
    Right("time", "TIME"),
    Right("info", "INFO"),
    Right("exists", "EXISTS KEY"),
    Right("xadd", "XADD KEY * p v"),
    Right("xread", "XREAD STREAMS KEY 0"),
    Right("xtrim", "XTRIM KEY MINID 0"),
)

REPLICATED = (Right("wait", "WAIT 1 1"),)

CLUSTERED = (Right("cluster|slots", "CLUSTER SLOTS"), Right("asking", "ASKING"))

ASK = b"""\
if not redis.acl_check_cmd then return redis.error_reply('ERR the server is older than Redis 7.0') end
local denied, keys = {}, {}
for key in string.gmatch(ARGV[1], '%S+') do keys[#keys + 1] = key end
for at = 2, #ARGV do
  local words = {}
  for word in string.gmatch(ARGV[at], '%S+') do
    if word == 'KEYS' then
      words[#words + 1] = #keys
      for _, key in ipairs(keys) do words[#words + 1] = key end
    else
      words[#words + 1] = word == 'KEY' and keys[1] or word
    end
  end
  local known, granted = pcall(redis.acl_check_cmd, unpack(words))
  if not (known and granted) then denied[#denied + 1] = ARGV[at] end
end
return denied
"""
"""A script that writes nothing: it asks the server what the user who runs it may do (Redis 7.0 and newer)."""

ASKED_FOR = b" ".join(beginning + b"doctor}" for beginning in BEGINNINGS)
"""The keys that are asked about, one of each kind; they are neither read nor written."""


def needed(shape: Shape, replicated: bool, scripts: str) -> tuple[Right, ...]:
    """What the store needs, with what is called in the text of its scripts.

    >>> [right.name for right in needed("single", False, "redis.call('HSET', KEYS[1])")][-2:]
    ['xtrim', 'hset']
    """
    asked = [*ALWAYS, *(REPLICATED if replicated else ()), *(CLUSTERED if shape == "cluster" else ())]
    known = {right.name for right in asked}
    called = sorted({found.upper() for found in CALLED.findall(scripts)} - {name.upper() for name in known})
    return (*asked, *(Right(name.lower(), f"{name} KEY") for name in called))


def line(rights: tuple[Right, ...], user: str = "") -> str:
    """The command that gives a user these rights, beside those that it has; or makes one that has no others.

    >>> line((Right("ping", "PING"),))
    "ACL SETUSER headgate reset on '>PASSWORD' '~h[deghlmnoprw]{*' +ping"
    >>> line((Right("ping", "PING"),), "shop")
    "ACL SETUSER shop '~h[deghlmnoprw]{*' +ping"
    """
    who = user or "headgate reset on '>PASSWORD'"
    return f"ACL SETUSER {who} '~{PATTERN}' " + " ".join(f"+{right.name}" for right in rights)


def rules(facts: Facts, server: Server) -> Iterator[Finding]:
    """What the user of the address may not do."""
    if server.denied:
        names = {right.words: right.name for right in facts.needs}
        yield RIGHTS.found(
            server.address,
            "the user may not do: " + ", ".join(names.get(words, words) for words in server.denied),
            line(facts.needs, facts.user),
        )
