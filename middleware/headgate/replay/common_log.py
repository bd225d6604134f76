"""Common and Combined Log Format: what Apache, nginx and most proxies write, read as entries.

    host ident user [10/Oct/2000:13:55:36 -0700] "GET /a.gif?x=1 HTTP/1.0" 200 2326 "referer" "agent"

Law: the same facts as a line of JSON gives, as far as they are there. The query is cut off the path, for it may hold
secrets. Nothing tells the key but the user; where there is none, the address stands for it (`ADDRESS` before it, for
whoever names keys: it is not to be shown).
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from functools import lru_cache

from headgate.quota.balance import SAFE
from headgate.replay.entry import EPOCH, LONGEST_NAME, MICROSECOND, Entry, Unfit

_parted = re.compile(
    r"(?P<host>\S+) \S+ (?P<user>.+?) \[(?P<time>[^\]]{20,32})\] "
    r'"(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) (?P<bytes>\d{1,15}|-)'
    r'(?: "(?:[^"\\]|\\.)*" "(?P<agent>(?:[^"\\]|\\.)*)")?'
).match

_timed = re.compile(r"(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)\Z").match

ADDRESS = "\0"
"""Begins the key of a line without a user: the address follows."""

MONTHS = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def is_common_log(line: bytes) -> bool:
    """Whether a line is one of Common Log Format; JSON never is.

    >>> is_common_log(b'192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 5'), is_common_log(b"{}")
    (True, False)
    """
    return _parted(line.decode("utf-8", "backslashreplace")) is not None


def entry_of(line: bytes, before: int | None = None) -> Entry:
    """The entry that a line is. Its key is the user, else `ADDRESS` and the address. Raises Unfit.

    >>> entry = entry_of(b'192.0.2.1 - ann [10/Oct/2000:13:55:36 -0700] "GET /a?b=c HTTP/1.0" 200 5 "-" "curl"')
    >>> entry.key, entry.method, entry.path, entry.status, entry.bytes_out, entry.user_agent
    ('ann', 'GET', '/a', 200, 5, 'curl')
    """
    found = _parted(line.decode("utf-8", "backslashreplace"))
    if found is None:
        raise Unfit("is empty" if not line.strip() else "is no line of Common Log Format")
    host, user, time, request, status, sent, agent = found.groups()
    if len(user) > LONGEST_NAME or len(host) > LONGEST_NAME:
        raise Unfit(f"its user or host is longer than {LONGEST_NAME} letters")
    method, _, rest = request.partition(" ")
    path = rest.rpartition(" ")[0] or rest
    return Entry(
        key=ADDRESS + host if user in {"-", '""'} else user,
        method=method if method.isalpha() else None,
        path=path.partition("?")[0] if path.startswith("/") else None,
        status=int(status),
        ip=host,
        user_agent=None if agent in {None, "-", ""} else agent,
        bytes_out=0 if sent == "-" else int(sent),
        at=_instant(time),
    )


@lru_cache(maxsize=1_024)  # many lines are of one second
def _instant(text: str) -> int:
    parted = _timed(text)
    month = MONTHS.index(parted[2]) if parted and parted[2] in MONTHS else 0
    if parted is None or not month:
        raise Unfit("its time is none")
    day, _, year, hour, minute, second, sign, hours, minutes = parted.groups()
    ahead = timedelta(hours=int(hours), minutes=int(minutes)) * (1 if sign == "+" else -1)
    try:
        # A leap second is the next one's beginning.
        at = datetime(
            int(year), month, int(day), int(hour), int(minute), min(int(second), 59), tzinfo=timezone(ahead)
        )
    except ValueError:
        raise Unfit("its time is none") from None
    found = (at - EPOCH) // MICROSECOND
    if not 0 <= found <= SAFE:
        raise Unfit("its time is none")
    return found
