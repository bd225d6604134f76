"""The kinds of scalars, each with its name, its form in words, its reader and its JSON Schema.

Law: the schema never refuses what the reader takes. It is for editors, which see YAML's types and not the raw text,
so it may be laxer; the reader is what counts.
"""

from __future__ import annotations

from typing import Any

from headgate.policy import literals, words
from headgate.policy.shape import Kind

_AMOUNT = r"(0|[1-9][0-9]*)(\.[0-9]+)?[kMGT]?"
_DURATION = r"[1-9][0-9]*(s|min|m|h|d)"
_TIME = r"[1-9]?[0-9]*(s|min|m|h|d)"
_NAME = r"[a-z][a-z0-9_-]{0,63}"
_SOURCE = r"(header|query|path|body|claim|trait)\.[A-Za-z0-9_.-]+"


def _text(pattern: str = "", **more: Any) -> dict[str, Any]:
    return {"type": "string", **({"pattern": f"^(?:{pattern})$"} if pattern else {}), **more}


def _number_or(pattern: str, *, least: int = 0, below: int = 0) -> dict[str, Any]:
    number: dict[str, Any] = {"type": "number", "minimum": least}
    return {"anyOf": [number | ({"exclusiveMaximum": below} if below else {}), _text(pattern)]}


VERSION = Kind(
    "version", "a version of the language", "`v1`", "HG211", {"const": "v1"}, lambda text: _version(text)
)  # fmt: skip


def _version(text: str) -> str:
    if text != "v1":
        raise literals.Wrong("this headgate reads v1", "v1")
    return text


AMOUNT = Kind(
    "amount", "an amount", "digits, with `k`, `M`, `G` or `T` for thousand, million and so on: `8`, `20k`, `1.5M`",
    "HG301", _number_or(_AMOUNT), literals.amount,
)  # fmt: skip
DURATION = Kind(
    "duration", "a duration", "a whole number and `s`, `min`, `h` or `d`: `10s`, `15min`, `1h`, `7d`",
    "HG302", _text(_DURATION), literals.duration,
)  # fmt: skip
RATE = Kind(
    "rate", "a rate", "an amount in a length of time: `60/min`, `1k/s`, `100/2h`",
    "HG303", _text(rf"{_AMOUNT} ?/ ?{_TIME}|[0-9]+ *(/|[pP][eE][rR]) *[A-Za-z0-9 /]+"), literals.rate,
)  # fmt: skip
QUOTA = Kind(
    "quota", "a quota", "an amount in a window of the calendar: `1M/month`, `10k/day`, `5k/2week`",
    "HG304", _text(rf"{_AMOUNT} ?/ ?([1-9][0-9]*)?(hour|day|week|month|year)s?"), literals.quota,
)  # fmt: skip
ROLLING = Kind(
    "rolling", "a rolling limit", "an amount in any trailing length of time: `2M/7d`, `100/15min`",
    "HG305", _text(rf"{_AMOUNT} ?/ ?{_TIME}"), literals.rolling,
)  # fmt: skip
PERCENT = Kind(
    "percent", "a percentage", "a number from 0 to 100 and `%`: `10%`, `0.5%`",
    "HG306", _text(r"[0-9]{1,3}(\.[0-9]{1,2})?%"), literals.percent,
)  # fmt: skip
WHOLE_PERCENT = Kind(
    "whole percentage", "a whole percentage", "a number from 1 to 100 and `%`: `80%`",
    "HG306", _text(r"[0-9]{1,3}(\.0+)?%"), literals.whole_percent,
)  # fmt: skip
DATE = Kind(
    "date", "a date", "year, month and day: `2027-06-30`; the day itself still counts",
    "HG307", _text(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"), words.day,
)  # fmt: skip
NETWORK = Kind(
    "network", "a network", "an address or a range in CIDR form: `198.51.100.0/24`, `2001:db8::/32`",
    "HG308", _text(), words.network,
)  # fmt: skip
SOURCE = Kind(
    "source", "a source", "`header.X`, `query.X`, `path.X` (route parameter), `body.X`, `claim.X` or `trait.X`",
    "HG309", _text(_SOURCE), words.source,
)  # fmt: skip
CREDENTIAL = Kind(
    "credential source", "a place of a credential", "`header.NAME`, or `header.authorization.bearer`",
    "HG309", _text(r"header\..+"), words.credential_source,
)  # fmt: skip
HEADER_SOURCE = Kind(
    "header source", "a header of the request", "`header.NAME`",
    "HG309", _text(r"header\..+"), words.header_source,
)  # fmt: skip
HEADER = Kind("header", "a header's name", "such as `x-forwarded-for`", "HG309", _text(), words.header_name)
ZONE = Kind(
    "zone", "a time zone", "a name of the IANA data base: `UTC`, `Europe/Berlin`", "HG312", _text(), words.zone
)  # fmt: skip
DECIMAL = Kind(
    "decimal", "a number", "digits, with up to six decimals: `4`, `0.1`",
    "HG313", _number_or(r"[0-9]+(\.[0-9]+)?"), literals.decimal,
)  # fmt: skip
PROBABILITY = Kind(
    "probability", "a probability", "a number between 0 and 1: `0.97`",
    "HG313", _number_or(r"0\.[0-9]+", below=1), literals.probability,
)  # fmt: skip
COUNT = Kind(
    "count", "a count", "a whole number from 1 to 99",
    "HG313", _number_or(r"[1-9][0-9]?", below=100), literals.count,
)  # fmt: skip
STATUS = Kind(
    "status", "an HTTP status", "three digits: `429`, `403`",
    "HG318", _number_or(r"[45][0-9][0-9]", least=400, below=600), literals.status,
)  # fmt: skip
URL = Kind(
    "url", "a web address", "such as `https://acme.example/terms#4.2`", "HG314", _text(r"https?://.+"), words.url
)
TEXT = Kind("text", "text", "a few words, in quotes if need be", "HG319", _text(), words.text, words=True)
NAME = Kind(
    "name", "a name", "small letters, digits, `_` and `-`, beginning with a letter, at most 64 of them",
    "HG210", _text(_NAME), words.name,
)  # fmt: skip
PLAN_OR_DEFAULT = Kind(
    "plan", "a plan's name", "one of `plans`, or `default` for all that are not named",
    "HG210", _text(_NAME), lambda text: text if text == "default" else words.name(text),
)  # fmt: skip
ID = Kind(
    "id", "an id", "as your directory gives it: visible characters without blanks",
    "HG319", _text(), words.identifier, words=True,
)  # fmt: skip
GLOB = Kind(
    "glob", "a glob", "text in which `*` stands for anything: `gpt-*`", "HG315", _text(), words.glob, words=True
)  # fmt: skip
ROUTE = Kind(
    "route", "a route", "a path in which `*` stands for anything, slashes too: `/v1/chat/*`, `/items/{id}`",
    "HG315", _text(r"[/*].*"), words.route,
)  # fmt: skip
METHOD = Kind("method", "a method", "an HTTP method: `GET`, `POST`", "HG316", _text(r"[A-Za-z]+"), words.method)
COUNTRY = Kind(
    "country", "a country", "two letters of ISO 3166: `DE`, `NO`", "HG316", _text(r"[A-Za-z]{2}"), words.country
)  # fmt: skip
PYTHON = Kind(
    "python", "a Python callable", "module and name: `myapp.rules:is_batch`",
    "HG317", _text(r"[\w.]+:[\w.]+"), words.python,
)  # fmt: skip
SCOPE = Kind(
    "scope", "a scope", "`key`, `org`, `group`, `ip`, `route`, a name under `scopes`, or a source like `claim.team`",
    "HG404", _text(), lambda text: words.source(text) if words.is_source(text) else text,
)  # fmt: skip
TEST = Kind(
    "test", "a field of `when`", "`route`, `method`, `plan`, `key`, `org`, `tag`, `ip`, `country`, a scope, a trait",
    "HG408", _text(), lambda text: words.source(text) if words.is_source(text) else text,
)  # fmt: skip
RESERVE = Kind(
    "reserve", "an amount or a source", "`4k`, or where the request says it: `body.max_tokens`",
    "HG301", {"anyOf": [{"type": "number", "minimum": 0}, _text(rf"{_AMOUNT}|(body|header|query)\..+")]},
    lambda text: _reserve(text),
)  # fmt: skip


def _reserve(text: str) -> int | str:
    if text[:1].isalpha() and words.is_source(text):
        return _announced(text)
    return literals.amount(text)


ANNOUNCED = Kind(
    "announcement", "a place where a request says it", "`body.X`, `header.X` or `query.X`: `body.n`",
    "HG309", _text(r"(body|header|query)\..+"), lambda text: _announced(text),
)  # fmt: skip


def _announced(text: str) -> str:
    return words.source(text, ("body", "header", "query"))


APP_OR_HEADER = Kind(
    "origin", "an origin of a count", "`app` (the endpoint reports it) or `header.NAME` (of the response)",
    "HG309", _text(r"app|header\..+"), lambda text: text if text == "app" else words.header_source(text),
)  # fmt: skip
APP_OR_SOURCE = Kind(
    "origin of things", "an origin of things", "`app` (the endpoint says it) or a source such as `path.parcel_id`",
    "HG309", _text(rf"app|{_SOURCE}"), lambda text: text if text == "app" else words.source(text),
)  # fmt: skip
VALUE = Kind(
    "value", "a limit's value", "what the limit's verb takes: `60/min`, `9G/month`, `8`",
    "HG301", {"anyOf": [{"type": "number", "minimum": 0}, _text()]}, lambda text: text,
)  # fmt: skip
BURST = Kind(
    "burst", "a burst", "an amount that may run ahead, or how long one may have saved it up: `20`, `10s`",
    "HG301", _number_or(rf"{_AMOUNT}|{_DURATION}"), lambda text: _burst(text),
)  # fmt: skip


class Ahead(int):
    """A burst said as a duration, in microseconds."""


def _burst(text: str) -> int:
    if text.isascii() and text.endswith(("s", "n", "h", "d", "m")) and text[:1].isdigit():
        return Ahead(literals.duration(text))
    return literals.amount(text)


DENIED = Kind(
    "denied", "a count of refusals", "an amount in a length of time: `50/d`",
    "HG303", _text(rf"{_AMOUNT} ?/ ?{_TIME}"), literals.rolling,
)  # fmt: skip
LIMIT = Kind("limit", "a limit's id", "a name under `limits`", "HG406", _text(), lambda text: text)
METER = Kind(
    "meter", "a meter", "`requests`, `streams`, `messages`, `bytes_in`, `bytes_out`, or a name under `meters`",
    "HG403", _text(), lambda text: text,
)  # fmt: skip
CLAUSE = Kind("clause", "a clause", "a name under `terms`", "HG405", _text(), lambda text: text)
PLAN = Kind("plan", "a plan", "one of `plans`", "HG401", _text(), lambda text: text)
ESTIMATE = Kind(
    "estimate", "an estimate of tokens",
    "`bytes/N`, N bytes of text a token: `bytes/4`, `bytes/3.5`; or a callable: `python:my_app.tokens:count`",
    "HG321", _text(r"bytes/[0-9]{1,2}(\.[0-9]+)?|python:[\w.]+:[\w.]+"), lambda text: _estimate(text),
)  # fmt: skip
FILE = Kind("file", "a file", "a path, relative to the policy: `keys.yaml`", "HG319", _text(), words.text, words=True)
TRUE = Kind("true", "`true`", "the word `true`", "HG204", {"enum": [True, "true"]}, lambda text: _true(text))
FACTOR_KEY = Kind(
    "pattern", "a pattern of values", "text in which `*` stands for anything: `big-*`",
    "HG315", _text(), words.glob,
)  # fmt: skip


def _estimate(text: str) -> int | str:
    """Millionths of bytes a token, or module and name of a callable."""
    head, colon, rest = text.partition(":")
    if colon and head == "python":
        try:
            return words.python(rest)
        except literals.Wrong as wrong:
            said = wrong.suggestion and f"python:{wrong.suggestion}"
            raise literals.Wrong("behind `python:` stand a module and a name", said) from None
    return literals.bytes_a_token(text)


def _true(text: str) -> bool:
    if text != "true":
        raise literals.Wrong("", "true")
    return True
