import pytest
import torch

from offtarget.models import _head_loss
from offtarget.models._head_loss import slot_losses
from offtarget.models._layout import Row, lay_out

from .test_families import family  # noqa: F401 (a fixture)


@pytest.fixture
def layout(chats):
    rows = [Row.of(c) for c in chats(9, 1)]
    return lay_out([rows[:5], rows[5:]], 0, share=False)


def at_once(base, hidden, layout):
    nll = torch.nn.functional.cross_entropy(base.logits(hidden).double(), layout.labels, reduction="none") * layout.weights
    return torch.zeros(2, dtype=nll.dtype).index_add(0, layout.slots, nll)


@pytest.mark.parametrize("labels_a_part", [1, 7, 10_000])
def test_in_parts_losses_and_gradients_are_those_of_all_at_once(exact_base, layout, monkeypatch, labels_a_part):
    monkeypatch.setattr(_head_loss, "LOGITS_A_PART", labels_a_part * exact_base.model.config.vocab_size)
    hidden = torch.randn(len(layout.labels), exact_base.model.config.hidden_size, dtype=torch.float64, requires_grad=True)
    wanted = at_once(exact_base, hidden, layout)
    share = torch.tensor([1.0, 0.3], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(wanted @ share, hidden)
    found = slot_losses(exact_base, hidden, layout)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.autograd.grad(found @ share, hidden)[0], gradient, rtol=0, atol=1e-12)


def test_no_more_logits_than_a_part_are_in_memory(exact_base, layout, monkeypatch):
    seen = []
    monkeypatch.setattr(_head_loss, "LOGITS_A_PART", 4 * exact_base.model.config.vocab_size)
    hook = exact_base.model.lm_head.register_forward_hook(lambda _module, _inputs, out: seen.append(len(out)))
    slot_losses(exact_base, torch.randn(len(layout.labels), exact_base.model.config.hidden_size, dtype=torch.float64), layout)
    hook.remove()
    assert max(seen) == 4
    assert sum(seen) == len(layout.labels)


def test_every_family_has_its_own_logits(family, layout):  # noqa: F811
    width = family.model.config.get_text_config().hidden_size
    labels = layout.labels % family.model.config.get_text_config().vocab_size
    mine = type(layout)(**{**vars(layout), "labels": labels})
    hidden = torch.randn(len(labels), width)
    torch.testing.assert_close(slot_losses(family, hidden, mine), at_once(family, hidden, mine).float(), rtol=1e-4, atol=1e-5)
