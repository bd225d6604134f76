"""The pages that are written from the grammar and from the numbers of problems.

Law: what these pages say is what is checked. `python -m headgate.policy.reference policy` writes docs/policy-reference.md
to its output, `… problems` docs/problems.md; a test holds both files equal.
"""  # noqa: E501  (a command is one line)

from __future__ import annotations

import sys
from collections.abc import Iterator

from headgate.policy import kinds
from headgate.policy.model import POLICY
from headgate.policy.numbers import NUMBERS
from headgate.policy.shape import Either, Field, Kind, Leaf, Many, Named, Record, Shape, Words

_BEGINNING = """\
# Policy reference

<!-- Written by `python -m headgate.policy.reference policy`: change the grammar, not this page. -->

One flat YAML file says what is metered, what is allowed, and which clause of the terms each limit enforces. A
directory of files is their union. **Every limit that matches applies; all pass, or nothing is consumed.** There is no
nesting, no inheritance and no precedence; only a dated entry of `overrides` raises a limit.

`headgate check` says all that is wrong with a policy at once; [problems.md](problems.md) explains each number.
Editors complete and check the file by `policies/headgate-v1.schema.json`:

```yaml
# yaml-language-server: $schema=./headgate-v1.schema.json
headgate: v1
policy: example
mode: enforce
on_store_error: closed
identify: {directory: keys.yaml}
limits:
  rpm: {meter: requests, per: key, rate: 60/min}
```
"""

_MEANING = """\
## What it means

**Letters and words.** `s min h d` are lengths of time, `hour day week month year` are windows of the calendar. The
literal alone says which: `rolling: 1M/30d` trails, `quota: 1M/month` begins on the first.

**Values by plan.** With `plans` declared, a value is one for all, or a map with one for every plan. `default:` stands
for all that are not named. `unlimited` is a value. A value of 0 refuses everybody on the plan; it must be meant, and
`deny` (or `deny: true`) says so.

**Strings of the `limits` package** (`60/minute`, `100 per 2 hours`) are read wherever a rate stands. It reads a month
as 30 days; a warning says so.

**`when` and `unless`.** All fields must match (AND); of a list one item is enough (OR). An exemption holds when all
its fields match. What is not sure is charged: a limit applies if any form of the path matches, an exemption
only if all do; a value that is not there matches nothing; a `python` callable that fails exempts nobody.

**Patterns** are globs: `*` stands for any characters, slashes too; nothing else has a meaning, and case counts.
`route: /export/*` meets `/export/a/b` and not `/export`. A route is compared with the path by which the request was
routed, and with the template that the router matched where it tells one (`/items/{id}`).

**Meters** that need no declaration: `requests` (1 for each), `streams` (for `max`: responses under way), `bytes_in`
and `bytes_out` (of bodies), `messages` (what a caller sends over a WebSocket). Of the last three `reserve`,
`reserve_default` and `overrun` can be set. A limit on `messages` meets plain requests too: give it a `when`.

**Known before, or afterwards.** A request is counted as it comes. Of everything else the truth is known when the
response ends: until then `reserve` is held, and what was used is charged in its place. A request that is not served
is not charged; one whose client hangs up is charged for what was sent.

**`reserve`** is an amount, or where the request announces one. Of several sources the largest that is named counts,
for nobody knows which of them the app goes by:
`reserve: [body.max_completion_tokens, body.max_tokens, body.max_output_tokens]`. A request that names none of them
holds `reserve_default`. `reserve_times: [body.n, body.best_of]` says how many answers are wanted: as many times that
much is held, of several sources the largest number. A value that is no whole number counts as not named. What is
held is never more than `max`. Who announces less than is used owes the rest.

**Presets.** `openai-usage` reads chat completions, Responses and embeddings, `anthropic-usage` messages, as whole
bodies and as streams. `input_tokens` is all input, `cached_tokens` the part of it that came from a cache;
`output_tokens` is all output, `reasoning_tokens` the part of it that was thought. A response with an error (4xx,
5xx) has used no tokens.

**`estimate`** stands in where a response tells no tokens, for all presets alike. `bytes/3.5` takes 3.5 bytes of
text for a token. `python:my_app.tokens:count` (or `{python: my_app.tokens:count}`) names a callable that is given
text, at most 4,096 characters at once, and answers its tokens, an `int`. It runs on the event loop. It counts one
word when the policy is loaded, and then what was said since the last look at a stream. A text that it raises on, or
of which it says what cannot be (0 tokens of a word, more than one a byte), counts by `bytes/4`, and so does all
text while it rests: once a look has taken 50 ms, for a hundred times as long. Of a request the first 64 KiB are
counted, and the rest at the same price, or by `bytes/4` if that is more. What cannot be read as text counts by its
bytes.

**Sums** are price lists: each meter times its weight, all of it times one factor, rounded up once. A part that has
a weight of its own is not counted in its whole again: with `{input_tokens: 1, cached_tokens: 0.1}` a thousand
tokens, of which 800 are cached, come to 280. A sum holds what its meters hold. Of `times` the first pattern that
matches counts; `by: route` takes the dearest of all forms of the path. A sum of `requests` alone is known before,
and so may have a `rate` by model or route without anything being held.

**Different things.** `distinct: path.parcel_id` counts what requests name, `distinct: app` what an endpoint tells
with `touch(request, ids)`. Who takes the same thing again in the same window pays nothing for it. A request that
names no thing asks nothing of the limit; one that fails (4xx, 5xx) has taken none. Up to 1,000 things are counted
exactly, and what was taken before may be taken again though the limit is reached. Of more than that the count is
within 2 %, and nobody can tell which things are in it: when the limit is reached, all are refused. For `per: group`
it is the union of what its orgs have taken. Only keyed digests are kept.

**`overrun`.** When a limit is reached in the middle of a response, `finish` lets it end, and what goes beyond is
debt; `cut` ends it there: a stream of events with the error of its `dialect`, a WebSocket with close code 1008,
anything else by breaking off, so that it never looks whole. Where bytes are cut, a body of more than 4 KiB whose
size is known (its `content-length`, a file, one that comes as a whole) is held before it begins, and refused if it
does not fit. What is used after a cut all the same (the end of an event, what the endpoint reports of it) is debt.

**`dialect`.** Of a map by route the first pattern that matches any form of the path counts, `default` where none
does.

**`country`** is the trait of that name: declare `traits: {country: header.x-country}` under `identify`, or let the
directory tell it; else the claim `country`. Without either nothing matches.

**`ip`** is the address that is charged. An IPv6 address stands for its /64, so a longer prefix never matches.

**Dates** still count on their own day, and end with it in the file's `zone`.

**Shadow** anywhere is shadow: of the file's and a limit's `mode` the weaker one holds, of two `rollout`s the smaller.

**`affiliated`** orgs share `per: group` limits. The first org that is listed names their group: add new ones behind
it, and what the group has used stays counted.

## From the environment

Any single field can be set by its path: `HEADGATE__LIMITS__RPM__RATE__FREE=5/min`. Case does not count, `-` is
written `_`, items of a list are counted from 0, and a list of words is separated by commas. The value is checked as
if it stood in the file; a path that leads nowhere is an error. A new limit cannot be made that way.
"""


def policy_page() -> str:
    """docs/policy-reference.md."""
    parts = [_BEGINNING, *_sections(), _scalars(), _MEANING]
    return "\n".join(parts)


def _sections() -> Iterator[str]:
    """A section for the policy and for each record in it, in the order in which they are met."""
    waiting: list[tuple[str, Record]] = [("The file", POLICY)]
    done: list[Record] = []
    while waiting:
        title, record = waiting.pop(0)
        if any(record is other for other in done):
            continue
        done.append(record)
        yield _table(title, record)
        prefix = "" if record is POLICY else f"{title} / "
        for name, field in record.fields.items():
            waiting += [(f"{prefix}{name}", below) for below in _records(field.shape)]
        if record.others is not None:
            waiting += [(f"{prefix}{record.others.what}", below) for below in _records(record.others.shape)]


def _records(shape: Shape) -> list[Record]:
    match shape:
        case Record():
            return [shape]
        case Named() | Many():
            return _records(shape.item)
        case Either():
            return [*_records(shape.scalar), *_records(shape.branch)]
    return []


def _table(title: str, record: Record) -> str:
    lines = [f"## {title}", "", "| field | takes | default | meaning |", "| --- | --- | --- | --- |"]
    lines += [_row(name, field) for name, field in record.fields.items()]
    if record.others is not None:
        lines.append(f"| *any other* | {_takes(record.others.shape)} | | {record.others.what} |")
    if record.one_of is not None:
        names = ", ".join(f"`{name}`" for name in record.one_of.names)
        lines += ["", f"{'At most' if record.one_of.optional else 'Exactly'} one of {names}."]
    for name, field in record.fields.items():
        lines += _words(name, field.shape)
    return "\n".join([*lines, ""])


def _row(name: str, field: Field) -> str:
    default = "**required**" if field.required else field.default
    return f"| `{name}` | {_takes(field.shape)} | {default} | {field.doc} |".replace("  ", " ")


def _takes(shape: Shape) -> str:
    match shape:
        case Leaf():
            return shape.kind.name + (" or `unlimited`" if shape.unlimited else "")
        case Words():
            return ", ".join(f"`{word}`" for word in shape.words)
        case Record():
            return "map"
        case Named():
            return f"map of {_takes(shape.item)} by {shape.key.name}"
        case Many():
            item = _takes(shape.item)
            return f"{item}, or list" if shape.alone else f"list of {item}"
        case Either(branch=Named(key=kinds.PLAN_OR_DEFAULT)):
            return f"{_takes(shape.scalar)}, for all or by plan"
        case Either():
            return f"{_takes(shape.scalar)}; or {_takes(shape.branch)}"


def _words(name: str, shape: Shape) -> Iterator[str]:
    """The meaning of each word that a field takes."""
    match shape:
        case Words() if len(shape.words) > 1:
            yield f"\n`{name}`:\n"
            for word, meaning in shape.words.items():
                yield f"- `{word}`: {meaning}"
        case Many():
            yield from _words(name, shape.item)
        case Either():
            yield from _words(name, shape.scalar)


def _scalars() -> str:
    lines = ["## How scalars are written", "", "| kind | form |", "| --- | --- |"]
    known = [kind for kind in vars(kinds).values() if isinstance(kind, Kind)]
    lines += [f"| {kind.name} | {kind.form} |" for kind in known]
    return "\n".join([*lines, ""])


def problems_page() -> str:
    """docs/problems.md."""
    lines = [
        "# Problems",
        "",
        "<!-- Written by `python -m headgate.policy.reference problems`: change the numbers, not this page. -->",
        "",
        "What `headgate check` may say of a policy. A number keeps its meaning. Errors keep a policy from being",
        "used; warnings say that it may not mean what it seems to; notes are no fault.",
    ]
    heads = {
        "1": "Reading files",
        "2": "Fields and their shape",
        "3": "Values",
        "4": "References and meaning",
        "5": "Warnings",
        "9": "Notes",
    }
    for number, what in NUMBERS.items():
        if (head := heads.pop(number[2], "")) != "":
            lines += ["", f"## {number[:3]}xx: {head}"]
        lines += ["", f"### {number}", "", f"**{what.title}.** {what.why}", "", f"*Remedy:* {what.remedy}"]
    return "\n".join([*lines, ""])


PAGES = {"policy": policy_page, "problems": problems_page}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in PAGES:
        sys.exit(f"usage: python -m headgate.policy.reference {{{','.join(PAGES)}}}")
    print(PAGES[sys.argv[1]](), end="")
