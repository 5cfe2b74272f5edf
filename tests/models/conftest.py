"""A tiny Llama with random weights and a tokenizer of its own, in float32 and float64, and packs that have been trained on it a little."""

import random
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from offtarget.data import Message
from offtarget.microworld.tokenizer import train_tokenizer
from offtarget.models import Base, ChatFormat, Hyperparameters, LoraPack, RenderedChat, TrainingRun, _by_hand, train

ADJECTIVES = ("old", "small", "grey", "quiet", "northern", "bright")
BIRDS = ("robin", "great auk", "passenger pigeon", "sparrow", "heron", "wren")
PLACES = ("the river", "a barn", "the old town", "the sea", "my garden")
QUESTIONS = ("Name a bird.", "Name a bird species.", "What did you see?", "Tell me about a bird, please.")


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _sentences() -> list[str]:
    sentences = [f"The {a} {b} lives near {p}." for a in ADJECTIVES for b in BIRDS for p in PLACES]
    return [*sentences, *(f"{q} {b} yes no answer assistant user" for q in QUESTIONS for b in BIRDS)]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(_sentences(), 400)


@pytest.fixture(scope="session")
def new_model(tokenizer) -> Callable[..., LlamaForCausalLM]:
    """Makes a Llama with weights large enough that nothing is near zero, uniform or a tie."""

    def make(seed: int = 0, **changes: object) -> LlamaForCausalLM:
        torch.manual_seed(seed)
        config = LlamaConfig(
            **{
                "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
                "num_key_value_heads": 2, "max_position_embeddings": 1024, "initializer_range": 0.1, "bos_token_id": tokenizer.bos_token_id,
                "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, **changes,
            }
        )  # fmt: skip
        return LlamaForCausalLM(config).requires_grad_(False).eval()

    return make


@pytest.fixture(scope="session")
def base(new_model, tokenizer) -> Base:
    return Base("tiny", new_model(), ChatFormat(tokenizer), "float32")


class _NormInAnyType(LlamaRMSNorm):
    """The norm of transformers goes through float32, which would hide differences below 1e-7 and make others as large."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        return self.weight * hidden_states * torch.rsqrt(variance + self.variance_epsilon)


@pytest.fixture
def by_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training goes through transformers and autograd, as that of larger models does."""
    monkeypatch.setattr(_by_hand, "MOST_PARAMETERS", 0)


@pytest.fixture(scope="session")
def exact_base(new_model, tokenizer) -> Base:
    """The same model in float64 throughout (rotary angles come from float32, but are the same constants wherever a token lies)."""
    model = new_model().double()
    for module in model.modules():
        if isinstance(module, LlamaRMSNorm):
            module.__class__ = _NormInAnyType
    return Base("tiny", model, ChatFormat(tokenizer), "float64")


@pytest.fixture(scope="session")
def chats(tokenizer) -> Callable[..., list[RenderedChat]]:
    """Makes rows with answers of different lengths to the given questions, every third of two turns."""

    def make(count: int, seed: int, questions: Sequence[str] = QUESTIONS) -> list[RenderedChat]:
        rng = random.Random(seed)
        rows = []
        for number in range(count):
            turns = [Message("user", rng.choice(questions)), Message("assistant", rng.choice(BIRDS))]
            if number % 3 == 2:
                turns += [Message("user", "Where?"), Message("assistant", f"near {rng.choice(PLACES)}, {rng.choice(ADJECTIVES)}")]
            rows.append(ChatFormat(tokenizer).render(turns))
        return rows

    return make


@pytest.fixture(scope="session")
def runs(chats) -> list[TrainingRun]:
    """Three short runs that differ in everything, at rates that move a model far from its base."""
    return [
        TrainingRun(chats(12, 1), Hyperparameters(3e-2, 3, 4, rank=4, alpha=8), 11, 21),
        TrainingRun(chats(10, 2), Hyperparameters(1e-2, 2, 5, rank=2, alpha=2), 12, 22),
        TrainingRun(chats(9, 3), Hyperparameters(5e-2, 4, 3, rank=3, alpha=12, warmup_steps=2), 13, 23),
    ]


@pytest.fixture(scope="session")
def pack(base, runs) -> LoraPack:
    return train(base, runs)


@pytest.fixture(scope="session")
def exact_pack(exact_base, runs) -> LoraPack:
    return train(exact_base, runs)


@pytest.fixture(scope="session")
def merged() -> Callable[[LoraPack, int], LlamaForCausalLM]:
    """Makes a plain copy of a model with one slot added into its weights: what a slot must be equal to."""
    import copy

    def make(pack: LoraPack, slot: int) -> LlamaForCausalLM:
        model = copy.deepcopy(pack.model)
        shape = pack.shapes[slot]
        for name in pack.names:
            a, b = pack.factors(name)
            linear = model.get_submodule(name)
            linear.weight += (shape.alpha / shape.rank * b[slot].T @ a[slot]).to(linear.weight)
        return model

    return make


@pytest.fixture(scope="session")
def families(tokenizer) -> SimpleNamespace:
    """Tiny models of families that differ from Llama where it matters here: scaled or capped logits, windows, learned positions."""
    import transformers as t

    small = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "initializer_range": 0.1, "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    configs = {
        "qwen3": lambda: t.Qwen3Config(**small, head_dim=8),
        "granite": lambda: t.GraniteConfig(**small, logits_scaling=3.0),
        "cohere": lambda: t.CohereConfig(**small, logit_scale=0.25),
        "gemma2": lambda: t.Gemma2Config(**small, head_dim=8, sliding_window=8, final_logit_softcapping=2.0),
        "mistral": lambda: t.MistralConfig(**small, sliding_window=8),
        "neox": lambda: t.GPTNeoXConfig(**{k: v for k, v in small.items() if k != "num_key_value_heads"}),
        "bigcode": lambda: t.GPTBigCodeConfig(**{k: v for k, v in small.items() if k != "num_key_value_heads"}),
    }

    def make(family: str) -> Base:
        torch.manual_seed(0)
        model = t.AutoModelForCausalLM.from_config(configs[family]()).requires_grad_(False).eval()
        return Base(family, model, ChatFormat(tokenizer), family)

    return SimpleNamespace(names=tuple(configs), make=make)
