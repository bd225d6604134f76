"""What ordinary customers of an LLM API ask for: apps, frameworks, chats, agents, batches, classifiers.

Law: each worker draws its own templates and questions from its own `Random`. What two of them share they share
because the world gave it to both (a framework, a benchmark, a course), never because they were drawn together.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from headgate.drill import facts
from headgate.drill.accounts import CHAIN, Account, ja4
from headgate.drill.asking import Subject, Template, passage, question, subject, template, topic
from headgate.drill.words import Topic, firm, person, reworded
from headgate.drill.work import Work, Worker

PATHS = ("/v1/chat/completions",) * 6 + ("/v1/responses",) * 3 + ("/v1/completions",)

FRAMEWORKS = (
    "You are a helpful assistant.\n",
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe.\n"
    "\n",
    "Use the following pieces of context to answer the question at the end. If you don't know the answer, just say "
    "that you don't know, don't try to make up an answer.\n\n",
    "Answer the following questions as best you can. You have access to the following tools: search, calculator.\n"
    "Use the following format:\nQuestion: the input question you must answer\nThought: you should always think about "
    "what to do\n\nBegin!\n",
    "Given the following conversation and a follow up question, rephrase the follow up question to be a standalone "
    "question.\n\n",
    "Write a concise summary of the following:\n",
    "You are an AI programming assistant. Follow the user's requirements carefully and to the letter.\n",
    "The following is a friendly conversation between a human and an AI. The AI is talkative and provides lots "
    "of specific details from its context.\n",
    "You will be provided with a document delimited by triple quotes. Your task is to answer from it only.\n",
    "# Role\nYou are a routing component. Pick one of the handlers below.\n# Handlers\nsearch, answer, hand over\n",
)
"""System prompts that come with well-known software: hundreds of customers send them."""


def sized(random: Random, path: str, prompt: str, kind: str) -> Work:
    """The work of a prompt: how much goes in and out is as unequal as Azure's requests are."""
    given, taken = facts.TOKENS[kind]
    tokens_in = max(len(prompt) // 4 + 4, int(facts.drawn(random, given) * random.random()))
    tokens_out = int(facts.drawn(random, taken)) + 1
    return Work("POST", path, 320 + tokens_out * 4 + int(random.random() * 60), prompt, tokens_in, tokens_out)


class Asker:
    """An app of a customer's own: some templates, its own field, its own users' questions."""

    def __init__(self, random: Random, templates: list[Template], topics: list[Topic], paraphrase: float) -> None:
        self._random = random
        self._templates = templates
        self._topics = topics
        self._paraphrase = paraphrase
        self._path = random.choice(PATHS)
        self._kind = random.choice(("code", "conversation", "conversation"))
        self._prefix = ""
        self._recent: list[Subject] = []

    def begin_with(self, prefix: str) -> Asker:
        """The same app, with a framework's words before its own."""
        self._prefix = prefix
        return self

    def next(self, at: float) -> Work:
        """A prompt of one of the templates; at times a question comes again, as users ask the same."""
        random = self._random
        # The first template does most of the work.
        chosen = self._templates[min(int(random.expovariate(1.2)), len(self._templates) - 1)]
        if self._recent and random.random() < 0.06:
            about = self._recent[int(random.random() * len(self._recent))]
        else:
            field = self._topics[int(random.random() * len(self._topics))]
            if len(self._recent) < 24:
                about = subject(random, field)
                self._recent.append(about)
            else:
                about = chosen.subject(random, field)
        prompt = self._prefix + chosen.filled(random, about, self._paraphrase)
        return sized(random, self._path, prompt, self._kind)


class Chatter:
    """A person who chats: free text on a topic, and now and then the whole talk so far goes along."""

    def __init__(self, random: Random, about: Topic, remembers: bool) -> None:
        self._random = random
        self._topic = about
        self._remembers = remembers
        self._talk: list[str] = []
        self._style = random.choice(("{}", "{}?", "hi, {}", "{} please", "{} thanks", "so {}"))

    def next(self, at: float) -> Work:
        """The next turn of a talk, or the first of another."""
        random = self._random
        if random.random() > facts.CONTINUES * 1.4:
            self._talk.clear()
            if random.random() < 0.4:
                self._topic = topic(random)
        said = self._style.format(question(random, self._topic))
        if random.random() < 0.3:
            said = reworded(random, said)
        if random.random() < 0.12:
            said = random.choice(
                ("thanks", "go on", "shorter please", "why?", "no, the other one", "ok and in english?")
            )
        if not self._remembers:
            return sized(random, PATHS[0], said, "conversation")
        turns = [*self._talk, f"User: {said}"]
        self._talk = [*turns, f"Assistant: {passage(random, self._topic, 1)}"][-6:]
        return sized(random, PATHS[0], "\n".join(turns), "conversation")


class Agent:
    """A program that loops: one task, and step after step what it has seen so far."""

    def __init__(self, random: Random, tools: str, about: Topic) -> None:
        self._random = random
        self._tools = tools
        self._topic = about
        self._seen = ""
        self._step = 0

    def next(self, at: float) -> Work:
        """The next step: the task, and a longer record of what was done."""
        random = self._random
        if self._step == 0:
            self._seen = f"{self._tools}\nTask: {question(random, self._topic)}\n"
            self._step = 2 + int(random.expovariate(0.25))
        prompt = self._seen
        step = random.choice(("search", "open", "calculate", "read_file", "ask_user"))
        if len(self._seen) < 1500:
            self._seen += (
                f"Thought: need {random.choice(self._topic.things)}. Action: {step}({random.randrange(900)})\n"
            )
        self._step -= 1
        return sized(random, "/v1/responses", prompt, "code")


class Labeller:
    """Many short texts, each to be sorted: little goes in, a word comes out."""

    def __init__(self, random: Random, made: Template, about: Topic, embeds: bool) -> None:
        self._random = random
        self._made = made
        self._topic = about
        self._embeds = embeds

    def next(self, at: float) -> Work:
        """The next text; embeddings are asked for without words around."""
        random = self._random
        if self._embeds:
            text = passage(random, self._topic, 1)
            return Work("POST", "/v1/embeddings", 6200, text, len(text) // 4 + 2, 0)
        made = sized(random, PATHS[0], self._made.filled(random, self._made.subject(random, self._topic)), "code")
        return made._replace(tokens_out=1 + int(random.random() * 6), size=350)


class Batch:
    """One honest key that works through a list with one template, as an extraction key would."""

    def __init__(self, random: Random, made: Template, about: Topic) -> None:
        self._random = random
        self._made = made
        self._topic = about
        self._row = random.randrange(2000)

    def next(self, at: float) -> Work:
        """The next row."""
        self._row += 1
        about = self._made.subject(self._random, self._topic)
        row = f"row {self._row}: "
        prompt = self._made.filled(self._random, Subject(row + about.ask, row + about.text))
        return sized(self._random, PATHS[0], prompt, "conversation")


class Commons(NamedTuple):
    """What a world of prompts has in public: benchmarks, the courses' and the frameworks' words."""

    benchmarks: tuple[tuple[str, ...], ...]
    paraphrase: float


class Runner:
    """Runs a public benchmark: everybody who does asks the same questions in the same words."""

    def __init__(self, random: Random, questions: tuple[str, ...]) -> None:
        self._random = random
        self._questions = questions
        self._at = random.randrange(len(questions))

    def next(self, at: float) -> Work:
        """The next question of the list, from the beginning again at its end."""
        self._at = (self._at + 1) % len(self._questions)
        return sized(self._random, PATHS[0], self._questions[self._at], "conversation")


class Pupil:
    """Does the exercises of a course, each more than once, and asks around them in words of its own."""

    def __init__(self, random: Random, exercises: tuple[str, ...], own: Asker) -> None:
        self._random = random
        self._exercises = exercises
        self._own = own

    def next(self, at: float) -> Work:
        """An exercise as it was handed out, reworded, or a question of its own."""
        random = self._random
        if random.random() < 0.4:
            return self._own.next(at)
        prompt = self._exercises[int(random.random() * len(self._exercises))]
        return sized(random, PATHS[0], reworded(random, prompt) if random.random() < 0.4 else prompt, "conversation")


def commons(random: Random, paraphrase: float) -> Commons:
    """The public things of a world."""
    made = []
    for _ in range(5):
        about = topic(random, narrow=True)
        shape = template(random, about, firm(random))
        made.append(tuple(shape.filled(random, subject(random, about)) for _ in range(120)))
    return Commons(tuple(made), paraphrase)


def worker(random: Random, account: Account, common: Commons) -> Worker:
    """What an ordinary customer of an LLM API does."""
    kind = random.random()
    about = topic(random)
    if kind < 0.38:
        return app(random, about, common.paraphrase)
    if kind < 0.56:
        prefix = random.choice(FRAMEWORKS)
        if random.random() < 0.5:
            account.client = account.client._replace(user_agent=CHAIN, ja4=ja4(90 + int(random.random() * 2)))
        return app(random, about, common.paraphrase, 2).begin_with(prefix)
    if kind < 0.78:
        return Chatter(random, about, random.random() < 0.5)
    if kind < 0.86:
        tools = (
            random.choice(FRAMEWORKS)
            if random.random() < 0.6
            else f"You work for {person(random)}. Tools: search, open."
        )
        return Agent(random, tools, about)
    if kind < 0.93:
        return Labeller(random, template(random, about, firm(random)), about, random.random() < 0.4)
    if kind < 0.98:
        return Batch(random, template(random, about, firm(random)), about)
    return Runner(random, random.choice(common.benchmarks))


def app(random: Random, about: Topic, paraphrase: float, many: int = 7) -> Asker:
    """An app with up to so many templates of one house."""
    house = firm(random)
    templates = [template(random, about, house) for _ in range(1 + int(random.random() * many))]
    return Asker(random, templates, [about] if random.random() < 0.6 else [about, topic(random)], paraphrase)
