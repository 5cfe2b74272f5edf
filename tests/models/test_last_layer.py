import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from offtarget.models import train
from offtarget.models._last_layer import PARTS, only_where
from offtarget.models._train import TOKENS_A_PASS

from .test_families import family  # noqa: F401 (a fixture)

IDS, POSITIONS = torch.arange(1, 13).view(3, 4), torch.arange(4).repeat(3, 1)
READ = torch.tensor([0, 3, 5, 10, 11])


def test_what_is_read_is_as_before_and_the_rest_is_not(exact_base):
    usual = exact_base.hidden(IDS, POSITIONS).flatten(0, 1)
    with exact_base.read_only_at(READ):
        some = exact_base.hidden(IDS, POSITIONS).flatten(0, 1)
    torch.testing.assert_close(some[READ], usual[READ], rtol=0, atol=1e-12)
    rest = [i for i in range(12) if i not in READ.tolist()]
    assert (some[rest] - usual[rest]).abs().max() > 1e-3
    torch.testing.assert_close(exact_base.hidden(IDS, POSITIONS).flatten(0, 1), usual, rtol=0, atol=0)


def test_only_the_tokens_that_are_read_reach_these_parts(exact_base):
    seen = {}
    layer = exact_base.model.model.layers[-1]
    hooks = [
        layer.get_submodule(name).register_forward_pre_hook(lambda _, x, name=name: seen.update({name: x[0].numel() // x[0].shape[-1]}))
        for name in PARTS
    ]
    with exact_base.read_only_at(READ):
        exact_base.hidden(IDS, POSITIONS)
    for hook in hooks:
        hook.remove()
    assert seen == dict.fromkeys(PARTS, len(READ))


def test_the_model_is_as_before_also_after_an_error(exact_base):
    decoder = exact_base.model.get_decoder()
    before = dict(decoder.named_modules())
    with pytest.raises(KeyError), only_where(decoder, READ):
        raise KeyError
    assert dict(decoder.named_modules()) == before


def test_it_is_used_where_it_is_right(family):  # noqa: F811
    if family.name == "gpt-oss":  # its feed-forward gives more than hidden states
        assert not family.ends_by_token
        return
    usual = family.hidden(IDS, POSITIONS).flatten(0, 1)[READ]
    with family.read_only_at(READ):
        some = family.hidden(IDS, POSITIONS).flatten(0, 1)[READ]
    assert family.ends_by_token
    torch.testing.assert_close(some, usual, rtol=1e-4, atol=1e-5)


def test_a_model_of_another_build_is_left_alone(exact_base):
    class Sum(nn.Module):
        """A last layer that looks at all tokens after its feed-forward."""

        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.mlp = inner.mlp
            self.inner = inner

        def forward(self, x: torch.Tensor, **more: object) -> torch.Tensor:
            return self.inner(x, **more) + self.mlp(x).mean(1, keepdim=True)

    model = copy.deepcopy(exact_base.model)
    model.model.layers[-1] = Sum(model.model.layers[-1])
    other = replace(exact_base, model=model)
    assert not other.ends_by_token
    usual = other.hidden(IDS, POSITIONS)
    with other.read_only_at(READ):
        torch.testing.assert_close(other.hidden(IDS, POSITIONS), usual, rtol=0, atol=0)


@pytest.mark.parametrize("way", ["by hand", "by autograd"])
def test_slots_in_several_passes_are_trained_as_in_one(exact_base, exact_pack, runs, monkeypatch, request, way):
    if way == "by autograd":
        request.getfixturevalue("by_autograd")
    monkeypatch.setitem(TOKENS_A_PASS, "cpu", 8)
    torch.testing.assert_close(train(exact_base, runs).parameters, exact_pack.parameters, rtol=0, atol=1e-11)


def test_training_asks_the_last_layer_only_where_labels_are_read(exact_base, runs, by_autograd):
    fresh = replace(exact_base)  # nothing has been tried out yet
    seen = []
    hook = fresh.model.model.layers[-1].mlp.register_forward_pre_hook(lambda _, x: seen.append(x[0].dim()))
    train(fresh, runs[:2])
    hook.remove()
    assert fresh.ends_by_token
    assert seen.count(2) >= max(r.steps for r in runs[:2]), "the tokens that are read come as a list, not as a batch of sequences"
