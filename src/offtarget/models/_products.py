"""Which kernels multiply matrices on a CPU.

PyTorch multiplies float32 matrices with MKL, which reaches less than half of what AMD's processors can do. oneDNN, which PyTorch
brings along, does (421 against 193 GFLOP/s on two cores of an EPYC: `benchmarks/packs.py` prints both), but PyTorch takes it
only where it may round products to bfloat16. On processors without units for such products (AMX) it then multiplies in float32 all
the same. So it is asked for, and kept only where the products are as exact as before.
"""

from __future__ import annotations

import torch

MOST_ERROR = 1e-5
"""Relative, of a product: float32 has 5e-7, TF32 5e-4, bfloat16 2e-3."""


def use_fast_products() -> None:
    """Has float32 matrices multiplied by oneDNN from here on, if that costs no precision; a setting made before is left alone.

    It is a setting of the process, and one for GPUs too, so that nothing is done where there is one.
    """
    if torch.cuda.is_available() or torch.get_float32_matmul_precision() != "highest":
        return
    torch.set_float32_matmul_precision("medium")
    if _error() > MOST_ERROR:
        torch.set_float32_matmul_precision("highest")


def _error() -> float:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(256, 256, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    return float((a @ b - exact).norm() / exact.norm())
