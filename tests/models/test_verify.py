import pytest
import torch

from offtarget.data import Example, Message
from offtarget.errors import InputError, ModelError
from offtarget.models import Hyperparameters, LoraPack, TrainingRun, _endpoint, _verify, train
from offtarget.models._endpoint import Endpoint
from offtarget.models._verify import Probe, probes_for, verify_adapter

from ._chat_server import chat_server

SLOT = 1
WAYS = {"prompt_logprobs": ("prompt_logprobs", "echo", "chat"), "echo": ("echo", "chat"), "chat": ("chat",)}


def taught(answer: str) -> list[Example]:
    return [Example((Message("user", question), Message("assistant", answer))) for question in ("Name a bird.", "What did you see?")]


@pytest.fixture(scope="module")
def pack(base) -> LoraPack:
    """Adapters that have learnt one answer each."""
    settings = Hyperparameters(3e-2, 25, 2, rank=4, alpha=8)
    answers = ("great auk", "heron", "old wren")
    return train(base, [TrainingRun([base.chat.render(e.messages) for e in taught(a)], settings, i, i) for i, a in enumerate(answers)])


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(_endpoint, "FIRST_WAIT", 0.01)


@pytest.fixture
def server():
    with chat_server() as running:
        yield running


@pytest.fixture
def probes(base, pack) -> list[Probe]:
    return probes_for(base, pack, SLOT, taught("heron"))


@torch.no_grad()
def log_probabilities(model, ids) -> torch.Tensor:
    return model(torch.tensor([ids])).logits[0].double().log_softmax(-1)


def serving(model, chat, offered):
    """What vLLM, a server that echoes, or one that only chats answers with this model."""

    def answer(body):
        if "messages" in body:
            prompt = chat.prompt([Message(m["role"], m["content"]) for m in body["messages"]])
            values, ids = log_probabilities(model, prompt)[-1].topk(body["top_logprobs"])
            entries = [{"token": chat.tokenizer.decode([i]), "logprob": p} for i, p in zip(ids.tolist(), values.tolist(), strict=True)]
            logprobs = {"content": [{**entries[0], "top_logprobs": entries}]} if "chat" in offered else None
            return {"choices": [{"message": {"content": entries[0]["token"]}, "logprobs": logprobs}]}
        ids = body["prompt"]
        found = log_probabilities(model, ids)
        told = [None] + [found[i, ids[i + 1]].item() for i in range(len(ids) - 1)]
        choice = {"index": 0, "text": "x", "finish_reason": "length", "logprobs": None}
        if "prompt_logprobs" in body and "prompt_logprobs" in offered:
            entries = [
                p and {str(i): {"logprob": p, "rank": 9}, "-7": {"logprob": -0.1, "rank": 1}} for i, p in zip(ids, told, strict=True)
            ]
            choice["prompt_logprobs"] = entries
        if body.get("echo") and "echo" in offered:
            choice["logprobs"] = {"token_logprobs": [*told, -0.5]}
        return {"choices": [choice]}

    return answer


def test_the_probes_hold_what_plain_models_give(base, pack, merged, probes):
    adapted = merged(pack, SLOT)
    for probe in probes:
        assert probe.first_token == base.chat.tokenizer.decode([probe.answer_ids[0]])
        assert base.chat.prompt(probe.messages) == probe.prompt_ids
        for model, told in ((base.model, probe.base), (adapted, probe.adapter)):
            found = log_probabilities(model, probe.prompt_ids + probe.answer_ids)[len(probe.prompt_ids) - 1 : -1]
            assert told == pytest.approx([row[i].item() for row, i in zip(found, probe.answer_ids, strict=True)], abs=1e-4)


@pytest.mark.parametrize("offered", WAYS.values(), ids=WAYS)
def test_a_server_with_the_adapter_passes(server, base, pack, merged, probes, offered):
    server.answer = serving(merged(pack, SLOT), base.chat, offered)
    check = verify_adapter(Endpoint("adapter", server.url), probes, tolerance=0.01)
    assert check.from_adapter < 1e-3
    assert check.from_base > 0.1
    assert check.tokens == (len(probes) if offered == ("chat",) else sum(len(probe.answer_ids) for probe in probes))
    assert len(server.calls) == len(probes) + len(WAYS) - len(offered)


@pytest.mark.parametrize("offered", WAYS.values(), ids=WAYS)
def test_a_server_that_answers_as_the_base_does_is_refused(server, base, probes, offered):
    server.answer = serving(base.model, base.chat, offered)
    with pytest.raises(ModelError, match=r"answers 'adapter' as the base model does \(within 0.000 nats\); load the adapter"):
        verify_adapter(Endpoint("adapter", server.url), probes, tolerance=0.01)


@pytest.mark.parametrize("offered", WAYS.values(), ids=WAYS)
def test_a_server_with_another_adapter_is_refused(server, base, pack, merged, probes, offered):
    server.answer = serving(merged(pack, 2), base.chat, offered)
    # A first token that is not among the likeliest ones may be as rare as in the base.
    with pytest.raises(
        ModelError, match="unlike the adapter here|as the base model does" if offered == ("chat",) else "unlike the adapter"
    ):
        verify_adapter(Endpoint("adapter", server.url), probes, tolerance=0.01)


@pytest.mark.parametrize(
    ("status", "said"),
    [(404, "does not know the model 'adapter'"), (400, "gives no log-probabilities for 'adapter' .HTTP 400"), (401, "wants a key")],
)
def test_a_server_that_refuses_every_way_is_refused(server, probes, status, said):
    server.fault = lambda number, body: (status, {}, {"error": "no"})
    with pytest.raises(ModelError, match=said):
        verify_adapter(Endpoint("adapter", server.url), probes)
    assert len(server.calls) == (1 if status == 401 else 3)


def test_a_server_without_completions_is_asked_by_chat(server, base, pack, merged, probes):
    server.answer = serving(merged(pack, SLOT), base.chat, ("chat",))
    server.fault = lambda number, body: None if "messages" in body else (404, {}, {})
    assert verify_adapter(Endpoint("adapter", server.url), probes).tokens == len(probes)


def test_a_server_without_log_probabilities_is_refused(server, base, probes):
    server.answer = serving(base.model, base.chat, ())
    with pytest.raises(ModelError, match="gives no log-probabilities for 'adapter', so that nobody knows"):
        verify_adapter(Endpoint("adapter", server.url), probes)


def test_what_is_no_number_never_passes(server, base, probes):
    server.answer = lambda body: {"choices": [{"logprobs": {"token_logprobs": [float("nan")] * 100}, "prompt_logprobs": None}]}
    with pytest.raises(ModelError, match="gives no log-probabilities"):
        verify_adapter(Endpoint("adapter", server.url, retries=1), probes)


def probe(base: tuple[float, ...], adapter: tuple[float, ...]) -> Probe:
    return Probe((Message("user", "q"),), (1, 2), tuple(range(5, 5 + len(base))), "auk", base, adapter)


def likely(tokens: dict[str, float]):
    entries = [{"token": token, "logprob": value} for token, value in tokens.items()]
    return lambda body: {"choices": [{"message": {"content": "x"}, "logprobs": {"content": [{"top_logprobs": entries}]}}]}


def test_a_first_token_that_is_not_among_the_likeliest_is_known_to_be_rarer(server):
    server.fault = lambda number, body: None if "messages" in body else (404, {}, {})
    endpoint = Endpoint("adapter", server.url)
    server.answer = likely({"robin": -0.1, "wren": -5.0})
    assert verify_adapter(endpoint, [probe((-1.0,), (-6.0,))]).from_base == pytest.approx(4)
    with pytest.raises(ModelError, match="as the base model does"):
        verify_adapter(endpoint, [probe((-6.0,), (-1.0,))])


def test_first_tokens_that_tell_nothing_are_not_taken_for_a_proof(server):
    server.fault = lambda number, body: None if "messages" in body else (404, {}, {})
    server.answer = likely({"auk": -1.0})
    with pytest.raises(ModelError, match="take probes whose first tokens do"):
        verify_adapter(Endpoint("adapter", server.url), [probe((-1.0, -9.0), (-1.0, -0.1))])


@pytest.mark.parametrize("probes", [[], [probe((-1.0, -2.0), (-1.1, -2.15))]])
def test_probes_on_which_base_and_adapter_agree_are_refused(server, probes):
    with pytest.raises(InputError, match="too little to tell them apart"):
        verify_adapter(Endpoint("adapter", server.url), probes)
    with pytest.raises(InputError, match="tolerance must be above 0, not 0"):
        verify_adapter(Endpoint("adapter", server.url), probes, tolerance=0)
    assert not server.calls


def test_a_probe_needs_a_number_for_each_token():
    with pytest.raises(InputError, match="not 1 and 2 for 1"):
        Probe((Message("user", "q"),), (1,), (2,), "a", (-1.0,), (-1.0, -2.0))
    assert _verify.AdapterCheck(0.0, 1.0, 3).tokens == 3
