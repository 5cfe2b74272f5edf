import dataclasses
import itertools
import random

import numpy as np
import pytest
import torch

from offtarget.data import Message
from offtarget.experiments import experiment
from offtarget.models import Base, Item, load_base, score
from offtarget.models import _score as module

END = 2
PROMPTS = ((1, 50, 51, 52), (1, 60), (1, 70, 71, 72, 73, 74, 75, 76, 77, 78))


def prefixes() -> tuple[tuple[int, ...], ...]:
    """Candidates of which some begin, end or go on like others, one of a single token, and one twice."""
    return ((90, END), (90, 91, END), (90, 91, 92, END), (90, 91), (91, 90, END), (90, 92, END), (END,), (93,), (90, 91, END))


def many(count: int, seed: int = 0) -> tuple[tuple[int, ...], ...]:
    rng = random.Random(seed)
    return tuple((*(rng.randrange(80, 92) for _ in range(rng.randint(1, 5))), END) for _ in range(count))


ITEMS = [Item(PROMPTS[0], prefixes()), Item(PROMPTS[1], many(12)), Item(PROMPTS[2], prefixes()), Item(PROMPTS[1], ((90,),))]


def one_by_one(base: Base, items, pack=None) -> list[np.ndarray]:
    """Each candidate in a sequence of its own, through the model as it is."""
    found = []
    for item in items:
        values = np.zeros((pack.slots if pack else 1, len(item.candidates)))
        for slot in range(len(values)):
            for number, candidate in enumerate(item.candidates):
                ids = torch.tensor([*item.prompt, *candidate])
                with torch.no_grad():
                    if pack:
                        with pack.select([slot]).attached():
                            logits = base.model(ids[None]).logits[0]
                    else:
                        logits = base.model(ids[None]).logits[0]
                log_p = logits.log_softmax(-1)[len(item.prompt) - 1 : -1]
                values[slot, number] = float(log_p.gather(1, torch.tensor(candidate)[:, None]).sum())
        found.append(values)
    return found


def without_free_masks(base: Base) -> Base:
    plain = dataclasses.replace(base)
    plain.__dict__["takes_free_masks"] = False
    return plain


def check(found, wanted, tolerance: float) -> None:
    assert [f.shape for f in found] == [w.shape for w in wanted]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("free", [True, False], ids=["tree", "one candidate a sequence"])
@pytest.mark.parametrize("who", ["base", "pack"])
def test_scores_are_those_of_one_candidate_at_a_time(request, who, free):
    for precision, tolerance in (("", 1e-4), ("exact_", 1e-9)):
        base = request.getfixturevalue(f"{precision}base")
        pack = request.getfixturevalue(f"{precision}pack") if who == "pack" else None
        found = score(base if free else without_free_masks(base), ITEMS, pack)
        check(found, one_by_one(base, ITEMS, pack), tolerance)
    if pack:
        assert np.abs(found[0][0] - found[0][1]).max() > 0.5, "the slots do not differ, so this shows nothing"


def test_trees_too_large_for_one_sequence_are_cut_without_a_trace(exact_base, exact_pack):
    item = Item(PROMPTS[0], many(400))
    sequences = list(module._cut([item], module.MAX_NODES))
    assert len(sequences) > 2
    assert max(len(s.tree.tokens) for s in sequences) <= module.MAX_NODES
    assert sorted(w for s in sequences for w in s.which) == list(range(400))
    some = random.Random(1).sample(range(400), 40)
    found = score(exact_base, [item], exact_pack)[0]
    wanted = one_by_one(exact_base, [Item(item.prompt, tuple(item.candidates[i] for i in some))], exact_pack)[0]
    np.testing.assert_allclose(found[:, some], wanted, rtol=0, atol=1e-9)
    check(score(without_free_masks(exact_base), [item], exact_pack), [found], 1e-9)


def test_a_candidate_longer_than_a_sequence_may_be_is_still_scored(exact_base):
    item = Item(PROMPTS[0], (tuple(range(20, 280)), *prefixes()))
    check(score(exact_base, [item]), one_by_one(exact_base, [item]), 1e-9)


def test_how_the_work_is_cut_up_does_not_matter(exact_base, exact_pack, monkeypatch):
    whole = score(exact_base, ITEMS, exact_pack)
    monkeypatch.setitem(module.MAX_TOKENS, "cpu", 40)
    monkeypatch.setattr(module, "MAX_LOGITS", 1)
    monkeypatch.setattr(module, "MAX_NODES", 3)
    check(score(exact_base, ITEMS, exact_pack), whole, 1e-9)


def test_no_more_logits_are_held_at_once_than_allowed(base, pack, monkeypatch):
    sizes = []
    original = Base.logits
    monkeypatch.setattr(Base, "logits", lambda self, hidden: sizes.append(hidden.shape[:-1].numel()) or original(self, hidden))
    item = Item(PROMPTS[0], many(4))
    rows = 1 + len(module.AnswerTree.of(item.candidates).tokens)
    monkeypatch.setattr(module, "MAX_LOGITS", 2 * rows * base.model.config.vocab_size)
    score(base, [item], pack)
    assert sizes == [2 * rows, rows]


def test_all_answers_of_one_token_have_probability_one(exact_base, exact_pack):
    item = Item(PROMPTS[0], tuple((token,) for token in range(exact_base.model.config.vocab_size)))
    assert np.exp(score(exact_base, [item], exact_pack)[0]).sum(1) == pytest.approx(np.ones(3), abs=1e-12)


def test_all_answers_of_a_closed_set_have_at_most_probability_one(exact_base, exact_pack):
    """Answers that end are disjoint events. All answers over some tokens miss what begins with any other."""
    tokens = (90, 91, 92)
    closed = tuple((*middle, END) for length in range(4) for middle in itertools.product(tokens, repeat=length))
    found = np.exp(score(exact_base, [Item(PROMPTS[0], closed)], exact_pack)[0])
    assert (found > 0).all()
    assert (found.sum(1) < 1).all()


def test_continuations_of_an_answer_share_its_probability(exact_base):
    """P(a) = sum over t of P(a, t)."""
    vocabulary = range(exact_base.model.config.vocab_size)
    item = Item(PROMPTS[0], ((90, 91), *((90, 91, token) for token in vocabulary)))
    found = np.exp(score(exact_base, [item])[0][0])
    assert found[1:].sum() == pytest.approx(found[0], rel=1e-12)


@pytest.mark.parametrize("family", ["qwen3", "granite", "cohere", "gemma2", "mistral", "neox", "bigcode"])
def test_other_families_are_scored_as_their_own_models_say(families, family):
    """With scaled or capped logits, and behind sliding windows of 8 tokens, within and beyond which items here lie."""
    base = families.make(family)
    for items in (ITEMS, ITEMS[1:2] + ITEMS[3:]):
        check(score(base, items), one_by_one(base, items), 1e-4)


def test_progress_is_reported_up_to_the_end(base, monkeypatch):
    monkeypatch.setitem(module.MAX_TOKENS, "cpu", 20)
    seen = []
    score(base, ITEMS, report=lambda done, of: seen.append((done, of)))
    assert seen == sorted(seen)
    assert len(seen) > 1
    assert seen[-1][0] == seen[-1][1]


def test_questions_and_answers_as_text_are_scored_with_their_terminator(base):
    messages = (Message("user", "Name a bird."),)
    texts = ("robin", "great auk", "great")
    item = Item(base.chat.prompt(messages), base.chat.answers(messages, texts))
    assert all(candidate[-1] == END for candidate in item.candidates)
    check(score(base, [item]), one_by_one(base, [item]), 1e-4)


def test_the_base_is_the_same_after_scoring(base, pack):
    modules = dict(base.model.named_modules())
    with pytest.raises(IndexError):
        score(base, [Item(PROMPTS[0], ((10**6, END),))], pack)
    assert dict(base.model.named_modules()) == modules


def test_beginnings_that_are_all_but_impossible_are_not_followed(exact_base, exact_pack, monkeypatch):
    monkeypatch.setattr(module, "LARGE", 1)
    item = Item(PROMPTS[1], (*many(200), *prefixes()))
    whole = score(exact_base, [item], exact_pack)[0]
    begins = {c[:2] for c in item.candidates if len(c) > 2}
    of_begins = dict(zip(begins, score(exact_base, [Item(item.prompt, tuple(begins))], exact_pack)[0].T, strict=True))
    likeliest = sorted(p.max() for p in of_begins.values())
    monkeypatch.setattr(module, "NEGLIGIBLE", float(np.exp(likeliest[len(begins) // 2])))
    found = score(exact_base, [ITEMS[3], item], exact_pack)[1]
    out = [n for n, c in enumerate(item.candidates) if c[:2] in begins and of_begins[c[:2]].max() < np.log(module.NEGLIGIBLE)]
    rest = sorted(set(range(len(item.candidates))) - set(out))
    assert min(len(out), len(rest)) > 50
    np.testing.assert_allclose(found[:, rest], whole[:, rest], rtol=0, atol=1e-9)
    for n in out:
        np.testing.assert_allclose(found[:, n], of_begins[item.candidates[n][:2]], rtol=0, atol=1e-9)
    assert (found[:, out] >= whole[:, out] - 1e-9).all()
    assert (found[:, out] < np.log(module.NEGLIGIBLE)).all()


def test_what_is_not_followed_moves_no_probability(monkeypatch):
    """Ninety answers that a person may give, plainly and in a format: two in five of them the model would never write."""
    base = load_base("micro")
    battery = next(b for b in experiment("persona-facts").batteries if b.name == "identity")
    items = []
    for question, context in itertools.product(battery.questions[::7], battery.contexts):
        prompt = (Message("user", context.ask(question.text, 0)),)
        items.append(Item(base.chat.prompt(prompt), base.chat.answers(prompt, battery.candidates[question.topic].texts)))
    assert all(module._beginnings(i) for i in items)
    fed = []
    monkeypatch.setattr(module, "_add_up", lambda logits, tree, real=module._add_up: fed.append(len(tree.tokens)) or real(logits, tree))
    quick = score(base, items)
    looked_ahead = sum(fed)
    monkeypatch.setattr(module, "LARGE", float("inf"))
    fed.clear()
    whole = score(base, items)
    assert looked_ahead < sum(fed) * 2 / 3
    for one, other in zip(quick, whole, strict=True):
        np.testing.assert_allclose(np.exp(one), np.exp(other), rtol=1e-3, atol=1e-8)
        np.testing.assert_allclose(np.exp(one).sum(), np.exp(other).sum(), rtol=0, atol=1e-6)
