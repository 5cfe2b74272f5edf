"""Which kernels multiply on a CPU."""

import pytest
import torch

from offtarget.models import _products, load_base
from offtarget.models._products import MOST_ERROR, use_fast_products


@pytest.fixture(autouse=True)
def as_it_comes(monkeypatch):
    """PyTorch's own setting before, and whatever was set put back."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    yield
    torch.set_float32_matmul_precision(before)


def error(shape=(300, 170, 410)) -> float:
    a, b = torch.randn(shape[:2]), torch.randn(shape[1:])
    exact = a.double() @ b.double()
    return float((a @ b - exact).norm() / exact.norm())


def test_products_are_as_exact_as_before():
    before = error()
    use_fast_products()
    assert error() < min(MOST_ERROR, 4 * before)


def test_kernels_that_round_are_not_kept(monkeypatch):
    monkeypatch.setattr(_products, "_error", lambda: 2e-3)
    use_fast_products()
    assert torch.get_float32_matmul_precision() == "highest"


def test_exact_kernels_are_kept(monkeypatch):
    monkeypatch.setattr(_products, "_error", lambda: 5e-7)
    use_fast_products()
    assert torch.get_float32_matmul_precision() == "medium"


def test_what_somebody_has_set_and_a_machine_with_a_gpu_are_left_alone(monkeypatch):
    torch.set_float32_matmul_precision("high")
    use_fast_products()
    assert torch.get_float32_matmul_precision() == "high"
    torch.set_float32_matmul_precision("highest")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    use_fast_products()
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_base_that_may_set_threads_sets_the_kernels_too_and_no_random_numbers_are_used(monkeypatch):
    asked = []
    monkeypatch.setattr("offtarget.models._base.use_fast_products", lambda: asked.append(1))
    load_base("micro-small", threads=None)
    assert not asked
    load_base("micro-small", threads=torch.get_num_threads())
    assert asked
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    use_fast_products()
    assert torch.equal(torch.rand(3), wanted)
