"""Quantities, typed by us from their raw text: amounts, durations, rates, windows, shares.

Law: YAML types nothing. One form is right, every other is refused with the reason and, where it can be guessed, with
what was meant. Everything becomes integers: amounts in units, times in microseconds, shares in hundredths of a
percent, weights and probabilities in millionths. No amount passes 2^53 - 1, the most that every store counts exactly.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from headgate.nearest import nearest
from headgate.quota.balance import SAFE
from headgate.quota.calendar import UNITS

MICROSECONDS = {"s": 1_000_000, "m": 60_000_000, "min": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
"""Letters of durations. `m` is read as minutes and written `min`."""

MILLION = 1_000_000
"""Weights, factors and probabilities are counted in millionths."""

YEARS_TEN = 3_652 * MICROSECONDS["d"]
"""The longest duration. Anything longer is a `total`, or a mistake."""

_SUFFIX = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000, "T": 1_000_000_000_000}
_AMOUNT = r"(0|[1-9][0-9]{0,39})(?:\.([0-9]{1,12}))?([kMGT]?)"
_IS_AMOUNT = re.compile(_AMOUNT)
_IS_DURATION = re.compile(r"(0|[1-9][0-9]{0,9})(s|min|m|h|d)")
_IS_RATE = re.compile(r"([^/\s]+) ?/ ?([1-9][0-9]{0,9})?(s|min|m|h|d)")
_IS_QUOTA = re.compile(rf"([^/\s]+) ?/ ?([1-9][0-9]{{0,2}})?({'|'.join(UNITS)})(s?)")
_IS_PERCENT = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,2}))?%")
_IS_DECIMAL = re.compile(r"(0|[1-9][0-9]{0,8})(?:\.([0-9]{1,6}))?")
_NO_DECIMALS = {
    r"[0-9]+\.[0-9]{7,}": "at most six decimals are counted",
    r"[1-9][0-9]{9,}(\.[0-9]*)?": "999999999 is the most",
    r"[0-9]+(\.[0-9]+)?[kMGT]": "it is written out, without letters for thousands",
}
"""Numbers that are none of ours, and why."""

_WORD = re.compile(r"[a-zA-Z]+")


class Wrong(ValueError):
    """Text that is not what it should be: why, what could stand there instead, and another number than the usual."""

    def __init__(self, why: str = "", suggestion: str = "", number: str = "") -> None:
        super().__init__(why)
        self.why, self.suggestion, self.number = why, suggestion, number


class Every(NamedTuple):
    """`amount` units in every `period` microseconds. `loosely`: how a calendar word was read, "" for exactly."""

    amount: int
    period: int
    loosely: str = ""


class Window(NamedTuple):
    """`amount` units in every `every` calendar `unit`s."""

    amount: int
    every: int
    unit: str


def amount(text: str) -> int:
    """Units: decimal digits with `k`, `M`, `G` or `T` for thousand, million, …

    >>> amount("10k"), amount("1.5M")
    (10000, 1500000)
    """
    found = _IS_AMOUNT.fullmatch(text)
    if found is None:
        raise _amount_wrong(text)
    whole, part, suffix = found[1], found[2] or "", found[3]
    value, rest = divmod(int(whole + part) * _SUFFIX[suffix], int(10 ** len(part)))
    if rest:
        raise Wrong("what is counted has no fractions")
    if value > SAFE:
        raise Wrong("it passes 2^53 - 1, about 9000T, the most that is counted exactly", "unlimited", "HG311")
    return value


def _amount_wrong(text: str) -> Wrong:
    bare = text.replace("_", "").replace(",", "").replace(" ", "")
    lower = text.lower()
    if not text:
        return Wrong("nothing stands here")
    if lower in {".inf", "inf", "infinity", "+.inf", "unlimited", "none", "-1"}:
        return Wrong("what has no limit is written `unlimited`, and only as a limit's value", "unlimited")
    if bare != text and _IS_AMOUNT.fullmatch(bare):
        return Wrong("digits are written together", bare)
    if re.fullmatch(r"0[0-9]+", text):
        return Wrong("a leading zero makes it octal for some readers", text.lstrip("0") or "0")
    if re.fullmatch(r"0[xob][0-9a-f]+", lower):
        return Wrong("amounts are decimal")
    if re.fullmatch(r"[0-9.]{1,8}e[+]?[0-9]{1,2}", lower):
        whole = int(float(lower)) if float(lower) < SAFE else 0
        return Wrong("there are no exponents", spelled(whole) if whole else "")
    if re.fullmatch(r"[0-9]+(:[0-9]+)+", text):
        return Wrong("some readers take it for a number to the base of 60")
    if re.fullmatch(r"-[0-9].*", text):
        return Wrong("it cannot be negative", text[1:])
    if re.fullmatch(r"[0-9.]+K", text):
        return Wrong("a thousand is a small `k`", text[:-1] + "k")
    if re.fullmatch(r"[0-9.]+[mgt]", text):
        return Wrong("million, thousand million and so on are capitals: `M`, `G`, `T`", text.upper())
    if re.fullmatch(r"[0-9.]+ ?[kmgt]?i?b(ytes)?", lower):
        return Wrong("bytes are counted like everything else, in thousands: `k`, `M`, `G`")
    return Wrong()


def spelled(value: int) -> str:
    """An amount as a policy would write it.

    >>> spelled(2_000_000), spelled(1_500)
    ('2M', '1500')
    """
    for suffix, size in reversed(_SUFFIX.items()):
        if value and value % size == 0:
            return f"{value // size}{suffix}"
    return str(value)


def duration(text: str) -> int:
    """A length of time in microseconds: `10s`, `15min`, `1h`, `7d`.

    >>> duration("15min")
    900000000
    """
    found = _IS_DURATION.fullmatch(text)
    if found is None:
        raise _duration_wrong(text)
    return _length(int(found[1]), found[2])


def _length(count: int, letter: str) -> int:
    length = count * MICROSECONDS[letter]
    if not length:
        raise Wrong("it has no length")
    if length > YEARS_TEN:
        raise Wrong("it is longer than ten years")
    return length


_LETTERS = {"s": "s", "sec": "s", "secs": "s", "second": "s", "minute": "min", "mins": "min", "hr": "h", "hour": "h"}


def _duration_wrong(text: str) -> Wrong:
    found = re.fullmatch(r"([0-9]{1,9}) ?([a-z]+)", text)
    if found is None:
        if re.fullmatch(r"[0-9]+", text):
            return Wrong("it has no unit", text.lstrip("0") + "s")
        if re.fullmatch(r"[0-9]+\.[0-9]+.*", text):
            return Wrong("durations are whole: take the smaller unit")
        if re.fullmatch(r"[0-9]+(:[0-9]+)+", text):
            return Wrong("clock times are not read")
        return Wrong()
    count, word = int(found[1]), found[2]
    if word in {"w", "week", "weeks", "wk"}:
        return Wrong("weeks are written as days", f"{7 * count}d")
    if word in {"mo", "month", "months", "year", "years", "yr", "y"}:
        return Wrong("a month or a year has no fixed length: say how many days")
    if word in {"ms", "us"}:
        return Wrong("the smallest unit is the second")
    letter = _LETTERS.get(word) or _LETTERS.get(word.removesuffix("s")) or ("d" if word.startswith("day") else "")
    return Wrong("the letters are `s`, `min`, `h` and `d`", f"{count}{letter}" if letter else "")


def rate(text: str) -> Every:
    """`60/min`, `1k/s`, `100/2h`; or what the `limits` package reads: `60/minute`, `100 per 2 hours`.

    >>> rate("100/2h") == rate("100 per 2 hours")
    True
    """
    found = _IS_RATE.fullmatch(text)
    if found is not None:
        return Every(_by_time(text), _length(int(found[2] or 1), found[3]))
    return _limits_string(text)


def _by_time(text: str) -> int:
    """The amount of an amount by a time; what should have stood there keeps the time."""
    how_much, slash, time = text.partition("/")
    try:
        return amount(how_much.strip())
    except Wrong as wrong:
        suggestion = f"{wrong.suggestion}{slash}{time}" if wrong.suggestion != "unlimited" else "unlimited"
        raise Wrong(wrong.why, suggestion if wrong.suggestion else "", wrong.number) from None


def _limits_string(text: str) -> Every:
    # The guard is the package's own shape: its expression is not made for text from strangers.
    if len(text) > 80 or not re.fullmatch(r"[0-9]+ *(?:/|per) *[a-z0-9 /;,|]+", text, re.I):
        raise _per_wrong(text, "rate")
    from limits import parse_many  # a tenth of a second: only where such a string stands

    try:
        items = parse_many(text)
    except ValueError:
        raise _per_wrong(text, "rate") from None
    if len(items) > 1:
        raise Wrong("it holds several rates; every limit has one, and all that match apply: write one limit for each")
    [item] = items
    unit = item.GRANULARITY.name
    loosely = f"{item.get_expiry() // 86_400} days" if unit in {"month", "year"} else ""
    return Every(amount(str(item.amount)), _length(item.get_expiry(), "s"), loosely)


def _per_wrong(text: str, verb: str) -> Wrong:
    """What is wrong with an amount by a time."""
    how_much, slash, time = text.partition("/")
    how_much, time = how_much.strip(), time.strip()
    if not slash:
        only = _IS_AMOUNT.fullmatch(how_much)
        return Wrong("it does not say in what time", f"{text}/{_EXAMPLE[verb]}" if only else "")
    _by_time(text)
    number = "".join(c for c in time if c.isdigit())
    word = "".join(_WORD.findall(time)).lower().removesuffix("s") or "s"
    if verb == "rate":
        letter = _LETTERS.get(word) or {"day": "d"}.get(word, "")
        if word in UNITS and not letter:
            return Wrong(f"a rate runs in lengths of time; a calendar {word} is a quota's: `quota: {text}`")
        guess = letter or nearest(word, MICROSECONDS)
        return Wrong(
            f"there is no length of time `{time}`: the letters are `s`, `min`, `h` and `d`",
            f"{how_much}/{number}{guess}" if guess else "",
        )
    if verb == "rolling":
        days = {"week": 7, "month": 30, "year": 365}.get(word)
        meant = f"{days * int(number or 1)}d" if days else f"{number or 1}{_LETTERS.get(word) or word[:1]}"
        return Wrong("a trailing window has a length of time, not a calendar's word", f"{how_much}/{meant}")
    return _quota_wrong(how_much, number, word)


_EXAMPLE = {"rate": "min", "quota": "month", "rolling": "7d"}


def _quota_wrong(how_much: str, number: str, word: str) -> Wrong:
    if word in {"", "min", "minute", "second", "m", "sec"}:
        return Wrong("the calendar's shortest window is the hour; for less there are `rate` and `rolling`")
    if word in {"h", "d"} and number and int(number) > 1:
        span = f"{how_much}/{number}{word}"
        return Wrong(f"letters are lengths of time: a trailing window is `rolling: {span}`")
    unit = {"h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year", "yr": "year"}.get(word)
    unit = unit or nearest(word, UNITS)
    words = "the calendar's words are hour, day, week, month and year"
    return Wrong(words, f"{how_much}/{number}{unit}" if unit else "")


def quota(text: str) -> Window:
    """`1M/month`, `10k/2week`: an amount in every so many hours, days, weeks, months or years of the calendar.

    >>> quota("10k/2week")
    Window(amount=10000, every=2, unit='week')
    """
    found = _IS_QUOTA.fullmatch(text)
    if found is None or (found[4] and not found[2]):
        raise _per_wrong(text, "quota")
    every = int(found[2] or 1)
    if every > 100:
        raise Wrong("a window has at most 100 units of the calendar")
    return Window(_by_time(text), every, found[3])


def rolling(text: str) -> Every:
    """`2M/7d`: an amount in any trailing length of time."""
    found = _IS_RATE.fullmatch(text)
    if found is None:
        raise _per_wrong(text, "rolling")
    return Every(_by_time(text), _length(int(found[2] or 1), found[3]))


def percent(text: str) -> int:
    """A share in hundredths of a percent.

    >>> percent("12.5%")
    1250
    """
    found = _IS_PERCENT.fullmatch(text)
    if found is None:
        raise Wrong("a percent sign is missing", text + "%") if re.fullmatch(r"[0-9]{1,3}", text) else Wrong()
    share = int(found[1]) * 100 + int((found[2] or "").ljust(2, "0"))
    if share > 10_000:
        raise Wrong("it is more than all")
    return share


def whole_percent(text: str) -> int:
    """A percentage from 1 to 100, whole."""
    share = percent(text)
    if share % 100 or not share:
        raise Wrong("a whole percentage from 1% to 100% is meant")
    return share // 100


def decimal(text: str) -> int:
    """A number with at most six decimals, in millionths.

    >>> decimal("0.1")
    100000
    """
    found = _IS_DECIMAL.fullmatch(text)
    if found is None:
        raise Wrong(next((why for form, why in _NO_DECIMALS.items() if re.fullmatch(form, text)), ""))
    return int(found[1]) * MILLION + int((found[2] or "").ljust(6, "0"))


def bytes_a_token(text: str) -> int:
    """How many bytes of text are taken for a token, in millionths.

    >>> bytes_a_token("bytes/3.5")
    3500000
    """
    if text in {"tiktoken", "tokenizer", "sentencepiece", "transformers"}:
        raise Wrong("headgate brings no tokenizer: name a callable of yours that calls it")
    found = re.fullmatch(r"(bytes ?/ ?)?([0-9.]+)", text)
    if found is None:
        written = re.fullmatch(r"(?:chars?|characters?|letters?) ?/ ?([0-9.]+)", text)
        called = re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", text)
        said = f"bytes/{written[1]}" if written else f"python:{text}" if called else ""
        raise Wrong("bytes are counted, not characters" if written else "", said)
    value = decimal(found[2])
    if not MILLION <= value <= 16 * MILLION:
        raise Wrong("a token is taken for 1 to 16 bytes")
    if found[1] != "bytes/":
        raise Wrong("", f"bytes/{found[2]}")
    return value


def probability(text: str) -> int:
    """A probability between 0 and 1, neither included, in millionths."""
    if text.endswith("%") and _IS_PERCENT.fullmatch(text):
        raise Wrong("it is written as a number between 0 and 1", f"{percent(text) / 10_000:g}")
    value = decimal(text)
    if not 0 < value < MILLION:
        raise Wrong("it lies between 0 and 1")
    return value


def count(text: str) -> int:
    """A small whole number, at least 1."""
    if not re.fullmatch(r"[1-9][0-9]?", text):
        raise Wrong()
    return int(text)


def status(text: str) -> int:
    """An HTTP status of a refusal: 4xx or 5xx."""
    if not re.fullmatch(r"[45][0-9][0-9]", text):
        raise Wrong("a refusal has a status from 400 to 599")
    return int(text)
