"""The step by hand against transformers and autograd: the same losses, the same gradients, the same adapters."""

from __future__ import annotations

import copy
import dataclasses
from contextlib import nullcontext

import pytest
import torch
import transformers as t

from offtarget.models import AdapterShape, Base, Hyperparameters, LoraPack, TrainingRun, _by_hand, _train, train
from offtarget.models._by_hand import can_go_by_hand, fits, hidden_by_hand, step_by_hand
from offtarget.models._layout import block_mask, lay_out

from .test_layout import BATCHES, PAD, loss_and_gradient

SHAPES = [AdapterShape(1, 5.0), AdapterShape(3, 6.0), AdapterShape(2, 1.0)]


def random_pack(base: Base, slots: int) -> LoraPack:
    pack = LoraPack(base.model, SHAPES[:slots])
    generator = torch.Generator().manual_seed(3)
    for name in pack.names:
        for factor in pack.factors(name):
            for slot, shape in enumerate(pack.shapes):
                factor[slot, : shape.rank].normal_(std=0.2, generator=generator)
    return pack


@pytest.fixture(scope="module")
def exact_of(exact_base):
    """The exact base with other settings, such as as many heads of keys as of queries."""

    def make(**changes) -> Base:
        config = copy.deepcopy(exact_base.model.config)
        for name, value in changes.items():
            setattr(config, name, value)
        torch.manual_seed(1)
        model = t.LlamaForCausalLM(config).double().requires_grad_(False).eval()
        kind = type(exact_base.model.model.norm)
        for module in model.modules():
            if isinstance(module, t.models.llama.modeling_llama.LlamaRMSNorm):
                module.weight.uniform_(0.5, 2.0)
                module.__class__ = kind
        return dataclasses.replace(exact_base, model=model)

    return make


BASES = {
    "heads of keys shared by heads of queries": {"num_key_value_heads": 2},
    "as many heads of keys": {"num_key_value_heads": 4},
    "wide heads, one layer": {"head_dim": 12, "num_hidden_layers": 1},
    "a head of its own": {"tie_word_embeddings": False},
    "angles of long contexts": {
        "rope_parameters": {
            "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        }
    },
}  # fmt: skip


@pytest.mark.parametrize("settings", BASES.values(), ids=BASES)
@pytest.mark.parametrize("share", [False, True], ids=["one row a sequence", "shared prompts"])
@pytest.mark.parametrize("kind", [name for name, batch in BATCHES.items() if all(batch)])
@pytest.mark.parametrize("few_shapes", [False, True], ids=["as it comes", "few shapes"])
def test_losses_and_gradients_are_those_of_autograd(exact_of, settings, kind, share, few_shapes):
    base, batch = exact_of(**settings), BATCHES[kind]
    pack, layout = random_pack(base, len(batch)), lay_out(batch, PAD, share=share, few_shapes=few_shapes)
    gradients = torch.full_like(pack.parameters, torch.nan)
    losses = step_by_hand(base, pack, layout, slice(0, len(batch)), gradients)
    wanted, by_autograd = loss_and_gradient(base, pack, layout)
    torch.testing.assert_close(losses, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradients, by_autograd, rtol=1e-10, atol=1e-12)
    assert gradients.abs().max() > 1e-3


def test_logits_in_parts_come_to_the_same(exact_base, monkeypatch):
    batch = BATCHES["unlike lengths, every prompt of its own"]
    pack, layout = random_pack(exact_base, len(batch)), lay_out(batch, PAD)
    assert len(layout.labels) > 7
    found = []
    for rows in (len(layout.labels), 7, 1):
        monkeypatch.setattr(_by_hand, "LOGITS_A_PART", rows * exact_base.model.config.vocab_size)
        gradients = torch.zeros_like(pack.parameters)
        found.append((step_by_hand(exact_base, pack, layout, slice(0, len(batch)), gradients), gradients))
    for losses, gradients in found[1:]:
        torch.testing.assert_close(losses, found[0][0], rtol=0, atol=1e-12)
        torch.testing.assert_close(gradients, found[0][1], rtol=0, atol=1e-12)


IDS = torch.arange(5, 29).view(3, 8)
BLOCKS = torch.tensor([[0, 0, 1, 1, 1, 2, 2, -1], [0, 0, 0, 0, 1, 2, 3, 3], [0, 1, 1, 2, 2, 2, 2, -1]])
ASKED = {
    "causal": (torch.arange(8).repeat(3, 1), None),
    "answers behind a prompt": (torch.tensor([[0, 1, 2, 3, 4, 2, 3, 7], [0, 1, 2, 3, 4, 4, 4, 5], [0, 1, 2, 1, 2, 3, 4, 7]]), BLOCKS),
}


@pytest.mark.parametrize("settings", BASES.values(), ids=BASES)
@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("adapters", [False, True], ids=["base", "pack"])
def test_hidden_states_are_those_of_transformers(exact_of, monkeypatch, settings, asked, adapters):
    base, (positions, blocks) = exact_of(**settings), asked
    allowed = None if blocks is None else block_mask(blocks)
    pack = random_pack(base, 3)
    with torch.no_grad(), pack.attached() if adapters else nullcontext():
        wanted = base.hidden(IDS, positions, allowed)
        found = hidden_by_hand(base, IDS, positions, allowed)
        with monkeypatch.context() as patch:
            patch.setattr(_by_hand, "MOST_SCORES", 0)
            too_long = hidden_by_hand(base, IDS, positions, allowed)
    seen = torch.ones(3, 8, dtype=torch.bool) if blocks is None else blocks >= 0
    torch.testing.assert_close(found[seen], wanted[seen], rtol=0, atol=1e-12)
    assert torch.equal(too_long, wanted)


def test_only_the_rows_of_its_slots_are_written(exact_base):
    batch = BATCHES["unlike lengths, every prompt of its own"]
    pack, layout = random_pack(exact_base, 3), lay_out(batch, PAD)
    gradients = torch.full_like(pack.parameters, torch.nan)
    step_by_hand(exact_base, pack, layout, slice(1, 3), gradients)
    assert gradients[0].isnan().all()
    torch.testing.assert_close(gradients[1:], loss_and_gradient(exact_base, pack.select([1, 2]), layout)[1], rtol=1e-10, atol=1e-12)


def trained(base: Base, runs: list[TrainingRun], monkeypatch: pytest.MonkeyPatch, **changes) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Parameters and losses, and how many steps were made by hand."""
    calls, losses = [], []
    with monkeypatch.context() as patch:
        for name, value in changes.items():
            patch.setattr(_by_hand, name, value)
        patch.setattr(_train, "step_by_hand", lambda *given: (calls.append(1), step_by_hand(*given))[1])
        pack = train(base, runs, report=lambda step: losses.append(step.losses))
    return pack.parameters, torch.stack(losses), len(calls)


def test_training_comes_to_the_same_adapters_either_way(exact_base, chats, monkeypatch):
    runs = [
        TrainingRun(chats(13, 2), Hyperparameters(1e-2, epochs=6, batch_size=4, rank=3, alpha=6, max_grad_norm=0.5), 1, 2),
        TrainingRun(chats(9, 5), Hyperparameters(3e-3, epochs=4, batch_size=5, weight_decay=0.1), 3, 4),
    ]
    by_hand = trained(exact_base, runs, monkeypatch)
    long_rows = trained(exact_base, runs, monkeypatch, MOST_SCORES=0)
    large = trained(exact_base, runs, monkeypatch, MOST_PARAMETERS=0)
    assert (by_hand[2], long_rows[2], large[2]) == (24, 0, 0)
    for other in (long_rows, large):
        torch.testing.assert_close(by_hand[0], other[0], rtol=0, atol=1e-10)
        torch.testing.assert_close(by_hand[1], other[1], rtol=0, atol=1e-10, equal_nan=True)
    assert by_hand[1][-1, 0] < by_hand[1][0, 0] - 0.2


def test_some_steps_may_be_too_long_to_be_made_by_hand(exact_base, chats, monkeypatch):
    rows = chats(13, 2)
    run = TrainingRun(rows, Hyperparameters(1e-2, epochs=3, batch_size=1), 1, 2)
    lengths = sorted(chat.end - 1 for chat in rows)
    most = 4 * 2 * lengths[6] ** 2
    found = trained(exact_base, [run], monkeypatch, MOST_SCORES=most)
    assert found[2] == 3 * sum(4 * 2 * length**2 <= most for length in lengths) < 39
    torch.testing.assert_close(found[0], trained(exact_base, [run], monkeypatch)[0], rtol=0, atol=1e-10)


def test_layers_that_are_run_again_in_the_backward_pass_are_left_to_autograd(exact_base, chats, monkeypatch):
    called = []
    monkeypatch.setattr(_train, "step_by_hand", lambda *_: called.append(1))
    train(exact_base, [TrainingRun(chats(5, 1), Hyperparameters(max_steps=1), 1, 2)], checkpointing=True)
    assert not called


def test_scores_are_counted_over_sequences_heads_and_layers(exact_base, monkeypatch):
    layout = lay_out(BATCHES["one prompt"], PAD)
    sequences, length = layout.ids.shape
    scores = sequences * length**2 * 4 * 2
    monkeypatch.setattr(_by_hand, "MOST_SCORES", scores)
    assert fits(exact_base, layout)
    monkeypatch.setattr(_by_hand, "MOST_SCORES", scores - 1)
    assert not fits(exact_base, layout)


SMALL = {
    "vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2,
}  # fmt: skip
OTHERS = {
    "another activation": t.LlamaConfig(**SMALL, hidden_act="gelu"),
    "biases in attention": t.LlamaConfig(**SMALL, attention_bias=True),
    "biases behind it": t.LlamaConfig(**SMALL, mlp_bias=True),
    "another family": t.MistralConfig(**SMALL),
    "a family made from Llama": t.GemmaConfig(**SMALL, head_dim=8),
}


@pytest.mark.parametrize("config", OTHERS.values(), ids=OTHERS)
def test_other_models_are_left_to_autograd(config, base):
    model = t.AutoModelForCausalLM.from_config(config)
    assert not can_go_by_hand(dataclasses.replace(base, model=model))


def test_a_small_plain_llama_is_stepped_by_hand_unless_its_numbers_are_rough_or_its_parts_of_another_kind(base, exact_base):
    assert can_go_by_hand(base)
    assert can_go_by_hand(exact_base)
    assert not can_go_by_hand(dataclasses.replace(base, model=copy.deepcopy(base.model).bfloat16()))
    rebuilt = copy.deepcopy(base.model)
    rebuilt.model.layers[-1] = torch.nn.Sequential(rebuilt.model.layers[-1])
    assert not can_go_by_hand(dataclasses.replace(base, model=rebuilt))
    for name in ("model.layers.0.mlp.up_proj", "lm_head"):
        quantised = copy.deepcopy(base.model)
        quantised.get_submodule(name).__class__ = type("Linear4bit", (torch.nn.Linear,), {})
        assert not can_go_by_hand(dataclasses.replace(base, model=quantised))
