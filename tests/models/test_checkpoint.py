"""Running layers again in the backward pass changes memory, not numbers."""

import pytest
import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from offtarget.models import train
from offtarget.models._checkpoint import checkpointed, is_large


def test_adapters_are_the_same_with_and_without(exact_base, exact_pack, runs):
    again = train(exact_base, runs, checkpointing=True)
    torch.testing.assert_close(again.parameters, exact_pack.parameters, rtol=0, atol=1e-12)


def test_layers_run_twice_and_are_left_as_they_were(base, runs, by_autograd):
    layers = [m for m in base.model.modules() if isinstance(m, GradientCheckpointingLayer)]
    train(base, runs)  # tries out what the model can do; not to be counted below
    calls = []
    hooks = [layer.self_attn.register_forward_pre_hook(lambda *_: calls.append(1)) for layer in layers]
    train(base, runs, checkpointing=False)
    once = len(calls)
    assert once >= len(layers) * max(r.steps for r in runs)
    train(base, runs, checkpointing=True)
    assert len(calls) == once + 2 * once
    for hook in hooks:
        hook.remove()
    assert not any(layer.training or layer.gradient_checkpointing for layer in layers)


def test_layers_are_left_as_they_were_also_after_an_error(base):
    layer = next(m for m in base.model.modules() if isinstance(m, GradientCheckpointingLayer))
    with pytest.raises(KeyError), checkpointed(base.model, wanted=True):
        raise KeyError(layer.gradient_checkpointing)
    assert not layer.gradient_checkpointing


def test_a_model_on_a_cpu_keeps_its_activations(base):
    assert not is_large(base.model)
