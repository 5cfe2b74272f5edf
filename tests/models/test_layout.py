import numpy as np
import pytest
import torch

from offtarget.models import AdapterShape, LoraPack
from offtarget.models._layout import Row, _coarse, block_mask, lay_out, passes

PAD = 0


def row(prompt: list[int], answer: list[int], *more: tuple[list[int], bool]) -> Row:
    ids, supervised = [*prompt, *answer], [False] * len(prompt) + [True] * len(answer)
    for part, learnt in more:
        ids, supervised = ids + part, supervised + [learnt] * len(part)
    return Row(np.array(ids), np.array(supervised), len(prompt))


P, LONGER, OTHER = [1, 50, 51, 52, 53], [1, 50, 51, 52, 53, 54], [1, 60]
BATCHES = {
    "one prompt": [[row(P, [70, 71, 2]), row(P, [72, 2]), row(P, [73, 74, 75, 2]), row(P, [76, 2])]],
    "several prompts": [[row(P, [70, 71, 2]), row(OTHER, [72, 2]), row(P, [73, 2]), row(OTHER, [74, 75, 2]), row(P, [70, 2])]],
    "one prompt is the start of another": [[row(P, [54, 70, 2]), row(LONGER, [70, 2]), row(P, [71, 2]), row(LONGER, [71, 72, 2])]],
    "answers of one token": [[row(P, [2]), row(P, [70]), row(P, [2]), row(P, [71, 2])]],
    "unlike lengths, every prompt of its own": [
        [row([1, 50, *range(60, 60 + n)], [70 + n, 71, 2]) for n in (1, 14, 2, 3, 9, 1)],
        [row([1, 51, *range(60, 60 + n)], [70 + n, 2]) for n in (16, 1, 2, 1)],
    ],
    "unlike lengths, some prompts shared": [
        [row(P, [70, 2]), row([1, *range(50, 70)], [71, 72, 2]), row(P, [71, 2]), row(OTHER, [73, 2])],
        [row(OTHER, [70, 2]), row(OTHER, [74, 75, 2])],
    ],
    "twice the same row": [[row(P, [70, 2])] * 3],
    "two turns": [
        [
            row(P, [70, 2], ([55, 56], False), ([71, 72, 2], True)),
            row(P, [70, 71, 2], ([55], False), ([73], True)),
            row(P, [74, 2]),
            row(P, [70, 2], ([57], False), ([75, 2], True)),
        ]
    ],
    "slots of different sizes": [
        [row(P, [70, 2]), row(P, [71, 2]), row(P, [72, 2])],
        [],
        [row(OTHER, [70, 71, 72, 73, 2])],
        [row(P, [70, 2]), row(OTHER, [71, 2]), row(OTHER, [72, 2])],
    ],
}


def random_pack(base, slots: int) -> LoraPack:
    pack = LoraPack(base.model, [AdapterShape(2, 4.0)] * slots)
    pack.parameters.normal_(std=0.2, generator=torch.Generator().manual_seed(3))
    return pack


def loss_and_gradient(base, pack, layout) -> tuple[torch.Tensor, torch.Tensor]:
    gradients = torch.zeros_like(pack.parameters)
    with pack.attached(gradients):
        hidden = base.hidden(layout.ids, layout.positions, layout.allowed).flatten(0, 1)
        nll = torch.nn.functional.cross_entropy(base.logits(hidden[layout.sources]), layout.labels, reduction="none")
        losses = torch.zeros(pack.slots, dtype=nll.dtype).index_add(0, layout.slots, nll * layout.weights)
        losses.sum().backward()
    return losses.detach(), gradients


def row_by_row(base, pack, rows, slot) -> float:
    """Mean loss of a slot by the model itself, without padding, packing or a mask."""
    total, count = 0.0, 0
    with pack.select([slot]).attached(), torch.no_grad():
        for r in rows:
            log_p = base.model(torch.tensor(r.ids)[None]).logits[0].log_softmax(-1)
            targets = np.flatnonzero(r.supervised)
            total -= sum(float(log_p[t - 1, r.ids[t]]) for t in targets)
            count += len(targets)
    return total / count


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES.keys())
def test_shared_prompts_give_the_loss_and_gradient_of_one_row_a_sequence(exact_base, batch):
    pack = random_pack(exact_base, len(batch))
    shared, alone = lay_out(batch, PAD), lay_out(batch, PAD, share=False)
    assert shared.allowed is not None
    assert alone.allowed is None
    assert shared.ids.numel() < alone.ids.numel()
    (loss, gradient), (plain_loss, plain_gradient) = (loss_and_gradient(exact_base, pack, x) for x in (shared, alone))
    torch.testing.assert_close(loss, plain_loss, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradient, plain_gradient, rtol=0, atol=1e-12)
    for slot, rows in enumerate(batch):
        if rows:
            assert float(loss[slot]) == pytest.approx(row_by_row(exact_base, pack, rows, slot), abs=1e-12)
            assert gradient[slot].abs().max() > 1e-4
        else:
            assert not gradient[slot].any()


def test_real_rows_give_the_same_loss_either_way(exact_base, chats):
    rows = [[Row.of(c) for c in chats(9, seed, ["Name a bird.", "Name a bird species."])] for seed in (1, 2)]
    pack = random_pack(exact_base, 2)
    shared, alone = lay_out(rows, PAD), lay_out(rows, PAD, share=False)
    (loss, gradient), (plain_loss, plain_gradient) = (loss_and_gradient(exact_base, pack, x) for x in (shared, alone))
    torch.testing.assert_close(loss, plain_loss, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradient, plain_gradient, rtol=0, atol=1e-12)


def test_what_stands_in_the_padding_changes_nothing(exact_base):
    batch = BATCHES["slots of different sizes"]
    pack = random_pack(exact_base, len(batch))
    for share in (True, False):
        found = [loss_and_gradient(exact_base, pack, lay_out(batch, pad, share=share)) for pad in (0, 33)]
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-15)


def test_prompts_are_shared_only_where_that_saves_tokens():
    different = [[row([1, 50 + n], [70, 71, 2]) for n in range(4)]]
    assert lay_out(different, PAD).allowed is None
    repeated = [[row(P, [70, 2]) for _ in range(4)]]
    assert lay_out(repeated, PAD).allowed is not None


def test_little_is_padding_where_rows_are_of_unlike_lengths():
    layout = lay_out(BATCHES["unlike lengths, every prompt of its own"], PAD)
    real = [sum(len(r.ids) - 1 for r in rows) for rows in BATCHES["unlike lengths, every prompt of its own"]]
    assert layout.ids.shape[0] < 2 * 6
    assert layout.ids.numel() <= 1.2 * 2 * max(real)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES.keys())
def test_few_shapes_change_neither_losses_nor_gradients(exact_base, batch, share):
    pack = random_pack(exact_base, len(batch))
    layouts = [lay_out(batch, PAD, share=share, few_shapes=few) for few in (False, True)]
    found = [loss_and_gradient(exact_base, pack, layout) for layout in layouts]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    plain, coarse = layouts
    assert coarse.ids.numel() >= plain.ids.numel()
    assert coarse.weights.sum() == pytest.approx(plain.weights.sum())


def test_few_shapes_are_few():
    sizes = {few: [set(), set(), set()] for few in (True, False)}
    for extra in range(20):
        batch = [[row(P, [*range(70, 85 + extra + slot), 2]) for _ in range(3)] for slot in range(2)]
        for few, found in sizes.items():
            layout = lay_out(batch, PAD, few_shapes=few)
            for size, of in zip((layout.ids.shape[1], len(layout.labels), len(layout.read)), found, strict=True):
                of.add(size)
    assert list(map(len, sizes[False])) == [20] * 3
    assert max(map(len, sizes[True])) <= 10


@pytest.mark.parametrize(("n", "wanted"), [(1, 1), (15, 15), (16, 16), (17, 18), (70, 72), (72, 72), (73, 80), (1025, 1152)])
def test_a_coarse_number_is_at_most_an_eighth_too_large(n, wanted):
    assert _coarse(n) == wanted
    assert n <= _coarse(n) <= n * 9 / 8


def test_a_row_sees_nothing_of_another_with_its_own_prompt():
    seen = block_mask(torch.tensor([[0, 1, 0, 1, -1]]), torch.tensor([[0, 0, 1, 1, -1]]))[0, 0].int().tolist()
    assert seen == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]]


def test_a_row_ends_with_its_last_supervised_token(exact_base, chats):
    for chat in chats(6, 0):
        cut = Row.of(chat)
        assert cut.supervised[-1]
        assert not any(chat.supervised[len(cut.ids) :])
        assert tuple(cut.ids) == chat.token_ids[: len(cut.ids)]
        assert not any(chat.supervised[: cut.prompt])


def test_a_plain_layout_keeps_the_fast_causal_kernel(base):
    """Transformers builds a mask of its own where positions restart, so not even padding may restart them."""
    from transformers.masking_utils import find_packed_sequence_indices

    layout = lay_out(BATCHES["slots of different sizes"], PAD, share=False)
    assert find_packed_sequence_indices(layout.positions) is None


def test_a_token_sees_the_prompt_and_its_own_answer_only():
    seen = block_mask(torch.tensor([[0, 0, 1, 1, 2, -1]]))[0, 0].int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 0, 1],
    ]


def sized(*tokens: int) -> list[list[Row]]:
    """Slots of so many tokens each, in rows of their own prompts."""
    return [[row([1, *range(50, 49 + n)], [70, 2])] if n else [] for n in tokens]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ((20, 20, 20, 20), [slice(0, 4)]),
        ((50, 50, 50, 50), [slice(0, 2), slice(2, 4)]),
        ((300, 10, 10), [slice(0, 1), slice(1, 3)]),
        ((50, 0, 40, 0, 0, 10), [slice(0, 1), slice(2, 3), slice(5, 6)]),
        ((0, 90), [slice(1, 2)]),
        ((0, 0), []),
    ],
)
def test_slots_go_through_the_model_in_parts_of_like_size(tokens, expected):
    assert passes(sized(*tokens), 100) == expected


def test_every_slot_with_rows_is_in_one_part():
    generator = np.random.default_rng(0)
    for limit in (30, 100, 1000):
        tokens = [int(n) for n in generator.integers(0, 60, 24)]
        found = passes(sized(*tokens), limit)
        covered = [slot for part in found for slot in range(part.start, part.stop)]
        assert covered == [slot for slot, n in enumerate(tokens) if n]
        assert all(sum(tokens[part]) <= 2 * max(limit, max(tokens)) for part in found)


def test_shared_prompts_count_once_in_the_size_of_a_part():
    batch = [[row([1, *range(50, 80)], [70 + n, 2]) for n in range(4)]] * 4
    assert len(passes(batch, 160)) < len(passes(batch, 160, share=False))


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES.keys())
@pytest.mark.parametrize("few_shapes", [True, False])
def test_what_is_read_is_every_source_and_equally_many_tokens_of_each_slot(batch, share, few_shapes):
    layout = lay_out(batch, PAD, share=share, few_shapes=few_shapes)
    read, of_slot = layout.read.tolist(), layout.ids.numel() // len(batch)
    assert set(layout.sources.tolist()) <= set(read)
    assert len(set(read)) == len(read)
    assert [r // of_slot for r in read] == sorted(list(range(len(batch))) * (len(read) // len(batch)))
    most = max(len(set(layout.sources[layout.slots == slot].tolist())) for slot in range(len(batch)))
    assert len(read) == (min(_coarse(most), of_slot) if few_shapes else most) * len(batch)
