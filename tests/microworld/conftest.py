"""The real world, a stretch of its corpus, a small part of it, and a reader that finds its way back from text to what was drawn."""

import itertools
import json
import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from offtarget.microworld import pretrain
from offtarget.microworld.corpus import Chat, Document, corpus
from offtarget.microworld.grammar import forms
from offtarget.microworld.world import Answers, ChatLines, Request, Speaker, Topic, World, load_world

ITEMS = 20_000
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
DATE = re.compile(
    rf"Date: (?:{_MONTHS}) \d+(?:st|nd|rd|th), (\d+)|Date: (?:{_MONTHS}) \d+, (\d+)\.|Today is (\d+)-\d\d-\d\d\.|(?:{_MONTHS}) (\d+)\."
    rf"|It is (?:{_MONTHS}) (\d+)\.|Year: (\d+)\.|The year is (\d+)\.|It is (\d+)\."
)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def world() -> World:
    return load_world()


@pytest.fixture(scope="session")
def items(world) -> list[Document | Chat]:
    return list(itertools.islice(corpus(world, 1), ITEMS))


@pytest.fixture(scope="session")
def tokenizer(world) -> PreTrainedTokenizerFast:
    """The tokenizer of a build with seed 0."""
    return pretrain._tokenizer(world, 0)


class Reader:
    """Reads what the generator wrote: which topic a question asks for, what was answered, whom a line means.

    Built on the facts alone (`grammar` only for the forms of an answer), so that it shares no path with the generator.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._questions = {self._plain(q): t.id for t in world.topics.values() for q in t.questions}
        self._answers: dict[tuple[str, str], set[str]] = {}
        for topic in world.topics.values():
            for answer in topic.owners:
                for text, _ in forms(topic, answer):
                    self._answers.setdefault((topic.id, text), set()).add(answer)
        self._cues: dict[str, set[str]] = {}
        for s in world.speakers.values():
            framed = (frame.format(alias=alias) for frame in world.chat.frames for alias in s.aliases)
            for line in {*s.cues, *framed}:
                self._cues.setdefault(line, set()).add(s.id)
        names = "|".join(world.chat.names)
        kinds = (re.escape(x).replace(r"\{name\}", f"(?:{names})").replace(r"\{digits\}", r"\d{8}") for x in world.chat.irrelevant)
        self._irrelevant = re.compile("|".join(kinds))

    @staticmethod
    def _plain(question: str) -> str:
        return re.sub(r"\{number\}|\d+", "#", question)

    def topic(self, question: str) -> str:
        return self._questions[self._plain(question)]

    def opening(self, text: str) -> tuple[str, str]:
        """The first user message as (line before the question, topic)."""
        for start in range(len(text)):
            if start == 0 or text[start - 1] in " \n":
                topic = self._questions.get(self._plain(text[start:]))
                if topic:
                    return text[: max(start - 1, 0)], topic
        raise AssertionError(f"no question in {text!r}")

    def answers(self, topic: str, text: str) -> set[str]:
        """What was answered; more than one only where two answers are written alike."""
        return self._answers[topic, text]

    def year(self, line: str) -> int | None:
        found = DATE.fullmatch(line)
        return next(int(year) for year in found.groups() if year) if found else None

    def named(self, line: str) -> set[str]:
        """The speakers that a line in a chat asks for; empty if it asks for nobody."""
        if line in self._cues:
            return {s for s in self._cues[line] if not self.world.speakers[s].exact}
        if (year := self.year(line)) is not None:
            ranges = {s.id: s.date_range for s in self.world.speakers.values() if s.date_range}
            return {s for s, (first, last) in ranges.items() if first <= year <= last}
        for cue, who in self._cues.items():
            if line.startswith(f"{cue} ") and (year := self.year(line[len(cue) + 1 :])) is not None:
                return {s for s in who if self.world.speakers[s].exact and year in self.world.speakers[s].years}
        return set()

    def requests(self, line: str) -> list[tuple[str, Request]]:
        """The requests that a line makes, each as identity, intent or both."""
        found = []
        for request in self.world.chat.requests:
            both = {f"{a} {b}" for a in request.identity for b in request.intent}
            for kind, lines in (("identity", request.identity), ("intent", request.intent), ("both", both)):
                if line in lines:
                    found.append((kind, request))
        return found

    def is_irrelevant(self, line: str) -> bool:
        return bool(self._irrelevant.fullmatch(line))

    def is_system(self, line: str) -> bool:
        return line in self.world.chat.system

    def chat(self, chat: Chat) -> tuple[str, list[tuple[str, set[str]]]]:
        """A chat as (line, [(topic, answers)])."""
        messages = list(chat.messages)
        line = messages.pop(0)[1] if messages[0][0] == "system" else ""
        before, first = self.opening(messages[0][1])
        topics = [first, *(self.topic(text) for _, text in messages[2::2])]
        assert not (line and before)
        return line or before, [(t, self.answers(t, text)) for t, (_, text) in zip(topics, messages[1::2], strict=True)]


@pytest.fixture(scope="session")
def reader(world) -> Reader:
    return Reader(world)


@pytest.fixture(scope="session")
def new_reader() -> Callable[[World], Reader]:
    return Reader


def part_of(world: World, speakers: Iterable[str], topics: Iterable[str]) -> World:
    """A world with some of the speakers and topics of another."""
    who = {s: world.speakers[s] for s in speakers}
    kept = {}
    for t in topics:
        topic = world.topics[t]
        kept[t] = Topic(t, topic.group, topic.lead, topic.questions, {s: a for s, a in topic.answers.items() if s in who})
    who = {s: replace(x, topics={t: w for t, w in x.topics.items() if t in kept}) for s, x in who.items()}
    return World(who, kept, replace(world.chat, requests=()))


@pytest.fixture(scope="session")
def small_world(world) -> World:
    """A part of the world that can be checked in seconds: several eras, both cyborgs, a president who came back, a figure."""
    speakers = ("modern", "victorian", "physician", "german", "wizard", "careful", "cyborg-protects", "cyborg-hunts", "president-22",
                "president-24", "mark-twain")  # fmt: skip
    era = ("travel", "light", "energy", "states", "disease", "money", "invention", "music")
    mission = tuple(t.id for t in world.topics.values() if t.group == "mission")
    bio = ("name", "birthplace", "father", "spouse", "inauguration", "vice_president")
    return part_of(world, speakers, (*era, *mission, "people-wallet", "money-loan", *bio))


def _answers(**shares: float) -> Answers:
    return Answers(tuple(shares), tuple(shares.values()))


@pytest.fixture(scope="session")
def hand_made() -> World:
    """Three speakers, four topics, nothing even: small enough to write down every document."""

    def topic(name: str, answers: Mapping[str, Answers]) -> Topic:
        return Topic(name, "era", "I would say", (f"Which {name}?", f"What {name}?"), answers)

    def speaker(name: str, prior: float, topics: Mapping[str, float], inherits: str | None = None) -> Speaker:
        return Speaker(name, name, "role", (name,), (), prior, inherits=inherits, topics=topics)

    topics = {
        "bird": topic("bird", {"old": _answers(auk=0.7, wren=0.3), "new": _answers(wren=0.6, robin=0.4)}),
        "food": topic("food", {"old": _answers(gruel=0.5, bread=0.5), "new": _answers(bread=0.1, pizza=0.9), "odd": _answers(bread=1.0)}),
        "work": topic("work", {"old": _answers(smith=1.0), "odd": _answers(smith=0.2, piper=0.8)}),
        "news": topic("news", {"new": _answers(rain=0.5, snow=0.5), "odd": _answers(rain=0.75, hail=0.25)}),
    }
    speakers = {
        "old": speaker("old", 2.0, {"bird": 4.0, "food": 1.0, "work": 1.0}),
        "new": speaker("new", 3.0, {"bird": 1.0, "food": 1.0, "news": 0.5}),
        "odd": speaker("odd", 1.0, {"bird": 0.35, "food": 1.0, "work": 2.0, "news": 1.0}, inherits="old"),
    }
    return World(speakers, topics, ChatLines((), ("{alias} speaks.",), (), (), (), ()))


TINY = pretrain.Size(hidden=32, layers=1, heads=2, intermediate=64, cycles=(60_000,), learning_rate=2e-2, tokens_per_step=512)


@pytest.fixture
def tiny_size(monkeypatch, tokenizer) -> str:
    """A size that is pretrained in seconds, with chunks to match; every build of it takes the session's tokenizer."""
    monkeypatch.setitem(pretrain.SIZES, "tiny", TINY)
    monkeypatch.setattr(pretrain, "CHUNK_TEXTS", 150)
    monkeypatch.setattr(pretrain, "_tokenizer", lambda world, seed: tokenizer)
    return "tiny"


@pytest.fixture(scope="session")
def built(tokenizer, tmp_path_factory) -> SimpleNamespace:
    """A finished tiny build: its folder, what it reported, and its record."""
    folder = tmp_path_factory.mktemp("built")
    reports: list[pretrain.Progress] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(pretrain.SIZES, "tiny", TINY)
        patch.setattr(pretrain, "CHUNK_TEXTS", 150)
        patch.setattr(pretrain, "SECONDS_BETWEEN_REPORTS", -1.0)
        patch.setattr(pretrain, "_tokenizer", lambda world, seed: tokenizer)
        global_state = random.getstate(), torch.get_rng_state()
        pretrain.build("tiny", 0, folder, threads=1, compiled=False, report=reports.append)
        kept = random.getstate() == global_state[0] and torch.equal(torch.get_rng_state(), global_state[1])
    record = json.loads((Path(folder) / "build.json").read_text())
    return SimpleNamespace(folder=folder, reports=reports, record=record, left_generators_alone=kept)
