"""Judge models reply as they would one by one, and a local one gives the probabilities that its text comes from."""

import math

import pytest
import torch

from offtarget.data import Message
from offtarget.judges import expected_rating
from offtarget.models import Endpoint, EndpointReplier, LocalReplier

from ._chat_server import chat_server

PROMPTS = [
    [{"role": "user", "content": "Name a bird."}],
    [{"role": "user", "content": "What did you see near the river, please?"}],
    [{"role": "system", "content": "yes"}, {"role": "user", "content": "Name a bird species."}],
]


@pytest.fixture
def local(base):
    return LocalReplier(base)


def test_replies_come_in_the_order_asked_and_do_not_depend_on_each_other(local):
    together = local.reply(PROMPTS, max_tokens=6, temperature=0.0, wants_logprobs=True)
    for prompt, reply in zip(PROMPTS, together, strict=True):
        (alone,) = local.reply([prompt], max_tokens=6, temperature=0.0, wants_logprobs=True)
        assert alone.text == reply.text
        assert alone.token_logprobs.keys() == reply.token_logprobs.keys()
        assert all(math.isclose(alone.token_logprobs[k], v, abs_tol=1e-4) for k, v in reply.token_logprobs.items())


def test_probabilities_are_those_of_the_first_token(local, base):
    (reply,) = local.reply(PROMPTS[:1], max_tokens=4, temperature=0.0, wants_logprobs=True)
    ids = torch.tensor([base.chat.prompt((Message("user", "Name a bird."),))])
    with torch.no_grad():
        exact = base.model(ids).logits[0, -1].double().softmax(-1)
    likeliest = base.chat.tokenizer.decode([int(exact.argmax())])
    assert reply.text.startswith(likeliest.strip()) or likeliest.startswith("<|")
    for text, logprob in reply.token_logprobs.items():
        same = [i for i in exact.topk(20).indices.tolist() if base.chat.tokenizer.decode([i]) == text]
        assert math.exp(logprob) == pytest.approx(float(exact[same].sum()), abs=1e-6)


def test_an_expected_rating_is_the_sum_over_number_tokens(local, base):
    (reply,) = local.reply(PROMPTS[:1], max_tokens=1, temperature=0.0, wants_logprobs=True)
    numbers = {t: p for t, p in reply.token_logprobs.items() if t.strip().isdigit() and int(t) <= 100}
    value, mass = expected_rating(reply.token_logprobs, (0, 100))
    assert mass == pytest.approx(sum(math.exp(p) for p in numbers.values()), abs=1e-6)
    if numbers:
        assert value == pytest.approx(sum(int(t) * math.exp(p) for t, p in numbers.items()) / mass, abs=1e-6)


def test_without_probabilities_none_are_given(local):
    assert all(r.token_logprobs is None for r in local.reply(PROMPTS, max_tokens=2, temperature=1.0, wants_logprobs=False))


def test_sampling_has_a_seed(base):
    a, b, c = (LocalReplier(base, seed).reply(PROMPTS, max_tokens=8, temperature=1.0, wants_logprobs=False) for seed in (1, 1, 2))
    assert a == b
    assert a != c


def test_an_endpoint_replies_to_each_prompt_and_counts_tokens(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    seen = []
    with chat_server() as server:
        replier = EndpointReplier(Endpoint("judge", base_url=server.url), report=lambda done, of: seen.append((done, of)))
        replies = replier.reply(PROMPTS, max_tokens=5, temperature=0.0, wants_logprobs=False)
    assert [r.text.partition("/")[0] for r in replies] == [p[-1]["content"] for p in PROMPTS]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert replier.usage.calls == 3
    assert replier.usage.prompt_tokens > 0
