"""Small worlds of prompts: ordinary customers, and whoever the story is about, mixed in time."""

from collections.abc import Iterable, Iterator
from random import Random

from headgate.linking import Blind, Finding, Observation
from headgate.linking.content import Content

MINUTE = 60_000_000
BLIND = Blind(b"pepper of the tests")
WORDS = [a + b for a in ("ba", "ce", "di", "fo", "gu", "la", "me", "ni") for b in ("ron", "tal", "vex", "mis", "lor")]
COMMON = [f"common phrase {n}" for n in range(24)]

Said = tuple[str, str, str]  # key, org, prompt


def sentence(random: Random, words: int = 6) -> str:
    return " ".join(random.choice(WORDS) for _ in range(words))


def template(random: Random) -> tuple[list[str], list[str]]:
    """What stands before the question and what behind it, of phrases that everybody uses."""
    phrases = random.sample(COMMON, 4)
    return phrases[:2], phrases[2:]


def put(question: list[str], into: tuple[list[str], list[str]]) -> str:
    return ". ".join([*into[0], *question, *into[1]])


def customers(random: Random, many: int = 200, prompts: int = 20) -> list[list[Said]]:
    """Customers each with a few templates of their own and questions that nobody else asks."""
    found = []
    for n in range(many):
        templates = [template(random) for _ in range(3)]
        house = f"house rule of customer {n}"
        found.append(
            [
                (
                    f"c{n}",
                    f"org-c{n}",
                    put([house, sentence(random), sentence(random)], random.choice(templates)),
                )
                for _ in range(prompts)
            ]
        )
    return found


def operator(
    random: Random, keys: int = 8, prompts: int = 30, questions: int = 60, name: str = "x"
) -> list[list[Said]]:
    """One operator's bank: a list of questions, each put into many templates, through many keys."""
    templates = [template(random) for _ in range(8)]
    bank = [[sentence(random), sentence(random)] for _ in range(questions)]
    return [
        [(f"{name}{n}", f"org-{name}{n}", put(random.choice(bank), random.choice(templates))) for _ in range(prompts)]
        for n in range(keys)
    ]


def mixed(random: Random, streams: Iterable[list[Said]]) -> Iterator[Observation]:
    """The streams' prompts in a random order that keeps each stream's own, a request a minute."""
    waiting = [list(reversed(stream)) for stream in streams if stream]
    turns = [n for n, stream in enumerate(waiting) for _ in stream]
    random.shuffle(turns)
    for at, turn in enumerate(turns):
        key, org, prompt = waiting[turn].pop()
        clauses, names = BLIND.prompt(prompt)
        yield Observation(at * MINUTE, key, org, True, clauses=clauses, names=names)


def found(observations: Iterable[Observation], least: float = 0.95) -> list[Finding]:
    content = Content()
    for observation in observations:
        content.saw(observation)
    return [finding for finding in content.findings() if finding.confidence >= least]


def school(random: Random, keys: int = 12, exercises: int = 6) -> list[list[Said]]:
    """A class: one template, the same exercises word for word, and some questions of each one's own."""
    into = template(random)
    given = [[sentence(random), sentence(random)] for _ in range(exercises)]
    streams = []
    for n in range(keys):
        asked = [put(exercise, into) for exercise in given for _ in range(random.randint(1, 3))]
        asked += [put([sentence(random)], template(random)) for _ in range(5)]
        random.shuffle(asked)
        streams.append([(f"pupil{n}", f"org-pupil{n}", prompt) for prompt in asked])
    return streams


def benchmark(random: Random, keys: int = 12, questions: int = 30) -> list[list[Said]]:
    """A public benchmark: everybody puts all its questions, as they are, into one template."""
    public = [[sentence(random), sentence(random)] for _ in range(questions)]
    into = template(random)
    return [[(f"lab{n}", f"org-lab{n}", put(question, into)) for question in public] for n in range(keys)]


def application(random: Random, keys: int = 12, prompts: int = 20) -> list[list[Said]]:
    """Installations of one application: its templates and its own words in all of them, and each user's questions."""
    templates = [template(random) for _ in range(6)]
    house = "you are the helper of the one application"
    return [
        [
            (f"app{n}", f"org-app{n}", put([house, sentence(random), sentence(random)], random.choice(templates)))
            for _ in range(prompts)
        ]
        for n in range(keys)
    ]
