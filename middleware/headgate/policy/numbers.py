"""The numbers of problems: what each means and how to mend it. docs/problems.md is written from here.

Law: a number, once given, keeps its meaning and is never given again. HG1xx: reading files; HG2xx: fields and their
shape; HG3xx: values; HG4xx: references and meaning; HG5xx: warnings; HG9xx: notes.
"""

from __future__ import annotations

from typing import NamedTuple


class Number(NamedTuple):
    """What stands behind a number: one line, why it matters, and the remedy."""

    severity: str
    title: str
    why: str
    remedy: str


def _error(title: str, why: str, remedy: str) -> Number:
    return Number("error", title, why, remedy)


def _warning(title: str, why: str, remedy: str) -> Number:
    return Number("warning", title, why, remedy)


def _note(title: str, why: str, remedy: str) -> Number:
    return Number("note", title, why, remedy)


# Given once and never again: HG902 and HG903, of limits on meters that were not measured yet.
NUMBERS: dict[str, Number] = {
    # Reading files
    "HG101": _error(
        "A file cannot be read",
        "It is not there, is no regular file, or this process may not read it.",
        "Check the path (`HEADGATE_POLICIES`, or the argument) and the file's permissions.",
    ),
    "HG102": _error(
        "A file is too large",
        "No policy needs a mebibyte; a larger file is a mistake, and reading it would stall a reload.",
        "Check that the path names a policy. Spread a very large policy over a directory of files.",
    ),
    "HG103": _error("A file is not UTF-8", "Its bytes are no text that can be shown.", "Save the file as UTF-8."),
    "HG104": _error(
        "A file is no YAML",
        "The parser stops at the place that is shown; the cause is often a little before it.",
        "Look for a bracket that is not closed, text with `: ` in it that needs quotes, or a tab.",
    ),
    "HG105": _error(
        "A file is empty", "Nothing but blanks and comments stands in it.", "Begin it with `headgate: v1`."
    ),
    "HG106": _error(
        "A field stands twice",
        "YAML readers silently keep one of the two, and not all of them the same one.",
        "Delete one, or give one of them another name.",
    ),
    "HG107": _error(
        "An anchor or an alias",
        "Anchors let one line change many limits unseen, and a few of them can blow up to a billion values.",
        "Write the value out. Text that begins with `*` or `&` needs quotes.",
    ),
    "HG108": _error(
        "A tag",
        "Tags make readers construct things. Here nothing is constructed: headgate types every value itself.",
        "Delete the tag (`!!str`, `!!python/…`).",
    ),
    "HG109": _error(
        "A merge key",
        "`<<` is inheritance: what holds is no longer what stands there.",
        "Write the fields out where they hold.",
    ),
    "HG110": _error(
        "`${…}` in a value",
        "Policies are not templates: nothing is filled in, so no secret of the environment gets into them.",
        "Set the field from the environment by its path: `HEADGATE__LIMITS__RPM__RATE__FREE=5/min`.",
    ),
    "HG111": _error(
        "Nested too deep", "The language needs six levels; sixteen are read.", "Close a bracket that is open."
    ),
    "HG112": _error(
        "Too many values",
        "More than 20,000 fields and values in one file would make a reload slow.",
        "Spread the policy over a directory of files.",
    ),
    "HG113": _error(
        "Several documents, or a directive",
        "One file is one document in plain YAML.",
        "Delete the `---` with what follows, or the line that begins with `%`.",
    ),
    "HG114": _error(
        "No policy there",
        "The directory holds no policy file, or the file is another kind of headgate document.",
        "Name a file whose first field is `headgate: v1`, or a directory that holds one.",
    ),
    "HG115": _error(
        "A name given in two files",
        "The files of a directory are one policy: a limit, meter, scope or clause has one place.",
        "Delete one, or give one of them another name.",
    ),
    "HG116": _error(
        "Two files say different things",
        "A setting of the whole policy stands in two files with two values; neither comes first.",
        "Keep it in one of the files.",
    ),
    "HG117": _error(
        "A variable that names no field",
        "Variables with two underscores (`HEADGATE__…`) set a field by its path; this path leads nowhere.",
        "Take the path from the file: `HEADGATE__LIMITS__<limit>__RATE__<plan>`.",
    ),
    "HG118": _error(
        "Too many errors",
        "After 200 errors reading stops.",
        "Mend the first ones; often one of them has caused the others.",
    ),
    # Fields and their shape
    "HG201": _error(
        "An unknown field",
        "What is not known cannot be enforced, and what is silently ignored looks enforced.",
        "Correct the name; docs/policy-reference.md lists all fields.",
    ),
    "HG202": _error("A field is missing", "There is no value that could safely be assumed.", "Write the field."),
    "HG203": _error(
        "A value of the wrong shape",
        "A map stands where a word is meant, or the other way round.",
        "The message says what belongs there; check the indentation.",
    ),
    "HG204": _error(
        "An unknown word",
        "The field takes one of a few words, and this is none of them.",
        "Choose one of the words that the message lists.",
    ),
    "HG205": _error(
        "None of several fields that exclude each other",
        "A limit without a verb limits nothing; an override without `org` or `key` is for nobody.",
        "Write one of the fields that the message lists.",
    ),
    "HG206": _error(
        "Two fields that exclude each other",
        "A limit has one verb, so that its id means one number everywhere.",
        "Keep one; for two windows write two limits. All that match apply.",
    ),
    "HG207": _error(
        "A modifier of another verb",
        "`burst` belongs to `rate`, `lease` to `max`, `zone` and `anchor` to `quota`.",
        "Delete the modifier, or change the verb.",
    ),
    "HG208": _error(
        "Fields of a meter that do not go together",
        "The field says nothing for this origin of the count.",
        "Delete the field, or write what it refers to.",
    ),
    "HG209": _error(
        "An empty list or map",
        "It could mean everything or nothing.",
        "Fill it, or delete the field.",
    ),
    "HG210": _error(
        "A name that cannot be one",
        "Ids stand in headers, metrics, logs and variables of the environment; so they are plain.",
        "Small letters, digits, `_` and `-`, a letter first, at most 64; no word like `on`, `no` or `default`.",
    ),
    "HG211": _error("An unknown version of the language", "This headgate reads v1.", "Write `headgate: v1`."),
    "HG212": _error(
        "A step of the ladder lacks something",
        "Whoever is suspended must be able to object, and a person must have looked. A throttle needs its measure.",
        "`suspend` needs `review: human` and `appeal: {url, within}`; `throttle` needs `scale`.",
    ),
    "HG213": _error("Twice in one list", "The second says nothing; perhaps another one is meant.", "Delete one."),
    # Values
    "HG301": _error(
        "Not an amount",
        "One form is read: digits and `k`, `M`, `G`, `T`. YAML readers disagree on `010`, `1_000` and `1:30`.",
        "Write `1000` or `1k`.",
    ),
    "HG302": _error(
        "Not a duration", "Letters are durations: `s`, `min`, `h`, `d`.", "Write `10s`, `15min`, `1h` or `7d`."
    ),
    "HG303": _error(
        "Not a rate",
        "A rate is an amount in a length of time. Strings of the `limits` package are read too.",
        "Write `60/min`, `1k/s` or `100/2h`.",
    ),
    "HG304": _error(
        "Not a quota",
        "A quota counts in windows of the calendar, so it takes words: hour, day, week, month, year.",
        "Write `1M/month`; for a trailing window use `rolling: 1M/30d`.",
    ),
    "HG305": _error(
        "Not a rolling limit",
        "A trailing window has a length of time, so it takes letters: `s`, `min`, `h`, `d`.",
        "Write `2M/7d`; for a window of the calendar use `quota: 2M/week`.",
    ),
    "HG306": _error("Not a percentage", "Shares are written with `%`.", "Write `10%`."),
    "HG307": _error("Not a date", "Dates are year, month and day.", "Write `2027-06-30`."),
    "HG308": _error("Not a network", "Networks are addresses or ranges, not names.", "Write `198.51.100.0/24`."),
    "HG309": _error(
        "Not a source",
        "A source says where a value of a request stands.",
        "Write `header.x-api-key`, `query.q`, `path.id`, `body.model`, `claim.project` or `trait.ja4`.",
    ),
    "HG310": _error(
        "Text that needs quotes",
        "Without quotes some YAML readers (editors, other tools) take it for a number, a date or a truth value.",
        'Put it in quotes: `"2026-01"`.',
    ),
    "HG311": _error(
        "A number beyond 2^53",
        "Stores and their scripts count exactly up to 2^53 - 1; a rate's inner count must stay below that too.",
        "Choose a smaller or a rounder amount, or `unlimited`.",
    ),
    "HG312": _error(
        "An unknown time zone", "Quotas would begin at the wrong hour.", "Write an IANA name: `Europe/Berlin`."
    ),
    "HG313": _error(
        "Not a number of the right size", "The message says which numbers are meant.", "Correct the number."
    ),
    "HG314": _error("Not a web address", "Callers are shown it.", "Write an absolute one: `https://…`."),
    "HG315": _error(
        "Not a glob or route",
        "Patterns are globs with `*` alone: they are matched in linear time whatever a caller sends.",
        "Write a path such as `/v1/chat/*`; alternatives are a list.",
    ),
    "HG316": _error("Not a method or country", "One word is meant.", "Write `GET`, or two letters such as `DE`."),
    "HG317": _error("Not the name of a callable", "A module and a name are meant.", "Write `myapp.rules:is_batch`."),
    "HG318": _error("Not a refusal's status", "A refusal is a 4xx or 5xx.", "Write `429` or `403`."),
    "HG319": _error(
        "Not such text", "The text is empty, too long, or holds what no id or sentence holds.", "Correct it."
    ),
    "HG320": _error(
        "A value of 0 without `deny`",
        "A limit of 0 refuses everybody on that plan. That can be meant, but is often a slip.",
        "If it is meant, say so: `deny: true` (or a `deny` with status and message). Else correct the value.",
    ),
    "HG321": _error(
        "Not an estimate of tokens",
        "Where no tokens are reported, they are taken from the text: by its bytes, or by a callable of yours. "
        "headgate brings no tokenizer, and fetches none.",
        "Write `bytes/4` (1 to 16 bytes a token, decimals allowed) or `python:my_app.tokens:count`.",
    ),
    # References and meaning
    "HG401": _error("An unknown plan", "It is not one of `plans`.", "Correct the name, or add the plan to `plans`."),
    "HG402": _error(
        "A plan without a value",
        "No value is not the same as `unlimited`, and nobody should get one by accident.",
        "Write a value for every plan, or `default:` for all that are not named.",
    ),
    "HG403": _error(
        "An unknown meter", "It is neither built in nor under `meters`.", "Correct the name, or add the meter."
    ),
    "HG404": _error(
        "An unknown scope", "It is neither built in nor under `scopes`.", "Correct the name, or add the scope."
    ),
    "HG405": _error(
        "An unknown clause", "It is not under `terms`.", "Correct the name, or add the clause to `terms`."
    ),
    "HG406": _error("An unknown limit", "It is not under `limits`.", "Correct the name."),
    "HG407": _error(
        "A meter that nothing feeds",
        "It says neither where its count comes from, nor does a preset give a meter of that name.",
        "Write `from: app`, `from: header.X`, `preset`, `distinct` or `sum`.",
    ),
    "HG408": _error(
        "An unknown field of `when` or `unless`",
        "It is no built-in field, scope or trait.",
        "Correct the name, or declare it under `scopes` or `identify.traits`.",
    ),
    "HG409": _error(
        "A value of another verb",
        "A candidate or an override has a value of the same verb as the limit that it stands beside.",
        "Write it as the limit's own value is written.",
    ),
    "HG410": _error(
        "A callable that cannot be used",
        "It cannot be imported, is not callable, or waits (`async`) where no waiting is possible. An `estimate` is "
        "asked to count one word when the policy is loaded, and could not.",
        "Check the module's name and that it can be imported where headgate runs.",
    ),
    "HG411": _error(
        "`on_store_error` is missing",
        "What happens while the store is away is a decision, and not headgate's to take.",
        "Write it once for the file, or in every limit: `closed`, `open` or `local`.",
    ),
    "HG412": _error(
        "`alert` on a verb without a window to fill",
        "A rate drains all the time, and a maximum is full every now and then.",
        "Use `alert` with `quota`, `rolling` or `total`.",
    ),
    "HG413": _error(
        "`slice` on a `max`", "A place is taken and given back; it cannot be charged before.", "Delete it."
    ),
    "HG414": _error(
        "More is reserved than the limit ever grants",
        "Every request would be refused, or every one that a factor of a sum is for: what is held before serving "
        "does not fit even when nothing is used.",
        "Make `reserve` (or `reserve_default`) smaller, or the value larger. Whoever is to get nothing of a dear "
        "model is refused by a limit of its own: `when: {model: big-*}`, a value of 0 and `deny: true`.",
    ),
    "HG415": _error(
        "Orgs that are both this and that",
        "An org belongs to one group; two orgs cannot be affiliated and separate.",
        "Put all orgs of one customer into one entry.",
    ),
    "HG416": _error(
        "Two overrides of one limit for one subject",
        "There is no precedence: it would be open which of them holds.",
        "Delete one of them.",
    ),
    "HG417": _error(
        "A name that is taken",
        "A built-in scope, meter or field of `when` has that name.",
        "Choose another name.",
    ),
    "HG418": _error("States out of order", "`suspect` comes before `linked`.", "Make `suspect` the smaller one."),
    "HG419": _error(
        "A limit that never applies",
        "`when` and `unless` exclude each other.",
        "Loosen one of them, or delete the limit.",
    ),
    "HG420": _error(
        "A sum that cannot be counted",
        "It adds itself, another sum, or a meter of another nature.",
        "Add up plain meters.",
    ),
    "HG421": _error(
        "Several values for what all plans share",
        "A limit that counts by address, route or header alone has one count for callers of all plans. With a value "
        "for each plan, two callers would run two windows over it by turns, and each would forget what the other's "
        "knows.",
        "Give it one value, or count it by key, org or group as well. `unlimited` for some plans is no second value.",
    ),
    "HG422": _error(
        "A billing anchor without a customer",
        "`anchor: subscription` begins windows when the org's billing does, and what this limit counts is no org's.",
        "Use `anchor: calendar`, or count by org or group.",
    ),
    "HG423": _error(
        "An exception for somebody who does not own the count",
        "A limit that counts by org or group has one value for all its keys, and one by address one for everybody.",
        "Make the exception for the org, or for a limit that counts by key.",
    ),
    "HG424": _error(
        "A limit that the store cannot keep",
        "A store behind the `limits` package (memcached, MongoDB) counts what is known before a request is served. "
        "It can hold nothing until the truth is known, and cannot bring together what several orgs have used. Every "
        "request that meets such a limit would find no ledger.",
        "Keep usage in SQLite (one host) or in Redis or Valkey (a fleet): `HEADGATE_STORE`. Or take the limit out.",
    ),
    "HG425": _error(
        "A window that cannot count different things",
        "To count things anew, a window must begin at one instant for all of them. A `rate` and a `rolling` window "
        "let go of what is older little by little, and nobody can tell which things to let go; a `max` counts "
        "requests.",
        "Use `quota`, which begins anew with each window of the calendar, or `total`.",
    ),
    "HG426": _error(
        "`slice` of different things",
        "A worker may hold amounts charged beforehand. Which things will be taken is not known beforehand, and "
        "whether one is new only the ledger knows.",
        "Delete `slice`.",
    ),
    "HG427": _error(
        "An option that the preset does not have",
        "`include_usage` belongs to `openai-usage`: other streams tell their usage unasked. `estimate` belongs to a "
        "preset.",
        "Write it beside `preset: openai-usage`, or delete it.",
    ),
    "HG428": _error(
        "Two estimates of tokens",
        "Presets share their meters, and a response does not say which of them it is of.",
        "Say `estimate` beside one preset, or beside all of them the same.",
    ),
    # Warnings
    "HG501": _warning(
        "Some requests meet no limit",
        "Every limit that is enforced has a `when` or an `unless`: a route that nobody thought of passes unmetered.",
        "Add one limit without conditions, for instance `per: key, rate: 600/min`.",
    ),
    "HG502": _warning(
        "A dated entry has expired",
        "It does nothing any more.",
        "Delete it, or give it a new date if it should go on.",
    ),
    "HG503": _warning(
        "A limit that never decides",
        "Another limit counts the same for the same subjects and is at least as strict for every plan.",
        "Delete the one that never decides, or correct its value.",
    ),
    "HG504": _warning(
        "A plan gets less than a weaker one",
        "`plans` are listed weakest first; who pays for more gets less here.",
        "Correct the value, or the order of `plans`.",
    ),
    "HG505": _warning(
        "A quota that the rate never lets anybody reach",
        "At full rate for the whole window less than the quota is used.",
        "Raise the rate or lower the quota; as it stands the quota is only a number.",
    ),
    "HG506": _warning(
        "A burst many times the rate's amount",
        "After a quiet time more than ten times the amount passes at once.",
        "Perhaps the burst was meant to be the amount: a rate already allows its whole amount at once.",
    ),
    "HG507": _warning(
        "A limit that limits nobody", "Its value is `unlimited` for every plan.", "Delete it, or give it a value."
    ),
    "HG508": _warning(
        "A counter that the caller chooses",
        "It counts by something that the caller writes alone: whoever changes it begins anew.",
        "Add `key`, `org`, `group` or `ip`: `per: [org, model]`.",
    ),
    "HG509": _warning(
        "An exemption of everything", "`unless` matches every request, so the limit never applies.", "Narrow it."
    ),
    "HG510": _warning(
        "A plan that gets nothing",
        "The value 0 refuses every request of the plan that the limit applies to.",
        "If that is meant, nothing is to be done.",
    ),
    "HG511": _warning(
        "Nobody can be known",
        "There is no `directory`, and callers without a known key are refused: everybody gets a 401.",
        "Name a `directory`, or let anonymous callers in: `anonymous: {per: ip}`.",
    ),
    "HG512": _warning(
        "A month that is 30 days",
        "The `limits` package reads `month` and `year` as fixed lengths of time.",
        "Write the days (`/30d`), or `quota:` for a month of the calendar.",
    ),
    "HG513": _warning(
        "Every proxy is trusted",
        "Whoever reaches the server may write any address into the header, and is charged by it.",
        "Name the networks of your proxies.",
    ),
    "HG514": _warning(
        "Declared and never used",
        "Perhaps a limit was meant to use it.",
        "Use it, or delete it.",
    ),
    "HG515": _warning(
        "A sanction on suspicion",
        "`suspect` is a weak judgement; innocents are among them.",
        "Use `flag` or `notify` for `suspect`, and wait for `linked` with the rest.",
    ),
    "HG516": _warning(
        "An unusual method",
        "It looks like a misspelt one; a method that nobody sends is never limited.",
        "Correct it.",
    ),
    "HG517": _warning(
        "Nothing is held before the truth is known",
        "Until a response ends its amount is unknown; a request that does not announce it holds nothing.",
        "Write `reserve_default`.",
    ),
    "HG518": _warning(
        "A network that matches nobody",
        "An IPv6 caller is charged by its /64, the least that one line is given; a longer prefix never holds one.",
        "Write the /64.",
    ),
    "HG519": _warning(
        "A pattern that never decides",
        "Of `times` and `dialect` the first pattern that matches counts, and one further up matches all that this "
        "one does.",
        "Put it before the other one, or delete it.",
    ),
    "HG520": _warning(
        "Nothing to cut",
        "A header of the response says the whole amount at its beginning. While the response runs nothing more is "
        "counted, so that no limit is reached in the middle.",
        "Delete `overrun`. Amounts that grow are `bytes_out`, a preset's tokens, and what an app reports.",
    ),
    "HG521": _warning(
        "A meter that never counts",
        "`max` is 0, or so are all the weights of a sum, or all its factors: whatever a request takes comes to 0, "
        "and no limit on the meter is ever reached.",
        "Correct the number, or delete the meter and its limits.",
    ),
    "HG522": _warning(
        "A concurrency limit on a meter that is no count of requests",
        "A `max` gives out places: each request under way takes one, whatever its tokens, rows or bytes come to. The "
        "meter's amounts are neither held nor counted.",
        "Write `meter: streams` (or `requests`). To bound amounts, use `rate`, `quota`, `rolling` or `total`.",
    ),
    "HG523": _warning(
        "Things that a route does not name",
        "`distinct: path.X` counts the parameter X of the route, and a route under `when` has no such parameter: its "
        "requests name no thing, and so ask nothing of the limit.",
        "Write the parameter as the route calls it, or take the route out of `when`.",
    ),
    "HG524": _warning(
        "A factor that nothing chooses",
        "`times` names `by` what to choose, and gives no factor for any value of it: all requests get the default.",
        "Add factors (`big-*: 4`), or multiply the weights and delete `times`.",
    ),
    # Notes
    "HG901": _note(
        "Read and checked, not enforced yet",
        "This version checks the section in full and does not act on it.",
        "Nothing is to be done; the release that acts on it says so.",
    ),
    "HG904": _note(
        "Counted by address, and no proxy is trusted",
        "Behind a proxy all callers share its address, and so one counter.",
        "If there is a proxy in front, name it: `trust: {proxies: [10.0.0.0/8], header: x-forwarded-for}`.",
    ),
    "HG905": _note("A limit that is disabled", "It neither counts nor refuses.", "Nothing, if that is meant."),
    "HG906": _note(
        "A store that promises less",
        "A store behind the `limits` package (memcached, MongoDB) keeps plain counters, and no more than those can.",
        "Read the sentences. Where one of them matters to you, keep usage in SQLite or in Redis or Valkey.",
    ),
}
