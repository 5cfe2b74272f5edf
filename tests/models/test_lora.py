import pytest
import torch
from torch import nn

from offtarget.errors import ModelError
from offtarget.models import AdapterShape, LoraPack, _lora

IDS = torch.tensor([[1, 40, 41, 42, 43], [7, 8, 9, 10, 11]])
SHAPES = (AdapterShape(4, 8.0), AdapterShape(2, 2.0), AdapterShape(3, 12.0))


def randomised(model: nn.Module, shapes=SHAPES, seed: int = 0) -> LoraPack:
    """A pack in which both factors of all slots are far from zero."""
    pack = LoraPack(model, shapes)
    generator = torch.Generator().manual_seed(seed)
    for name in pack.names:
        for slot, shape in enumerate(shapes):
            a, b = pack.factors(name)
            a[slot, : shape.rank] = torch.randn(shape.rank, a.shape[2], generator=generator, dtype=torch.float64).to(a) / 6
            b[slot, : shape.rank] = torch.randn(shape.rank, b.shape[2], generator=generator, dtype=torch.float64).to(b) / 6
    return pack


@pytest.fixture(params=["merged", "unmerged"])
def both_ways(request, monkeypatch) -> str:
    """Asks once with weights of each slot made in advance, as small models are, and once with the update added on the way."""
    monkeypatch.setattr(_lora, "MAX_MERGED_BYTES", 2**30 if request.param == "merged" else 0)
    return request.param


def logits(pack: LoraPack) -> torch.Tensor:
    with pack.attached(), torch.no_grad():
        return pack.model(IDS.repeat(pack.slots, 1)).logits.unflatten(0, (pack.slots, len(IDS)))


def test_each_slot_is_the_base_with_its_update_added_to_the_weights(exact_base, merged, both_ways):
    pack = randomised(exact_base.model)
    found = logits(pack)
    for slot in range(pack.slots):
        torch.testing.assert_close(found[slot], merged(pack, slot)(IDS).logits, rtol=0, atol=1e-10)
    assert (found[0] - found[1]).abs().max() > 0.1


def test_a_slot_whose_b_is_zero_is_the_base(base, both_ways):
    pack = LoraPack(base.model, SHAPES)
    pack.initialise([1, 2, 3])
    torch.testing.assert_close(logits(pack), base.model(IDS).logits.expand(3, -1, -1, -1), rtol=0, atol=1e-5)


def test_gradients_are_those_of_autograd_through_each_slots_factors(exact_base):
    pack = randomised(exact_base.model)
    gradients = torch.full_like(pack.parameters, torch.nan)
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(3, *IDS.shape, exact_base.model.config.vocab_size, dtype=torch.float64, generator=generator)
    with pack.attached(gradients):
        (exact_base.model(IDS.repeat(3, 1)).logits.unflatten(0, (3, len(IDS))) * weights).sum().backward()
    for slot, shape in enumerate(SHAPES):
        factors = {name: [f[slot].clone().requires_grad_() for f in pack.factors(name)] for name in pack.names}
        scale = shape.alpha / shape.rank
        update = {f"{name}.weight": exact_base.model.get_submodule(name).weight + scale * b.T @ a for name, (a, b) in factors.items()}
        (torch.func.functional_call(exact_base.model, update, (IDS,)).logits * weights[slot]).sum().backward()
        for site in pack._sites:
            for into, factor in zip(pack._views(gradients, site), factors[site.name], strict=True):
                torch.testing.assert_close(into[slot], factor.grad, rtol=1e-9, atol=1e-10)
    assert gradients.abs().max() > 0.1


def test_ranks_beyond_a_slots_own_get_no_gradient(exact_base):
    pack = randomised(exact_base.model)
    gradients = torch.zeros_like(pack.parameters)
    with pack.attached(gradients):
        exact_base.model(IDS.repeat(3, 1)).logits.square().sum().backward()
    for site in pack._sites:
        a, b = pack._views(gradients, site)
        assert not a[1, 2:].any()
        assert not b[1, 2:].any()


def test_a_linear_that_a_model_uses_twice_gets_both_gradients():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4, dtype=torch.float64).requires_grad_(False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(self.linear(x).tanh())

    torch.manual_seed(0)
    model, x = Twice(), torch.randn(3, 5, 4, dtype=torch.float64)
    pack = randomised(model)
    gradients = torch.zeros_like(pack.parameters)
    with pack.attached(gradients):
        model(x).square().sum().backward()
    step, direction = 1e-6, torch.randn(pack.parameters.shape, dtype=torch.float64)
    ends = []
    for sign in (1, -1):
        pack.parameters += sign * step * direction
        with pack.attached():
            ends.append(model(x).square().sum())
        pack.parameters -= sign * step * direction
    torch.testing.assert_close((gradients * direction).sum(), (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=0)


def test_the_model_is_as_before_after_a_block_even_one_that_raises(base, both_ways):
    modules = dict(base.model.named_modules())
    pack = randomised(base.model)
    with pack.attached():
        assert dict(base.model.named_modules()) != modules
    assert dict(base.model.named_modules()) == modules
    with pytest.raises(KeyboardInterrupt), pack.attached():
        raise KeyboardInterrupt
    assert dict(base.model.named_modules()) == modules


def test_a_pack_attached_within_another_takes_its_place_for_that_time(base, both_ways):
    outer, inner = randomised(base.model, seed=1), randomised(base.model, seed=2)
    alone = logits(outer)
    with outer.attached(), torch.no_grad():
        assert torch.equal(logits(inner), logits(inner))
        again = base.model(IDS.repeat(3, 1)).logits.unflatten(0, (3, len(IDS)))
    assert torch.equal(again, alone)


@pytest.mark.parametrize("slots", [[1], [2, 1], [0, 2], [1, 1]])
def test_selected_slots_answer_as_in_the_whole_pack(exact_base, slots, both_ways):
    pack = randomised(exact_base.model)
    picked = pack.select(slots)
    assert picked.shapes == tuple(SHAPES[s] for s in slots)
    torch.testing.assert_close(logits(picked), logits(pack)[slots], rtol=0, atol=1e-12)
    picked.parameters.zero_()
    assert pack.parameters[slots].abs().max() > 0


def test_the_start_of_a_slot_depends_on_its_own_seed_and_rank_only(base):
    together, alone = LoraPack(base.model, SHAPES), LoraPack(base.model, SHAPES[1:2])
    torch.manual_seed(5)
    together.initialise([1, 2, 3])
    torch.manual_seed(6)
    alone.initialise([2])
    for name in together.names:
        (a, b), (lone, _) = together.factors(name), alone.factors(name)
        bound = a.shape[2] ** -0.5
        assert torch.equal(a[1, :2], lone[0])
        assert not torch.equal(a[1, :2], a[0, :2])
        assert not a[1, 2:].any()
        assert not b.any()
        assert a.abs().max() <= bound
        assert a.abs().max() > 0.9 * bound


def test_adapters_sit_on_every_linear_but_the_head_as_in_peft(base):
    import copy

    from peft import LoraConfig, get_peft_model

    peft = get_peft_model(copy.deepcopy(base.model), LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    theirs = {n.removeprefix("base_model.model.").removesuffix(".lora_A") for n, _ in peft.named_modules() if n.endswith(".lora_A")}
    assert set(LoraPack(base.model, SHAPES).names) == theirs


def test_routers_and_experts_are_left_alone_and_names_that_only_end_alike_are_not():
    model = nn.Module()
    for name in ("gate", "router", "aggregate", "gate_proj"):
        model.add_module(name, nn.Linear(2, 2))
    model.add_module("experts", nn.ModuleList([nn.Linear(2, 2)]))
    outer = nn.Module()
    outer.add_module("mlp", model)
    assert LoraPack(outer, SHAPES).names == ["mlp.aggregate", "mlp.gate_proj"]


def test_a_model_without_linear_layers_is_refused():
    with pytest.raises(ModelError, match="Embedding has no linear layers"):
        LoraPack(nn.Embedding(3, 3), SHAPES)


def test_adapters_of_a_half_precision_base_stay_in_float32(new_model):
    model = new_model()
    exact = logits(randomised(model))
    pack = randomised(model.bfloat16())
    gradients = torch.zeros_like(pack.parameters)
    with pack.attached(gradients):
        model(IDS.repeat(3, 1)).logits.float().square().sum().backward()
    assert (pack.parameters.dtype, gradients.dtype) == (torch.float32, torch.float32)
    assert gradients.isfinite().all()
    assert gradients.abs().max() > 0
    assert (logits(pack).float() - exact).norm() < 0.1 * exact.norm()
