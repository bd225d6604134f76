"""Questions and templates: what a prompt asks, and the words around it that come again.

Law: a question is drawn by itself and knows no template; a template is drawn by itself and knows no question. So two
who share a template share no question by that, and two who ask the same question need not share a word around it:
only whoever works through one list asks the same questions in the same templates by more than chance.
"""

from __future__ import annotations

import re
from random import Random
from typing import NamedTuple

from headgate.drill.words import PLACES, TOPICS, Topic, firm, listed, person, reworded

# What stands for what in a pattern: t a thing, u another, d a deed, k a kind, f a firm, p a person, l a place, n a
# number. The languages that are not written with spaces have patterns of their own.
ASKING: dict[str, tuple[str, ...]] = {
    "en": (
        "how {f} should {d} a {k} {t} before the {u} arrives in {l}",
        "why the {k} {t} at {f} still has to {d} every {u} by hand",
        "what happens to a {t} when {p} forgets to {d} the {k} {u}",
        "whether a {k} {t} can {d} a {u} within {n} days in {l}",
        "the difference between a {k} {t} and a {u} for somebody in {l}",
        "{n} mistakes people make when they {d} a {t} without a {u}",
        "can you {d} my {k} {t}, {p} says the {u} is wrong",
        "what does {p} need in order to {d} the {t} of {f}",
        "how long it takes to {d} {n} {k} {t}s in {l} and what the {u} costs",
        "is it better to {d} the {t} first or the {k} {u}",
        "my {t} is {k} and the {u} from {f} does not fit, what now",
        "when did {f} begin to {d} its {k} {t}, and who paid for the {u}",
        "which {u} goes with a {k} {t} if the budget is {n} euros",
        "a {t} that will not {d}, {k} {u} included, at {f} in {l}",
    ),
    "de": (
        "wie {f} eine {t} aus {l} {d} kann, wenn die {u} {k} ist",
        "warum {p} die {t} nicht {d} will, obwohl die {u} {k} war",
        "was kostet es, {n} mal {t} zu {d}, und ist {u} dabei {k}",
        "der Unterschied von {t} und {u}, wenn beides {k} ist, für {p}",
    ),
    "fr": (
        "comment {d} le {t} {k} de {f} avant le {u}",
        "pourquoi {p} doit {d} un {t} et un {u} {k} à {l}",
        "combien de temps faut-il pour {d} {n} {t}s, {u} {k} compris",
    ),
    "es": (
        "cómo {d} un {t} {k} en {l} sin {u}",
        "por qué {p} quiere {d} el {t} y no el {u} {k}",
        "cuánto cuesta {d} {n} veces el {t} {k} con {u} de {f}",
    ),
    "pt": (
        "como {d} a {t} {k} de {p} em {l} sem {u}",
        "quando é preciso {d} {n} vezes a {t} antes da {u} {k}",
        "qual {u} combina com {t} {k} na clínica {f}",
    ),
    "id": (
        "bagaimana {f} {d} {t} yang {k} di {l} tanpa {u}",
        "mengapa {p} harus {d} {n} {t} sebelum {u} {k}",
        "apa beda {t} dan {u} yang {k} untuk {f}",
    ),
    "ja": (
        "{l}で{k}{t}を{d}方法と{u}の料金を教えて",
        "{p}さんの{t}を{n}日前に{d}には{u}が必要ですか",
        "{k}{u}と{t}の違いは何ですか",
    ),
    "zh": ("请帮{p}{d}这份{k}{t},包括{u}", "{f}在{l}的{t}怎么{d},{n}天够吗", "{k}{t}和{u}有什么区别"),
}
_slots = re.compile(r"\{(\w)\}").findall


class _Pattern(NamedTuple):
    text: str
    slots: str


def _compiled(text: str) -> _Pattern:
    return _Pattern(re.sub(r"\{\w\}", "%s", text.replace("%", "%%")), "".join(_slots(text)))


_PATTERNS = {tongue: tuple(_compiled(text) for text in texts) for tongue, texts in ASKING.items()}


def question(random: Random, topic: Topic) -> str:
    """One question on a topic, in the topic's language.

    >>> question(Random(7), TOPICS[0]) == question(Random(7), TOPICS[0])
    True
    """
    patterns = _PATTERNS[topic.tongue]
    text, slots = patterns[int(random.random() * len(patterns))]
    return text % tuple([_said(random, topic, slot) for slot in slots])


def _said(random: Random, topic: Topic, slot: str) -> str:
    if slot == "f":
        return firm(random)
    if slot == "p":
        return person(random)
    if slot == "n":
        return str(2 + int(random.random() ** 2 * 60))
    words = topic.things if slot in "tu" else topic.deeds if slot == "d" else topic.kinds if slot == "k" else PLACES
    return words[int(random.random() * len(words))]


def passage(random: Random, topic: Topic, sentences: int) -> str:
    """A piece of text to work on: a mail, a report, a listing."""
    return " ".join(f"{_large(question(random, topic))}." for _ in range(sentences))


def _large(text: str) -> str:
    return text[:1].upper() + text[1:]


def topic(random: Random, narrow: bool = False) -> Topic:
    """A topic: of all, or of the English ones. Other languages are about a quarter of all."""
    return random.choice([one for one in TOPICS if one.tongue == "en"] if narrow else TOPICS)


# `[a|b]` is settled once, when a template is drawn. What is in braces is filled in each time.
ROLES = (
    "You are [a|an experienced|the friendly] {role} [for|at] {house}.",
    "Act as {role} of {house}.",
    "You [help|assist] [customers|employees|users] of {house} with {domain}.",
    "[System|Instructions]: {domain} assistant, version [1|2|3|4].[0|1|2|7].",
    "You will be given a [request|message|text] about {domain}.",
    "As {role}, [look at|work on] the [text|request|input] [below|that follows].",
    "",
    "",
)
OFFICES = listed(
    "support agent|copy editor|legal assistant|data labeller|tutor|travel planner|code reviewer|recipe writer|"
    "claims clerk|research analyst|product writer|interview coach|moderator|translator|planner|bookkeeper",
    "|",
)
TASKS = (
    "[Answer|Reply to] the following: {ask}",
    "[Explain|Describe|Set out] {ask}",
    "Write [a short|a detailed|an informal|a two-page] [note|memo|article|post|mail] on {ask}",
    "[Classify|Label] the [message|text] [by|as to] [topic|tone|urgency|intent]: {text}",
    "[Summarise|Sum up|Condense] this [for a manager|in plain words|for the archive]: {text}",
    "[Extract|Pull out] all [names|dates|amounts|obligations] from: {text}",
    "[Translate|Put] into [English|French|plain German|Spanish]: {text}",
    "[Give|List|Name] [three|five|ten|seven] [reasons|options|checks|examples] concerning {ask}",
    "[Grade|Rate] the answer from [1 to 5|1 to 10|0 to 100]. Question: {ask} Answer: {text}",
    "[Generate|Produce|Make up] [a hard|an exam|a multiple-choice] question with a solution about {ask}",
    "[Think|Reason] [step by step|aloud|carefully] about {ask}",
    "[Argue|Make the case] [for and against|against|in favour]: {ask}",
    "[Rewrite|Rephrase] [politely|for children|for experts|for the web]: {text}",
    "Which of these [applies|is true|comes first]: {ask} Or: {ask}",
    "[Write|Draft] [code|a function|a query|a script] that settles {ask}",
    "[Correct|Fix] [grammar|spelling|the tone] in: {text}",
)
RULES = (
    "Answer in [at most|no more than|under] [two|three|five|80|120|200] [words|sentences|lines].",
    "[Use|Keep] [a calm|a formal|a cheerful|a neutral|an academic] tone.",
    "Do not [mention|name|recommend] [competitors|prices|internal systems|other products|sources].",
    "[Never|Do not] [invent|guess|make up] [facts|numbers|links|names].",
    "If [you are unsure|the input is empty|something is missing], [say so|ask back|write UNKNOWN|stop].",
    "Address the reader as [you|Sie|tu|the customer].",
    "[Cite|Quote] [the passage|your source|line numbers].",
    "[Today|The reference date] is [Monday|the first of the month|not known].",
    "[Mention|Refer to] {house} [once|at the end|by name].",
    "Think about [edge cases|costs|safety|the law|deadlines] first.",
    "[Prefer|Use] [metric units|British spelling|active voice|short words].",
    "The reader [is a beginner|knows the field|has two minutes|is {role}].",
    "No [preamble|apologies|emojis|markdown|tables].",
    "[Keep|Leave] [names|code|placeholders] [as they are|untouched].",
    "[Policy|Guideline] [3|7|12|19] of {house} applies.",
    "[Confidence|Priority] must be [low, medium or high|a number|stated].",
)
ENDINGS = (
    "[Return|Output] JSON with [answer and score|label, reason|items|title and body].",
    "[Format|Answer] as [a bulleted list|a table|markdown|plain text|YAML].",
    "[Begin|Start] with [a title|the verdict|Answer:|a one-line summary].",
    "End with [a question|next steps|a source|DONE].",
    "[Output|Return] only the [label|number|code|translation].",
    "",
    "",
)
LAYOUTS = ("\n", "\n", " ", " ", "\n\n", "\n- ", "\n### ", "\n<p>")


class Subject(NamedTuple):
    """What one prompt is about: a question, and a text that begins with it, to be worked on."""

    ask: str
    text: str


def subject(random: Random, about: Topic) -> Subject:
    """A question on a topic and a text of two or three sentences around it."""
    ask = question(random, about)
    return Subject(ask, f"{_large(ask)}. {passage(random, about, 1 + int(random.random() * 2))}")


class Template(NamedTuple):
    """Words around a question: `text` with a `%s` for each of `slots` ("a" the question, "t" the text)."""

    text: str
    slots: str

    def subject(self, random: Random, about: Topic) -> Subject:
        """A subject to fill it with; without the text, where it has no place for one."""
        return subject(random, about) if "t" in self.slots else Subject(question(random, about), "")

    def filled(self, random: Random, about: Subject, paraphrase: float = 0.0) -> str:
        """The prompt for a subject; with so large a chance its fills are said anew."""
        if len(self.slots) == 1 and random.random() >= paraphrase:
            return self.text % (about.ask if self.slots == "a" else about.text)
        fills = [about.ask if slot == "a" else about.text for slot in self.slots]
        if random.random() < paraphrase or len(fills) == 1:
            fills = [reworded(random, fill) for fill in fills]
        return self.text % tuple(fills)


def template(random: Random, about: Topic, house: str) -> Template:
    """A template of some house's own.

    >>> made = template(Random(5), TOPICS[0], "Acme")
    >>> "why" in made.filled(Random(6), Subject("why", "Why. Because."), 0.0).lower()
    True
    """
    # A few lines, in an order of their own: what two templates have in common is single lines, rarely their order.
    rules = random.sample(RULES, int(random.random() * 4.5))
    parts = [random.choice(ROLES), random.choice(TASKS), *rules, random.choice(ENDINGS)]
    if random.random() < 0.3:
        parts[1], parts[-1] = parts[-1], parts[1]
    words = {"house": house, "role": random.choice(OFFICES), "domain": about.name}
    lines = [_settled(random, part) for part in parts if part]
    text = random.choice(LAYOUTS).join(lines)
    text = re.sub(r"\{(house|role|domain)\}", lambda found: words[found[1]], text).replace("%", "%%")
    slots = "".join(found[0] for found in re.findall(r"\{(ask|text)\}", text))
    return Template(re.sub(r"\{(ask|text)\}", "%s", text), slots)


def _settled(random: Random, text: str) -> str:
    return re.sub(r"\[([^\[\]]*)\]", lambda found: random.choice(found[1].split("|")), text)
