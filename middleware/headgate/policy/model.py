"""The grammar of the policy language, v1, as data.

Law: what is not described here is an unknown field. From this one description files are checked (`shape.read`), the
JSON Schema is written (`schema`) and the reference is written (`reference`); what a record's fields mean together is
`checks`' concern.
"""

from __future__ import annotations

from headgate.policy import kinds as k
from headgate.policy.shape import Either, Field, Kind, Leaf, Many, Named, OneOf, Others, Record, Words

MODES = Words(
    "a mode",
    {
        "enforce": "what does not fit is refused",
        "shadow": "decided and recorded, never refused",
        "disabled": "neither decided nor counted",
    },
)

ON_STORE_ERROR = Words(
    "a way to go on without the store",
    {
        "closed": "503 until the store answers: nothing is given away",
        "open": "served unmetered, and marked so",
        "local": "each worker grants a tenth of the limit on its own",
    },
)

PYTHON = Record(
    "a Python callable", {"python": Field(Leaf(k.PYTHON), "`package.module:name`, imported at load", required=True)}
)

ANONYMOUS = Record(
    "`anonymous`",
    {
        "plan": Field(Leaf(k.PLAN), "the plan of callers without a credential; needed where `plans` are declared"),
        "per": Field(
            Words("what an anonymous caller is charged by", {"ip": "its address; an IPv6 one by its /64"}),
            "what they are charged by wherever a limit says `key`, `org` or `group`",
            default="ip",
        ),
    },
)

TRUST = Record(
    "`trust`",
    {
        "proxies": Field(Many(Leaf(k.NETWORK), alone=True), "networks whose hops are believed", required=True),
        "header": Field(Leaf(k.HEADER), "the one header in which they write the address", required=True),
    },
)

IDENTIFY = Record(
    "`identify`",
    {
        "key": Field(
            Many(Leaf(k.CREDENTIAL), alone=True),
            "where the credential is looked for, in this order; two different ones in one request are refused",
            default="header.authorization.bearer",
        ),
        "directory": Field(
            Either(Leaf(k.FILE), PYTHON),
            "who the keys belong to: a file that `headgate key` keeps, or a callable of yours, sync or async",
        ),
        "anonymous": Field(
            Either(Words("a way to treat callers without a credential", {"refuse": "401"}), ANONYMOUS),
            "callers without a credential: `refuse`, or `{plan: free, per: ip}`",
            default="refuse",
        ),
        "unknown_key": Field(
            Words(
                "a way to treat a credential that nobody knows",
                {"refuse": "401", "anonymous": "as if there were none"},
            ),
            "a credential that nobody knows; it never gets a counter of its own",
            default="refuse",
        ),
        "trust": Field(TRUST, "proxies whose address header is believed; off unless written"),
        "traits": Field(
            Named("where a trait is read", k.NAME, Leaf(k.HEADER_SOURCE)),
            "what linking may see of a request beside address and user agent: `{ja4: header.x-ja4}`",
        ),
    },
    hints={"keys": "the field is called `key`", "header": "write `key: header.NAME`"},
)

TIMES = Record(
    "`times`",
    {
        "by": Field(Leaf(k.SCOPE), "the scope whose value chooses the factor", required=True),
        "default": Field(Leaf(k.DECIMAL), "the factor where no pattern matches", default="1"),
    },
    others=Others("a factor by a glob on the value; the first that matches counts", k.FACTOR_KEY, Leaf(k.DECIMAL)),
)

METER = Record(
    "a meter",
    {
        "from": Field(
            Leaf(k.APP_OR_HEADER),
            "`app`: the endpoint reports it, `charge(request, rows=n)`; `header.X`: a header of the response says it",
        ),
        "preset": Field(
            Words(
                "a preset",
                {
                    "openai-usage": "token usage as OpenAI's API reports it, in JSON bodies and in streams",
                    "anthropic-usage": "token usage as Anthropic's API reports it, in JSON bodies and in streams",
                },
            ),
            "gives the meters `input_tokens`, `cached_tokens`, `output_tokens` and `reasoning_tokens`",
        ),
        "include_usage": Field(
            Leaf(k.TRUE),
            "of `openai-usage`: every stream is asked to tell its usage, and the part that tells it is kept from a "
            "client that did not ask",
        ),
        "estimate": Field(
            Either(Leaf(k.ESTIMATE), PYTHON),
            "of a preset: what counts where a response tells no tokens: so many bytes of text a token, or a callable "
            "of yours that counts those of a text, `count(text: str) -> int`",
            default="bytes/4",
        ),
        "distinct": Field(
            Leaf(k.APP_OR_SOURCE),
            "how many different things were handed out: exact to 1,000, then within 2 %; for `quota` and `total`",
        ),
        "sum": Field(
            Named("a weight", k.METER, Leaf(k.DECIMAL)),
            "other meters, each times a weight: `{input_tokens: 1, output_tokens: 5}`; the total is rounded up",
        ),
        "times": Field(TIMES, "a factor for the sum, chosen by a value of the request"),
        "reserve": Field(
            Many(Leaf(k.RESERVE), alone=True),
            "held before serving: an amount, or where the request says it; of several sources the largest counts",
            default="0",
        ),
        "reserve_default": Field(Leaf(k.AMOUNT), "held where the request does not say it"),
        "reserve_times": Field(
            Many(Leaf(k.ANNOUNCED), alone=True),
            "where the request says how many answers it wants: held as many times; of several the largest counts",
            default="once",
        ),
        "max": Field(Leaf(k.AMOUNT), "the most that one request can be charged"),
        "overrun": Field(
            Words(
                "an end of a stream",
                {"finish": "the response ends as it would", "cut": "the response is cut off"},
            ),
            "what happens when a limit is reached in mid-response; a sum is cut where one of its meters is",
            default="finish",
        ),
    },
    one_of=OneOf("origin of the count", ("from", "preset", "distinct", "sum"), optional=True),
)


def _by_plan(kind: Kind, each: str) -> Either:
    return Either(Leaf(kind, unlimited=True), Named(each, k.PLAN_OR_DEFAULT, Leaf(kind, unlimited=True)))


WHEN = Record(
    "`when`",
    {
        "route": Field(Many(Leaf(k.ROUTE), alone=True), "the path, or the template that the router matched"),
        "method": Field(Many(Leaf(k.METHOD), alone=True), "the method; HEAD counts as GET"),
        "plan": Field(Many(Leaf(k.PLAN), alone=True), "the caller's plan"),
        "key": Field(Many(Leaf(k.GLOB), alone=True), "the key's public id"),
        "org": Field(Many(Leaf(k.GLOB), alone=True), "the org's id"),
        "tag": Field(Many(Leaf(k.GLOB), alone=True), "one of the tags of the caller or the request"),
        "ip": Field(Many(Leaf(k.NETWORK), alone=True), "the address that is charged"),
        "country": Field(
            Many(Leaf(k.COUNTRY), alone=True),
            "the trait `country` (declare it under `identify.traits`, or let the directory tell it), else the claim",
        ),
        "python": Field(Leaf(k.PYTHON), "a callable of the call that answers true or false; it must not wait"),
    },
    others=Others(
        "a scope, a trait or a source, compared with globs; where there is no value nothing matches",
        k.TEST,
        Many(Leaf(k.GLOB), alone=True),
    ),
    hints={
        "path": "the field is called `route`",
        "host": "the Host header is the caller's to choose: it is never matched",
    },
    least=1,
)

DENY = Record(
    "`deny`",
    {
        "status": Field(Leaf(k.STATUS), "the refusal's HTTP status", default="429"),
        "message": Field(Leaf(k.TEXT), "a sentence for the caller"),
    },
    least=1,
)

BELONGS = {"burst": "rate", "lease": "max", "zone": "quota", "anchor": "quota"}
"""Modifiers of one verb alone."""

VERBS = {
    "rate": Field(_by_plan(k.RATE, "a rate"), "smooth: that many at once, then evenly spaced"),
    "quota": Field(_by_plan(k.QUOTA, "a quota"), "that many in each hour, day, week, month or year of the calendar"),
    "rolling": Field(_by_plan(k.ROLLING, "a rolling limit"), "that many in any trailing length of time"),
    "max": Field(_by_plan(k.AMOUNT, "an amount"), "that many at the same time"),
    "total": Field(_by_plan(k.AMOUNT, "an amount"), "that many in a lifetime"),
}

LIMIT = Record(
    "a limit",
    {
        "meter": Field(Leaf(k.METER), "what is counted", required=True),
        "per": Field(
            Many(Leaf(k.SCOPE), alone=True),
            "who is counted apart: `key`, `org`, `group`, `ip`, `route`, a scope; a list is a compound",
            required=True,
        ),
        **VERBS,
        "burst": Field(Leaf(k.BURST), "of a `rate`: how much more may run ahead after a quiet time", default="0"),
        "lease": Field(
            Leaf(k.DURATION),
            "of a `max`: how long a place is kept for a worker that is not heard of",
            default="10min",
        ),
        "zone": Field(Leaf(k.ZONE), "of a `quota`: another time zone than the file's"),
        "anchor": Field(
            Words(
                "an anchor",
                {
                    "calendar": "everybody's windows begin alike",
                    "subscription": "at the org's billing anchor, as its directory tells it",
                    "first_use": "a window opens with the first unit used in it",
                },
            ),
            "of a `quota`: where its windows begin",
            default="calendar",
        ),
        "when": Field(WHEN, "it applies only to requests that meet every field"),
        "unless": Field(WHEN, "it does not apply to requests that meet every field"),
        "mode": Field(MODES, "a weaker mode than the file's", default="the file's"),
        "rollout": Field(
            Leaf(k.PERCENT), "enforced for this stable share of orgs, in shadow for the rest", default="100%"
        ),
        "candidate": Field(
            Either(Leaf(k.VALUE), Named("a value", k.PLAN_OR_DEFAULT, Leaf(k.VALUE))),
            "a second value of the same verb, decided in shadow beside the live one",
        ),
        "alert": Field(
            Many(Leaf(k.WHOLE_PERCENT), alone=True), "an event is sent when that much of the window is used"
        ),
        "terms": Field(Leaf(k.CLAUSE), "the clause of the terms that it enforces"),
        "on_store_error": Field(ON_STORE_ERROR, "what happens while the store does not answer", default="the file's"),
        "slice": Field(Leaf(k.PERCENT), "the share that a worker may hold pre-charged, to ask the store less often"),
        "deny": Field(
            Either(Leaf(k.TRUE), DENY),
            "the refusal's status and message; `true` (or these) also says that a value of 0 is meant",
        ),
    },
    one_of=OneOf("verb", tuple(VERBS)),
    hints={
        "limit": "the value stands under its verb: `rate: 60/min`, `quota: 1M/month`, …",
        "key": "who is counted is written `per: key`",
        "concurrent": "the verb is called `max`",
        "requests": "what is counted is written `meter: requests`",
    },
)

ACCEPTANCE = Record(
    "`acceptance`",
    {
        "version": Field(Leaf(k.TEXT), "the version of the terms that is in force", required=True),
        "url": Field(Leaf(k.URL), "where they can be read", required=True),
        "grace": Field(Leaf(k.DURATION), "how long a caller may go on without having accepted", default="none"),
    },
)

CLAUSE = Record(
    "a clause",
    {
        "title": Field(Leaf(k.TEXT), "the clause in one line, as a caller may read it", required=True),
        "url": Field(Leaf(k.URL), "where it can be read"),
    },
)

TERMS = Record(
    "`terms`",
    {"acceptance": Field(ACCEPTANCE, "which version of the terms a caller must have accepted")},
    others=Others("a clause by its id", k.NAME, CLAUSE),
)

_ORGS = Many(Leaf(k.ID))
_REASON = Field(Leaf(k.TEXT), "why, for whoever reads it next year", required=True)
_UNTIL = Field(Leaf(k.DATE), "the last day on which it holds, in the file's zone", required=True)

_PAIRED = {"orgs": Field(_ORGS, "the orgs, two or more", required=True), "reason": _REASON, "until": _UNTIL}

SIGNALS = Words(
    "a signal",
    {
        "payment": "the same means of payment",
        "device": "the same device",
        "address": "the same networks",
        "software": "the same client software",
        "prompts": "the same texts, by keyed digests",
        "handoff": "one goes on where the other stops",
        "coactivity": "active at the same times",
        "coverage": "parts of one whole are fetched",
    },
)

IGNORE = Record(
    "an entry of `ignore`",
    {
        "address": Field(Leaf(k.NETWORK), "a network that says nothing: a campus, a carrier's NAT"),
        "payment": Field(Leaf(k.ID), "a means of payment that many use: a reseller's card"),
        "device": Field(Leaf(k.ID), "a device that many use"),
        "software": Field(Leaf(k.ID), "client software that many use"),
        "reason": _REASON,
        "until": _UNTIL,
    },
    one_of=OneOf("evidence to ignore", ("address", "payment", "device", "software")),
)

LINKING = Record(
    "`linking`",
    {
        "signals": Field(Many(SIGNALS), "the evidence that is looked at", default="all that the traits allow"),
        "states": Field(
            Record(
                "`states`",
                {
                    "suspect": Field(
                        Leaf(k.PROBABILITY), "from this probability on, keys are suspected", required=True
                    ),
                    "linked": Field(
                        Leaf(k.PROBABILITY), "from this probability on, they count as one", required=True
                    ),
                },
            ),
            "calibrated probabilities that keys belong to one operator",
        ),
        "channels": Field(
            Leaf(k.COUNT), "independent kinds of evidence needed before anything is enforced", default="2"
        ),
        "ignore": Field(Many(IGNORE), "evidence that says nothing, each with reason and date"),
        "separate": Field(
            Many(Record("an entry of `separate`", _PAIRED)), "orgs that are never linked, each with reason and date"
        ),
        "affiliated": Field(
            Many(Record("an entry of `affiliated`", _PAIRED)),
            "orgs that are one customer by declaration; the first one listed names the group, so add new ones behind",
        ),
    },
    hints={"thresholds": "there are no thresholds a signal: evidence is weighed by how rare it is"},
    least=1,
)

STATES = Words(
    "a state", {"suspect": "the first probability is reached", "linked": "the second probability is reached"}
)

STEPS = {
    "flag": "seen by the operator alone",
    "notify": "the customer is told",
    "pool": "the group's members begin to share `per: group` limits",
    "throttle": "the subject's limits are multiplied by `scale`",
    "suspend": "the subject is refused; needs `review` and `appeal`",
}

STEP_NEEDS = {"suspend": ("review", "appeal"), "throttle": ("scale",)}
"""What a step cannot do without."""

STEP = Record(
    "a step of the ladder",
    {
        "when": Field(
            Either(
                STATES,
                Record(
                    "a cause in numbers",
                    {
                        "limit": Field(Leaf(k.LIMIT), "a limit", required=True),
                        "denied": Field(Leaf(k.DENIED), "refused so often: `50/d`", required=True),
                    },
                ),
            ),
            "what it follows from: `suspect`, `linked`, or `{limit: coverage, denied: 50/d}`",
            required=True,
        ),
        "do": Field(Words("a step", STEPS), "the consequence", required=True),
        "after": Field(Leaf(k.DURATION), "how long the cause must have lasted", default="at once"),
        "for": Field(Leaf(k.DURATION), "how long the consequence lasts", default="as long as its cause"),
        "scale": Field(Leaf(k.PERCENT), "of `throttle`: what is left of the limits"),
        "terms": Field(Leaf(k.CLAUSE), "the clause that is enforced"),
        "review": Field(Words("a review", {"human": "a person confirms it first"}), "who confirms it"),
        "appeal": Field(
            Record(
                "`appeal`",
                {
                    "url": Field(Leaf(k.URL), "where to object", required=True),
                    "within": Field(Leaf(k.DURATION), "how soon an objection is answered", required=True),
                },
            ),
            "the way back",
        ),
    },
)

OVERRIDE = Record(
    "an override",
    {
        "org": Field(Leaf(k.ID), "the org that it is for"),
        "key": Field(Leaf(k.ID), "or the key"),
        "limits": Field(Many(Leaf(k.LIMIT), alone=True), "the limits that it changes", required=True),
        "value": Field(Leaf(k.VALUE), "the value that holds instead, or `unlimited`", required=True),
        "reason": _REASON,
        "until": _UNTIL,
    },
    one_of=OneOf("subject", ("org", "key")),
)

DIALECTS = Words(
    "a dialect",
    {
        "ietf": "problem details, `RateLimit` and `RateLimit-Policy`",
        "openai": "errors, headers and streams as the clients of OpenAI's API read them",
        "anthropic": "errors, headers and streams as the clients of Anthropic's API read them",
        "github": "`x-ratelimit-…` with instants, as GitHub's API has them",
        "legacy": "`X-RateLimit-Limit`, `-Remaining` and `-Reset`",
    },
)

DIALECT = Record(
    "`dialect`",
    {"default": Field(DIALECTS, "the dialect of all other routes", default="ietf")},
    others=Others("a dialect by a glob on the path; the first that matches counts", k.ROUTE, DIALECTS),
    least=1,
)

POLICY = Record(
    "a policy",
    {
        "headgate": Field(Leaf(k.VERSION), "`v1`, the version of the language", required=True),
        "policy": Field(Leaf(k.NAME), "the policy's name", required=True),
        "mode": Field(MODES, "`enforce`, `shadow` (decide and record, never refuse) or `disabled`", required=True),
        "rollout": Field(
            Leaf(k.PERCENT), "enforced for this stable share of orgs, in shadow for the rest", default="100%"
        ),
        "zone": Field(Leaf(k.ZONE), "time zone of quotas and dates", default="UTC"),
        "on_store_error": Field(
            ON_STORE_ERROR, "what happens while the store does not answer; here, or in every limit"
        ),
        "dialect": Field(
            Either(DIALECTS, DIALECT), "how refusals and counts are told: a word, or one by route", default="ietf"
        ),
        "identify": Field(IDENTIFY, "where the credential is, and how it becomes a caller"),
        "scopes": Field(
            Named("a source", k.NAME, Leaf(k.SOURCE)), "further names to count by: `{project: claim.project_id}`"
        ),
        "plans": Field(Many(Leaf(k.NAME)), "the plans, weakest first"),
        "meters": Field(Named("a meter", k.NAME, METER), "what is counted beside the built-in meters"),
        "limits": Field(
            Named("a limit", k.NAME, LIMIT), "the table of limits; every one that matches applies", required=True
        ),
        "terms": Field(TERMS, "the clauses that limits enforce"),
        "linking": Field(LINKING, "how keys are judged to belong to one operator"),
        "ladder": Field(Many(STEP), "what follows from a state, or from repeated refusals"),
        "overrides": Field(Many(OVERRIDE), "dated exceptions: the only way to raise a limit"),
    },
    hints={
        "include": "there are no includes: give headgate a directory, and its files are one policy",
        "imports": "there are no imports: give headgate a directory, and its files are one policy",
        "extends": "nothing is inherited: every limit that matches applies",
        "default": "a limit without `when` is the default: it meets every request",
        "version": "the language's version is written `headgate: v1`",
        "name": "the policy's name is written `policy: NAME`",
        "limit": "the table is called `limits`",
    },
)

ENGINES_LATER = {
    "ladder": "of its steps, only `pool` is taken",
    "acceptance": "nobody is asked yet to accept terms",
}
"""Sections that are read and checked in full, and not acted upon by this version."""
