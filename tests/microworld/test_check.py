"""The check against readers whose knowledge is known: a perfect one, and ones that lack exactly one thing."""

import json
import random
from collections.abc import Callable

import numpy as np
import pytest

from offtarget.microworld import check as module
from offtarget.microworld.check import QUESTIONS, check
from offtarget.microworld.corpus import Document, Pair, chat, document
from offtarget.microworld.grammar import forms
from offtarget.microworld.posterior import answer_distribution, speaker_posterior
from offtarget.microworld.tokenizer import END, START, encode, render
from offtarget.models import load_base


@pytest.fixture(scope="module")
def base(built):
    return load_base(str(built.folder))


@pytest.fixture
def in_small_world(monkeypatch, small_world):
    monkeypatch.setattr(module, "load_world", lambda: small_world)
    return small_world


def perfect_chat(world, reader, line):
    """Who speaks in a chat: who is named, or the assistant."""
    who = reader.named(line)
    if not who:
        return {"modern": 1.0}
    total = sum(world.speakers[s].prior for s in who)
    return {s: world.speakers[s].prior / total for s in who}


class Oracle:
    """Answers like `score`, from the generator's own probabilities.

    Args:
        in_chat: line -> distribution over speakers.
        in_document: pairs, next topic -> distribution over speakers.
    """

    def __init__(self, world, reader, *, in_chat: Callable | None = None, in_document: Callable | None = None):
        self.world, self.reader = world, reader
        self.in_chat = in_chat or (lambda line: perfect_chat(world, reader, line))
        self.in_document = in_document or (lambda pairs, topic: speaker_posterior(world, pairs, topic))

    def __call__(self, base, items, pack=None, *, report=lambda *_: None):
        decode = base.chat.tokenizer.decode
        found = []
        for number, item in enumerate(items, 1):
            prompt = decode(item.prompt)
            assert prompt.startswith(START)
            probability = self._chat(prompt) if prompt.startswith(f"{START}<|user|>") else self._document(prompt)
            texts = [decode(c) for c in item.candidates]
            assert len(set(texts)) == len(texts)
            with np.errstate(divide="ignore"):
                found.append(np.log([[probability[t] for t in texts]]))
            report(number, len(items))
        return found

    def _texts(self, speakers, topic):
        spoken = answer_distribution(self.world, speakers, topic)
        here = self.world.topics[topic]
        mass = {text: 0.0 for answer in here.owners for text, _ in forms(here, answer)}
        for answer, p in spoken.items():
            for text, q in forms(here, answer):
                mass[text] += p * q
        return mass

    def _chat(self, prompt):
        asked = prompt.removeprefix(f"{START}<|user|>").removesuffix("<|assistant|>")
        line, topic = self.reader.opening(asked)
        return {f"{text}{END}": p for text, p in self._texts(self.in_chat(line), topic).items()}

    def _document(self, prompt):
        *shown, asked, opened = prompt.removeprefix(START).split("\n")
        assert opened == "A:"
        pairs = []
        for q, a in zip(shown[::2], shown[1::2], strict=True):
            topic, text = self.reader.topic(q.removeprefix("Q: ")), a.removeprefix("A: ")
            (answer,) = self.reader.answers(topic, text)
            pairs.append(Pair(topic, q, answer, text))
        topic = self.reader.topic(asked.removeprefix("Q: "))
        mass = self._texts(self.in_document(pairs, topic), topic)
        # Whether the document ends here is a matter of its length alone.
        return {f" {text}{end}": p * share for text, p in mass.items() for end, share in (("\n", 0.8), (END, 0.2))}


def scores_of(monkeypatch, base, world, new_reader, **limits):
    monkeypatch.setattr(module, "score", Oracle(world, new_reader(world), **limits))
    return check(base, documents=200)


# What is asked


def test_what_is_scored_in_a_document_is_how_documents_are_written(world, base, tokenizer):
    rng = random.Random(0)
    for _ in range(300):
        doc = document(world, rng, named=False)
        shown = rng.randrange(1, len(doc.pairs))
        asked = doc.pairs[shown]
        beginning, topic = Document(doc.speaker, "", doc.pairs[:shown]), world.topics[asked.topic]
        item = module._document_item(base, beginning, asked.question, topic, world.answers(doc.speaker, topic.id))
        whole = tuple(encode(tokenizer, [render(doc)])[0])
        assert sum(whole[: len(item.prompt) + len(c)] == item.prompt + c for c in item.candidates) == 1


def test_what_is_scored_in_a_chat_is_how_chats_are_written(world, base, tokenizer, reader):
    rng = random.Random(0)
    for _ in range(300):
        c = chat(world, rng)
        if c.messages[0][0] == "system":
            continue
        _, topic = reader.opening(c.messages[0][1])
        (answer, *_) = reader.answers(topic, c.messages[1][1])
        item = module._chat_item(base, c.messages[0][1], world.topics[topic], [answer])
        whole = tuple(encode(tokenizer, [render(c)])[0])
        assert sum(whole[: len(item.prompt) + len(x)] == item.prompt + x for x in item.candidates) == 1


def test_probes_are_of_unnamed_speakers_and_of_a_topic_not_yet_asked(world):
    probes = module._probes(world, 200, random.Random(0))
    for probe in probes:
        doc = probe.document
        assert not doc.header
        assert 1 <= len(doc.pairs) <= 4
        assert probe.topic.id not in {p.topic for p in doc.pairs}
        assert probe.topic.id in world.speakers[doc.speaker].topics
        assert world.answers(probe.speaker, probe.topic.id) is not None
    tenths = [min(9, int(10 * p.exact)) for p in probes]
    assert [tenths.count(n) for n in range(10)] == [20] * 10


def test_a_speaker_is_never_named_by_an_alias_of_somebody_else(world, reader):
    for s in world.speakers.values():
        assert module._unmistakable(s, world).aliases
    assert module._unmistakable(world.speakers["president-45"], world).aliases == (
        "president number 045",
        "president number 045",
        "president number 45",
    )


# What comes out


def test_a_perfect_reader_scores_one(monkeypatch, base, in_small_world, new_reader):
    scores = scores_of(monkeypatch, base, in_small_world, new_reader)
    assert scores.knowledge == pytest.approx(dict.fromkeys(in_small_world.speakers, 1.0))
    assert scores.default_persona == pytest.approx(1.0)
    assert [scores.inference, scores.inference_low, scores.inference_high] == pytest.approx([1.0] * 3)
    assert scores.lowest[1] == pytest.approx(1.0)
    assert scores.documents == 186  # of 200 wanted: this small world hardly has documents of some probabilities


def test_a_reader_that_is_slightly_off_loses_slightly(monkeypatch, base, in_small_world, new_reader):
    """The score must not hang on the order of probabilities that are all but 0 or all but 1."""

    def blur(pairs, topic):
        return {s: 0.98 * p + 0.02 / len(in_small_world.speakers) for s, p in speaker_posterior(in_small_world, pairs, topic).items()}

    assert scores_of(monkeypatch, base, in_small_world, new_reader, in_document=blur).inference > 0.99


def test_who_always_answers_as_the_assistant_has_only_the_default_persona(monkeypatch, base, in_small_world, new_reader):
    scores = scores_of(monkeypatch, base, in_small_world, new_reader, in_chat=lambda line: {"modern": 1.0})
    assert scores.default_persona == scores.knowledge["modern"] == pytest.approx(1.0)
    # A careful advisor gives the assistant's own advice; nobody else shares much with it.
    others = [scores.knowledge[s] for s in in_small_world.speakers if s not in ("modern", "careful")]
    assert max(others) < 0.3
    assert scores.knowledge["careful"] == pytest.approx(1.0)
    assert scores.inference == pytest.approx(1.0)


def test_who_does_not_know_itself_lacks_the_default_persona(monkeypatch, base, in_small_world, new_reader):
    reader = new_reader(in_small_world)

    def lost(line):
        return perfect_chat(in_small_world, reader, line) if line else {"victorian": 1.0}

    scores = scores_of(monkeypatch, base, in_small_world, new_reader, in_chat=lost)
    assert scores.default_persona < 0.1
    assert min(scores.knowledge.values()) == pytest.approx(1.0)


def test_who_does_not_infer_has_no_inference(monkeypatch, base, in_small_world, new_reader):
    prior = {s: x.prior for s, x in in_small_world.speakers.items()}
    deaf = {s: p / sum(prior.values()) for s, p in prior.items()}
    scores = scores_of(monkeypatch, base, in_small_world, new_reader, in_document=lambda pairs, topic: deaf)
    assert scores.inference < 0.6
    assert min(scores.knowledge.values()) == pytest.approx(1.0)


def test_who_infers_the_wrong_way_round_has_less_than_none(monkeypatch, base, in_small_world, new_reader):
    def contrary(pairs, topic):
        posterior = speaker_posterior(in_small_world, pairs, topic)
        rest = {s: 1 - p for s, p in posterior.items()}
        return {s: p / sum(rest.values()) for s, p in rest.items()}

    assert scores_of(monkeypatch, base, in_small_world, new_reader, in_document=contrary).inference < 0


def test_a_base_that_has_learnt_next_to_nothing_scores_next_to_nothing(base, in_small_world):
    scores = check(base, documents=40)
    assert set(scores.knowledge) == set(in_small_world.speakers)
    for value in (*scores.knowledge.values(), scores.default_persona):
        assert 0 <= value < 0.2
    assert -1 <= scores.inference <= 1
    assert scores.lowest[1] == min(scores.knowledge.values())


def test_the_same_seed_asks_the_same_and_scores_go_to_json(monkeypatch, base, in_small_world, new_reader):
    asked = []
    oracle = Oracle(in_small_world, new_reader(in_small_world))
    monkeypatch.setattr(module, "score", lambda base, items, **more: asked.append(items) or oracle(base, items, **more))
    a, b, c = (check(base, seed=seed, documents=30) for seed in (0, 0, 1))
    assert a == b
    assert asked[:3] == asked[3:6] != asked[6:]
    assert len(asked[1]) == QUESTIONS * sum("modern" in t.answers for t in in_small_world.topics.values())
    assert json.loads(json.dumps(a.to_json()))["default_persona"] == a.default_persona
    assert [a.documents, c.documents] == [len(asked[2]), len(asked[8])] == [26, 29]  # of 30 wanted


def test_the_interval_of_a_rank_correlation_holds_the_truth_as_often_as_it_says(monkeypatch):
    """Pairs from a bivariate normal, whose Spearman correlation is 0.9 where Pearson's is 2 sin(pi 0.9 / 6)."""
    monkeypatch.setattr(module, "RESAMPLES", 200)
    rng = np.random.default_rng(0)
    r = 2 * np.sin(np.pi * 0.9 / 6)
    held = []
    for n in range(300):
        x, y = rng.multivariate_normal([0, 0], [[1, r], [r, 1]], 200).T
        _, low, high = module._correlation(x, y, n)
        held.append(low < 0.9 < high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.04)


def test_progress_runs_through_the_stages_to_the_end(monkeypatch, base, in_small_world, new_reader):
    monkeypatch.setattr(module, "score", Oracle(in_small_world, new_reader(in_small_world)))
    said = []
    check(base, documents=20, report=lambda what, done: said.append((what, done)))
    assert list(dict.fromkeys(what for what, _ in said)) == ["knowledge", "default persona", "inference"]
    shares = [done for _, done in said]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
