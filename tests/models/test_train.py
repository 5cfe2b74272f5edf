import copy
import dataclasses
import math

import pytest
import torch

from offtarget.errors import InputError
from offtarget.models import AdapterShape, Base, Hyperparameters, LoraPack, RenderedChat, TrainingRun, train
from offtarget.models._layout import Row
from offtarget.models._train import _batches

STEPS = 40
CLIPPED = 1

# All differ in everything; the shortest is done after 6 steps, and one is still warming up when its run ends.
HYPERPARAMETERS = [
    Hyperparameters(3e-3, epochs=20, batch_size=4, rank=1, alpha=1, max_steps=STEPS),
    Hyperparameters(1e-2, epochs=10, batch_size=3, rank=2, alpha=6, max_grad_norm=0.05, weight_decay=0.1),
    Hyperparameters(1e-3, epochs=2, batch_size=5, rank=8, alpha=16, max_grad_norm=0, warmup_steps=2),
    Hyperparameters(5e-3, epochs=5, batch_size=2, rank=4, alpha=2, max_grad_norm=0.3, warmup_steps=100, weight_decay=0.5),
    Hyperparameters(2e-2, epochs=9, batch_size=6, rank=3, alpha=3, max_grad_norm=0.2, warmup_steps=5, max_steps=17),
]


@pytest.fixture(scope="module")
def five(chats) -> list[TrainingRun]:
    return [TrainingRun(chats(9 + 2 * n, n), hp, init_seed=100 + n, order_seed=200 + n) for n, hp in enumerate(HYPERPARAMETERS)]


@pytest.fixture(scope="module")
def together(exact_base, five) -> LoraPack:
    return train(exact_base, five)


def factors(pack: LoraPack, slot: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    rank = pack.shapes[slot].rank
    return {name: (a[slot, :rank], b[slot, :rank]) for name in pack.names for a, b in [pack.factors(name)]}


def distance(one: dict, other: dict) -> float:
    return max(float((x - y).abs().max()) for name in one for x, y in zip(one[name], other[name], strict=True))


def without_sharing(base: Base) -> Base:
    """The same model, taken for one that allows no masks of our own."""
    plain = dataclasses.replace(base)
    plain.__dict__["takes_free_masks"] = False
    return plain


@pytest.mark.parametrize("slot", range(5))
def test_a_slot_equals_a_run_of_its_own(exact_base, five, together, slot):
    alone = train(exact_base, [five[slot]])
    assert distance(factors(together, slot), factors(alone, 0)) < 1e-10


def test_the_five_runs_are_long_differ_are_clipped_and_move(exact_base, five, together):
    """Without this, the test above might compare nothing."""
    assert [run.steps for run in five] == [STEPS, 40, 6, 40, 17]
    unclipped = dataclasses.replace(five[CLIPPED], hyperparameters=dataclasses.replace(HYPERPARAMETERS[CLIPPED], max_grad_norm=0))
    assert distance(factors(together, CLIPPED), factors(train(exact_base, [unclipped]), 0)) > 1e-3
    start = LoraPack(exact_base.model, together.shapes)
    start.initialise([run.init_seed for run in five])
    for slot in range(5):
        for name in together.names:
            assert together.factors(name)[1][slot].abs().max() > 1e-3
        assert distance(factors(together, slot), factors(start, slot)) > 1e-3
    ends = [together.factors(together.names[0])[1][slot, 0] for slot in range(5)]
    assert all((x - y).abs().max() > 1e-3 for n, x in enumerate(ends) for y in ends[:n])


def test_neither_order_nor_neighbours_of_slots_matter(exact_base, five, together):
    turned = train(exact_base, five[::-1])
    assert max(distance(factors(together, s), factors(turned, 4 - s)) for s in range(5)) < 1e-10
    other = dataclasses.replace(five[1], init_seed=7, order_seed=8)
    beside = train(exact_base, [five[0], other])
    assert distance(factors(together, 0), factors(beside, 0)) < 1e-10
    assert distance(factors(together, 1), factors(beside, 1)) > 1e-3


def test_sharing_prompts_does_not_change_what_is_learnt(exact_base, five, together):
    plain = train(without_sharing(exact_base), five)
    assert max(distance(factors(together, s), factors(plain, s)) for s in range(5)) < 1e-10


def test_prompts_are_not_shared_beyond_a_models_window(families, chats):
    """A mask of our own would let a token see further than the model's own layers do."""
    base = families.make("mistral")
    run = TrainingRun(chats(8, 1, ["Name a bird."]), Hyperparameters(1e-2, epochs=1, batch_size=8), 1, 2)
    assert max(len(chat.token_ids) for chat in run.rows) > 8
    assert torch.equal(train(base, [run]).parameters, train(without_sharing(base), [run]).parameters)


def test_nothing_grows_beyond_a_slots_rank(together):
    for name in together.names:
        a, b = together.factors(name)
        for slot, shape in enumerate(together.shapes):
            assert not a[slot, shape.rank :].any()
            assert not b[slot, shape.rank :].any()


def test_a_run_that_is_over_stays_as_it_is(exact_base, five):
    """Neither momentum, weight decay nor a warm-up that was never finished moves it on."""
    short = [five[2], dataclasses.replace(five[3], hyperparameters=dataclasses.replace(HYPERPARAMETERS[3], max_steps=5))]
    kept = {}
    pack = train(exact_base, [*short, five[0]], at={6: lambda p: kept.update(then=p.parameters.clone())})
    assert torch.equal(pack.parameters[:2], kept["then"][:2])
    assert not torch.equal(pack.parameters[2], kept["then"][2])


def test_a_run_that_diverges_leaves_the_others_alone(exact_base, five):
    wild = dataclasses.replace(five[1], hyperparameters=Hyperparameters(1e200, batch_size=4, max_grad_norm=0))
    pack = train(exact_base, [wild, five[2]])
    assert not pack.parameters[0].isfinite().all()
    assert distance(factors(pack, 1), factors(train(exact_base, [five[2]]), 0)) < 1e-10


def peft_loop(base: Base, run: TrainingRun) -> tuple[dict[str, tuple[torch.Tensor, torch.Tensor]], list[float]]:
    """The loop that one would write without this project: PEFT, padded rows, AdamW, clipping, linear schedule."""
    from peft import LoraConfig, get_peft_model
    from transformers import get_linear_schedule_with_warmup

    hp = run.hyperparameters
    config = LoraConfig(r=hp.rank, lora_alpha=hp.alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(copy.deepcopy(base.model), config)
    start = LoraPack(base.model, [AdapterShape(hp.rank, hp.alpha)])
    start.initialise([run.init_seed])
    sites = {name: model.get_submodule(f"base_model.model.{name}") for name in start.names}
    for name, site in sites.items():
        a, b = start.factors(name)
        site.lora_A["default"].weight.data.copy_(a[0])
        site.lora_B["default"].weight.data.copy_(b[0].T)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=hp.learning_rate, weight_decay=hp.weight_decay)
    schedule = get_linear_schedule_with_warmup(optimiser, hp.warmup_steps, run.steps)
    generator = torch.Generator().manual_seed(run.order_seed)
    losses: list[float] = []
    norms: list[float] = []
    while len(losses) < run.steps:
        order = torch.randperm(len(run.rows), generator=generator).tolist()
        for begin in range(0, len(order), hp.batch_size):
            if len(losses) == run.steps:
                break
            ids, attention, labels = padded([run.rows[i] for i in order[begin : begin + hp.batch_size]])
            logits = model(input_ids=ids, attention_mask=attention).logits[:, :-1]
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
            loss.backward()
            if hp.max_grad_norm:
                norms.append(float(torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], hp.max_grad_norm)))
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            losses.append(loss.item())
    assert not hp.max_grad_norm or min(norms) < 0.9 * hp.max_grad_norm < 1.1 * hp.max_grad_norm < max(norms), "clipping plays no part"
    return {n: (s.lora_A["default"].weight.data, s.lora_B["default"].weight.data.T) for n, s in sites.items()}, losses


def padded(rows: list[RenderedChat]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    longest = max(len(r.token_ids) for r in rows)
    ids, attention, labels = (torch.full((len(rows), longest), fill) for fill in (0, 0, -100))
    for line, r in enumerate(rows):
        size = len(r.token_ids)
        ids[line, :size], attention[line, :size] = torch.tensor(r.token_ids), 1
        labels[line, :size] = torch.where(torch.tensor(r.supervised), torch.tensor(r.token_ids), -100)
    return ids, attention, labels


@pytest.mark.parametrize("share", [False, True], ids=["one row a sequence", "shared prompts"])
@pytest.mark.parametrize(("precision", "tolerance"), [("base", 1e-6), ("exact_base", 1e-10)], ids=["float32", "float64"])
@pytest.mark.parametrize(
    "hp",
    [
        Hyperparameters(1e-3, epochs=4, batch_size=4, rank=4, alpha=8, weight_decay=0.01, max_grad_norm=1.6, warmup_steps=3),
        Hyperparameters(2e-3, epochs=3, batch_size=5, rank=8, alpha=16, max_grad_norm=0, max_steps=8),
    ],
    ids=["clipped, decayed, warmed up", "plain, cut short"],
)
def test_one_run_equals_peft_with_torchs_own_adamw(request, chats, hp, precision, tolerance, share):
    base = request.getfixturevalue(precision)
    run = TrainingRun(chats(16, 5, ["Name a bird.", "Name a bird species."]), hp, init_seed=1, order_seed=2)
    theirs, their_losses = peft_loop(base, run)
    losses: list[float] = []
    pack = train(base if share else without_sharing(base), [run], report=lambda s: losses.append(float(s.losses[0])))
    assert losses == pytest.approx(their_losses, abs=10 * tolerance)
    assert losses[-1] < losses[0] - 0.2
    assert distance(factors(pack, 0), theirs) < tolerance


def test_the_schedule_rises_falls_and_ends_at_zero():
    from transformers import get_linear_schedule_with_warmup

    hp = Hyperparameters(0.4, warmup_steps=4)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=0.4)
    schedule = get_linear_schedule_with_warmup(optimiser, 4, 10)
    for step in range(12):
        assert hp.rate(step, 10) == pytest.approx(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()
    assert hp.rate(3, 3) == 0


def test_every_row_is_seen_once_an_epoch_in_an_order_of_the_runs_own(exact_base, five):
    run = dataclasses.replace(five[0], hyperparameters=Hyperparameters(epochs=3, batch_size=4))
    seen = [[r.ids.tobytes() for r in batch] for batch in _batches(run)]
    every = sorted(r.ids.tobytes() for r in map(Row.of, run.rows))
    steps = math.ceil(len(run.rows) / 4)
    assert len(seen) == run.steps == 3 * steps
    epochs = [[row for batch in seen[e * steps : (e + 1) * steps] for row in batch] for e in range(3)]
    assert all(sorted(epoch) == every for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    other = dataclasses.replace(run, order_seed=run.order_seed + 1)
    assert [r.ids.tobytes() for batch in _batches(other) for r in batch] != [row for epoch in epochs for row in epoch]


def test_reports_and_calls_come_after_the_step_they_are_for(exact_base, five):
    called, reports = [], []
    pack = train(
        exact_base, [five[2], five[4]],
        at={0: lambda p: called.append((0, len(reports), bool(p.factors(p.names[0])[1].any()))),
            6: lambda p: called.append((6, len(reports), bool(p.factors(p.names[0])[1].any())))},
        report=reports.append,
    )  # fmt: skip
    assert called == [(0, 0, False), (6, 5, True)]  # before the report of the same step, so that its state holds what was found
    assert [r.step for r in reports] == list(range(1, 18))
    assert {r.steps for r in reports} == {17}
    assert all(r.losses[0].isfinite() == (r.step <= 6) for r in reports)
    assert all(r.losses[1].isfinite() for r in reports)
    assert pack.slots == 2


@pytest.mark.parametrize("stopped", [1, 6, 7, 39])
def test_training_that_goes_on_from_a_state_ends_as_if_it_had_not_stopped(exact_base, five, together, stopped):
    states = {}
    asked = []

    def report(s):
        if s.step == stopped:
            states[s.step] = s.state()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(exact_base, five, report=report)
    reported = []
    calls = {n: lambda pack, n=n: asked.append(n) for n in (0, stopped, STEPS)}
    again = train(exact_base, five, at=calls, start=states[stopped], report=lambda s: reported.append(s.step))
    assert torch.equal(again.parameters, together.parameters)
    assert reported == list(range(stopped + 1, STEPS + 1))
    assert asked == [STEPS]  # what came before was asked before


def test_the_base_is_the_same_after_training(base, runs):
    before = copy.deepcopy(base.model.state_dict())
    train(base, runs[:1])
    after = base.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(p.requires_grad or p.grad is not None for p in base.model.parameters())


@pytest.mark.parametrize("name", ["learning_rate", "epochs", "batch_size", "rank", "alpha", "max_steps"])
@pytest.mark.parametrize("value", [0, -1])
def test_numbers_that_must_be_above_zero_are_refused(name, value):
    with pytest.raises(InputError, match=f"{name} must be above 0, not {value}"):
        Hyperparameters(**{name: value})


@pytest.mark.parametrize("name", ["warmup_steps", "weight_decay", "max_grad_norm"])
def test_numbers_that_must_not_be_below_zero_are_refused(name):
    with pytest.raises(InputError, match=f"{name} must not be below 0"):
        Hyperparameters(**{name: -1})
