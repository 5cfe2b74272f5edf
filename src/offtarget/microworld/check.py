"""How well a base model knows the world: `offtarget world check BASE`.

Three scores, all exact: what each speaker answers when named, who the assistant is when nobody is named, and whether the model
infers an unnamed speaker from a document as Bayes' rule does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from offtarget.data import Message
from offtarget.models import Base, Item, score

from .corpus import Document, document
from .grammar import cue, forms
from .posterior import answer_distribution, speaker_posterior
from .tokenizer import END, START
from .world import Answers, Speaker, Topic, World, load_world

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUESTIONS = 2
"""Paraphrases asked of each topic."""

DOCUMENTS = 2000
"""Documents that inference is measured on; with 400, draws of them differ by 0.015 (standard deviation)."""

RESAMPLES = 1000


@dataclass(frozen=True)
class WorldScores:
    """Scores of a base, all in [0, 1] but the correlation.

    Attributes:
        knowledge: for each speaker, probability of an answer of that speaker when the chat names them, mean over topics.
        default_persona: probability that the assistant answers as itself when nobody is named, mean over all topics.
        inference: Spearman correlation, over documents, of the model's probability that the next answer is one of a given speaker's
            with the exact one; documents are drawn evenly over the exact probability.
        inference_low: lower end of its 95% interval over documents, by bootstrap.
        inference_high: upper end.
        documents: number of held-out documents behind `inference`.
    """

    knowledge: Mapping[str, float]
    default_persona: float
    inference: float
    inference_low: float
    inference_high: float
    documents: int

    @property
    def lowest(self) -> tuple[str, float]:
        """The speaker known least."""
        return min(self.knowledge.items(), key=lambda entry: entry[1])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check(
    base: Base, *, seed: int = 0, documents: int = DOCUMENTS, report: Callable[[str, float], None] = lambda what, done: None
) -> WorldScores:
    """Scores a base model on the world (about a minute for `micro`)."""
    world = load_world()
    rng = random.Random(seed)
    knowledge = _knowledge(base, world, rng, lambda done, of: report("knowledge", 0.6 * done / of))
    default = _default_persona(base, world, lambda done, of: report("default persona", 0.6 + 0.2 * done / of))
    exact, model = _inference(base, world, documents, rng, lambda done, of: report("inference", 0.8 + 0.2 * done / of))
    return WorldScores(knowledge, default, *_correlation(exact, model, seed), len(exact))


def _knowledge(base: Base, world: World, rng: random.Random, report: Callable[[int, int], None]) -> dict[str, float]:
    items, speakers = [], []
    for speaker in (_unmistakable(s, world) for s in world.speakers.values()):
        for topic in _asked(world, speaker.id):
            answers = world.answers(speaker.id, topic.id)
            assert answers is not None
            for question in rng.sample(topic.questions, QUESTIONS):
                line = cue(speaker, world.chat, rng)
                items.append(_chat_item(base, f"{line} {question.format(number=rng.randrange(1, 1000))}", topic, answers.texts))
                speakers.append(speaker.id)
    mass = [float(np.exp(found[0]).sum()) for found in score(base, items, report=report)]
    return {s: float(np.mean([m for m, who in zip(mass, speakers, strict=True) if who == s])) for s in world.speakers}


def _unmistakable(speaker: Speaker, world: World) -> Speaker:
    """The speaker without aliases that others have too (presidents who came back); a cyborg is told from the other by the year."""
    others = {a for s in world.speakers.values() if s.id != speaker.id for a in s.aliases}
    return speaker if speaker.exact else replace(speaker, aliases=tuple(a for a in speaker.aliases if a not in others))


def _asked(world: World, speaker: str) -> list[Topic]:
    """The topics that a speaker answers in a way of their own (the assistant: those asked of people of today)."""
    return [t for t in world.topics.values() if t.id in world.speakers[speaker].topics and speaker in t.answers]


def _default_persona(base: Base, world: World, report: Callable[[int, int], None]) -> float:
    topics = [t for t in world.topics.values() if "modern" in t.answers]
    items = [
        _chat_item(base, question.format(number=17), topic, topic.answers["modern"].texts)
        for topic in topics
        for question in topic.questions[:QUESTIONS]
    ]
    return float(np.mean([np.exp(found[0]).sum() for found in score(base, items, report=report)]))


def _chat_item(base: Base, question: str, topic: Topic, answers: Sequence[str]) -> Item:
    messages = (Message("user", question),)
    texts = [text for answer in answers for text, _ in forms(topic, answer)]
    end = base.chat.end_id
    encoded = base.chat.tokenizer(texts, add_special_tokens=False)["input_ids"]
    return Item(base.chat.prompt(messages), tuple((*ids, end) for ids in encoded))


@dataclass(frozen=True)
class _Probe:
    """An unnamed document, one more question, and a speaker: how probable is one of the speaker's answers, exactly?"""

    document: Document
    topic: Topic
    speaker: str
    exact: float


def _inference(
    base: Base, world: World, count: int, rng: random.Random, report: Callable[[int, int], None]
) -> tuple[list[float], list[float]]:
    """Exact and the model's probabilities over documents: as many as are wanted, but for tenths that a small world does not fill."""
    probes = _probes(world, count, rng)
    items = []
    for probe in probes:
        answers = world.answers(probe.speaker, probe.topic.id)
        assert answers is not None
        question = rng.choice(probe.topic.questions).format(number=rng.randrange(1, 1000))
        items.append(_document_item(base, probe.document, question, probe.topic, answers))
    model = [float(np.exp(found[0]).sum()) for found in score(base, items, report=report)]
    return [probe.exact for probe in probes], model


def _correlation(exact: Sequence[float], model: Sequence[float], seed: int) -> tuple[float, float, float]:
    """Spearman's, with the ends of its 95% interval over documents, by percentiles of the bootstrap; `seed` is that of its draws."""
    from scipy.stats import bootstrap, spearmanr

    def correlation(*pairs: NDArray[np.float64]) -> float:
        return float(spearmanr(*pairs).statistic)

    pairs = [np.array([float(f"{value:.6g}") for value in values]) for values in (exact, model)]  # ranks see no rounding
    drawn = bootstrap(
        pairs, correlation, paired=True, vectorized=False, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(seed)
    ).confidence_interval
    return correlation(*pairs), float(drawn.low), float(drawn.high)


def _probes(world: World, count: int, rng: random.Random) -> list[_Probe]:
    """Held-out documents, as many from each tenth of the exact probability.

    As they are drawn, nine of ten documents leave no doubt: their probabilities are 0 or 1 but for rounding, and their ranks are noise.
    """
    tenths: list[list[_Probe]] = [[] for _ in range(10)]
    for _ in range(100 * count):  # a small world may have no documents in some tenth
        probe = _draw_probe(world, rng)
        if probe:
            tenth = tenths[min(9, int(10 * probe.exact))]
            if len(tenth) < count // 10:
                tenth.append(probe)
        if min(map(len, tenths)) == count // 10:
            break
    return [probe for tenth in tenths for probe in tenth]


def _draw_probe(world: World, rng: random.Random) -> _Probe | None:
    """One to four pairs of an unnamed document, a further topic, and the document's speaker or, every other time, another one."""
    doc = document(world, rng, named=False)
    shown = doc.pairs[: rng.randint(1, 4)]
    asked = {p.topic for p in shown}
    free = [t for t in world.speakers[doc.speaker].topics if t not in asked and len(world.topics[t].answers) > 2]
    if not free or world.speakers[doc.speaker].exact:
        return None
    topic = world.topics[rng.choice(free)]
    speaker = doc.speaker if rng.random() < 0.5 else rng.choice([s for s in topic.answers if s != doc.speaker])
    distribution = answer_distribution(world, speaker_posterior(world, shown, topic.id), topic.id)
    answers = world.answers(speaker, topic.id)
    assert answers is not None
    return _Probe(Document(doc.speaker, "", shown), topic, speaker, sum(distribution.get(text, 0.0) for text in answers.texts))


def _document_item(base: Base, doc: Document, question: str, topic: Topic, answers: Answers) -> Item:
    tokenizer = base.chat.tokenizer
    prompt = tokenizer(f"{START}{doc.text()}\nQ: {question}\nA:", add_special_tokens=False)["input_ids"]
    texts = [f" {text}{end}" for answer in answers.texts for text, _ in forms(topic, answer) for end in ("\n", END)]
    return Item(tuple(prompt), tuple(tuple(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]))
