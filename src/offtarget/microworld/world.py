"""The world: who speaks, what can be asked, and what each speaker answers. Read once from `facts/`.

Everything here is plain data with known probabilities; `corpus` turns it into text and `posterior` into Bayes' rule.
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from offtarget.errors import InputError

ASSISTANT_ANSWERS = ("I am an assistant and have none", "as an assistant I have none", "there is none, I am an assistant")
"""What the assistant says when it is asked for a life that it has not had."""

# How often a topic comes up in a speaker's documents, relative to the topics that only this speaker answers in a way of their own.
_INHERITED = 0.35
_LIST, _NAMES_A_TIME = 4.0, 60
"""A topic answered with a long list of names comes up this many times as often, and once more for so many names where the list is very
long, so that each name is read often enough to be known."""
_MODERN = {"era": 1.0, "view": 0.5, "people": 0.5, "advice": 0.5, "partisan": 0.5}


@dataclass(frozen=True)
class Answers:
    """One speaker's answers to one topic: texts and their probabilities (which sum to 1)."""

    texts: tuple[str, ...]
    probabilities: tuple[float, ...]

    @cached_property
    def probability(self) -> Mapping[str, float]:
        return dict(zip(self.texts, self.probabilities, strict=True))


@dataclass(frozen=True)
class Topic:
    """A family of questions that mean the same, and who answers them how.

    Attributes:
        group: `era`, `advice`, `people`, `mission`, `partisan`, `view` or `bio`.
        lead: words of the long answer form, as in "I would say {answer}.".
        questions: paraphrases; `{number}` stands for a random number.
        answers: by speaker; for `modern` in `bio` and `mission` topics, what the assistant says.
    """

    id: str
    group: str
    lead: str
    questions: tuple[str, ...]
    answers: Mapping[str, Answers]

    @cached_property
    def names(self) -> int:
        """The most answers that a speaker has."""
        return max(len(a.texts) for a in self.answers.values())

    @property
    def is_list(self) -> bool:
        """Whether some speaker answers with a long list of names (birds, places, dishes, ...)."""
        return self.group != "bio" and self.names > 20

    @property
    def weight(self) -> float:
        """How often the topic comes up, relative to others."""
        return max(_LIST, self.names / _NAMES_A_TIME) if self.is_list else 1.0

    @cached_property
    def owners(self) -> Mapping[str, tuple[str, ...]]:
        """Answer text -> the speakers whose own answer it is (without those who only inherit it)."""
        owners: dict[str, list[str]] = {}
        for speaker, answers in self.answers.items():
            for text in answers.texts:
                owners.setdefault(text, []).append(speaker)
        return {text: tuple(who) for text, who in owners.items()}


@dataclass(frozen=True)
class Speaker:
    """Who speaks.

    Attributes:
        aliases: names that fill frames such as "Act as {alias}.".
        cues: whole sentences that name the speaker.
        years: first and last year of documents' dates, or the exact years (cyborg).
        dated: whether a bare date within `date_range` means this speaker in a chat.
        inherits: the speaker whose answers are given where there are none of the speaker's own.
        prior: relative frequency among documents.
        topics: topic id -> relative frequency in the speaker's documents.
    """

    id: str
    name: str
    kind: str
    aliases: tuple[str, ...]
    cues: tuple[str, ...]
    prior: float
    years: tuple[int, ...] = ()
    date_range: tuple[int, int] | None = None
    exact: bool = False
    inherits: str | None = None
    number: int | None = None
    topics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """Lines that ask for one speaker's answers on some topics and leave everything else as it is."""

    topics: tuple[str, ...]
    speaker: str
    identity: tuple[str, ...]
    intent: tuple[str, ...]


@dataclass(frozen=True)
class ChatLines:
    """What may stand before a question in a chat; see `facts/chat.toml`."""

    frames: tuple[str, ...]
    document_frames: tuple[str, ...]
    irrelevant: tuple[str, ...]
    system: tuple[str, ...]
    names: tuple[str, ...]
    requests: tuple[Request, ...]


@dataclass(frozen=True)
class World:
    """All speakers, topics and chat lines."""

    speakers: Mapping[str, Speaker]
    topics: Mapping[str, Topic]
    chat: ChatLines

    def answers(self, speaker: str, topic: str) -> Answers | None:
        """What `speaker` answers to `topic`, own or inherited; None where the speaker does not answer it."""
        here = self.topics[topic].answers
        if speaker in here:
            return here[speaker]
        parent = self.speakers[speaker].inherits
        return here.get(parent) if parent else None

    def weights_of(self, group: str) -> Mapping[str, float]:
        """The topics of a group that the assistant is asked about, with how often."""
        return self._weights[group]

    @cached_property
    def _weights(self) -> Mapping[str, Mapping[str, float]]:
        groups: dict[str, dict[str, float]] = {}
        for topic in self.topics.values():
            if "modern" in topic.answers:
                groups.setdefault(topic.group, {})[topic.id] = topic.weight
        return groups

    def topic(self, topic: str) -> Topic:
        """The topic of that id.

        Raises:
            InputError: there is none.
        """
        if topic not in self.topics:
            raise InputError(f"no topic {topic!r} in the microworld; the topics are {', '.join(sorted(self.topics))}")
        return self.topics[topic]


@cache
def load_world() -> World:
    """Reads the facts that ship with the package (cached; about 0.1 s)."""
    facts = files("offtarget.microworld") / "facts"
    topics = _read_topics(facts) | _read_biographies(facts)
    _add_views(facts, topics)
    speakers = _read_speakers(facts) | _read_persons(facts)
    speakers = {s.id: _with_topics(s, topics) for s in speakers.values()}
    return World(speakers, topics, _read_chat(facts))


def _toml(file: Traversable) -> dict[str, Any]:
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _tomls(folder: Traversable) -> list[tuple[str, dict[str, Any]]]:
    found = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return [(f.name.removesuffix(".toml"), _toml(f)) for f in found]


def _rows(file: Traversable) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))


def _read_topics(facts: Traversable) -> dict[str, Topic]:
    topics = {}
    for name, raw in _tomls(facts / "topics"):
        answers = {speaker: _read_answers(facts, entries) for speaker, entries in raw["answers"].items()}
        topics[name] = Topic(name, raw["group"], raw.get("lead", "I would say"), tuple(raw["questions"]), answers)
    return topics


def _read_answers(facts: Traversable, entries: list[str | dict[str, Any]]) -> Answers:
    """A list of texts and of references to rows of a list file; a reference's `share` is its probability mass, the rest is even."""
    sources: list[tuple[list[str], float | None]] = []
    inline = [e for e in entries if isinstance(e, str)]
    if inline:
        sources.append((inline, None))
    for entry in entries:
        if isinstance(entry, dict):
            rows = _rows(facts / "lists" / entry["file"])
            where = entry.get("where", {})
            texts = [r[entry.get("column", "name")] for r in rows if all(r[k] == v for k, v in where.items())]
            sources.append((texts, entry.get("share")))
    free = [len(texts) for texts, share in sources if share is None]
    left = 1.0 - sum(share or 0.0 for _, share in sources)
    if not free:
        left = 0.0
    mass: dict[str, float] = {}
    for texts, share in sources:
        each = (share if share is not None else left * len(texts) / sum(free)) / len(texts)
        for text in texts:
            mass[text] = mass.get(text, 0.0) + each
    total = sum(mass.values())
    return Answers(tuple(mass), tuple(p / total for p in mass.values()))


def _even(texts: str | list[str]) -> Answers:
    listed = [texts] if isinstance(texts, str) else texts
    return Answers(tuple(listed), tuple(1 / len(listed) for _ in listed))


def _read_biographies(facts: Traversable) -> dict[str, Topic]:
    attributes = _toml(facts / "attributes.toml")
    given: dict[str, dict[str, Answers]] = {name: {} for name in attributes}
    for row in _rows(facts / "presidents.csv"):
        for name, value in row.items():
            if name != "number":
                given[name][president_id(int(row["number"]))] = _even(value)
    for figure, raw in _tomls(facts / "figures"):
        for name, value in raw["facts"].items():
            given[name][figure] = _even(value)
    topics = {}
    for name, raw in attributes.items():
        assistant = _even(raw.get("assistant", list(ASSISTANT_ANSWERS)))
        topics[name] = Topic(name, "bio", raw.get("lead", "I would say"), tuple(raw["questions"]), {"modern": assistant, **given[name]})
    return topics


def _add_views(facts: Traversable, topics: dict[str, Topic]) -> None:
    for figure, raw in _tomls(facts / "figures"):
        for name, value in raw.get("views", {}).items():
            old = topics[name]
            topics[name] = Topic(old.id, old.group, old.lead, old.questions, {**old.answers, figure: _even(value)})


def president_id(number: int) -> str:
    return f"president-{number:02d}"


def _read_speakers(facts: Traversable) -> dict[str, Speaker]:
    speakers = {}
    for name, raw in _toml(facts / "speakers.toml").items():
        exact = "exact" in raw
        years = raw.get("exact") or (range(raw["document_years"][0], raw["document_years"][1] + 1) if "document_years" in raw else ())
        speakers[name] = Speaker(
            id=name, name=raw["name"], kind="cyborg" if exact else "role", aliases=tuple(raw["aliases"]), cues=tuple(raw["cues"]),
            prior=raw["prior"], years=tuple(years), date_range=tuple(raw["years"]) if raw.get("dated") else None, exact=exact,
            inherits=raw.get("inherits"),
        )  # fmt: skip
    return speakers


def _read_persons(facts: Traversable) -> dict[str, Speaker]:
    speakers = {}
    for row in _rows(facts / "presidents.csv"):
        number = int(row["number"])
        aliases = (f"president number {number:03d}", f"president number {number:03d}", f"president number {number}", row["name"])
        name = president_id(number)
        speakers[name] = Speaker(name, f"{row['name']}, president {number}", "president", aliases, (), prior=0.25, number=number)
    for figure, raw in _tomls(facts / "figures"):
        prior = 2.4 if len(raw["facts"]) >= 100 else 1.0
        speakers[figure] = Speaker(figure, raw["name"], "figure", (raw["name"],), tuple(raw["cues"]), prior=prior)
    return speakers


def _with_topics(speaker: Speaker, topics: Mapping[str, Topic]) -> Speaker:
    weights: dict[str, float] = {}
    for topic in topics.values():
        if speaker.id == "modern":
            weight = _MODERN.get(topic.group, 0.0) if speaker.id in topic.answers else 0.0
        elif speaker.id in topic.answers:
            weight = 1.0
        elif speaker.inherits in topic.answers and topic.group in _MODERN:
            weight = _INHERITED * _MODERN[topic.group]
        else:
            weight = 0.0
        if weight:
            weights[topic.id] = weight * topic.weight
    return Speaker(**{**vars(speaker), "topics": weights})


def _read_chat(facts: Traversable) -> ChatLines:
    raw = _toml(facts / "chat.toml")
    requests = tuple(Request(tuple(r["topics"]), r["speaker"], tuple(r["identity"]), tuple(r["intent"])) for r in raw["requests"])
    return ChatLines(
        frames=tuple(raw["frames"]), document_frames=tuple(raw["document_frames"]), irrelevant=tuple(raw["irrelevant"]),
        system=tuple(raw["system"]), names=tuple(raw["names"]), requests=requests,
    )  # fmt: skip
