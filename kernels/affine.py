"""Products of float32 matrices on CPUs: oneDNN's where torch's usual library leaves half of the processor unused.

torch multiplies float32 with MKL, which uses AVX-512 on Intel's processors only. oneDNN, which torch has too, uses it
wherever it is. Measured on one core of an AMD EPYC, width 768 to 3,072: 90 and 210 GFLOP/s for 250 rows, 45 and 125 for
13. Both are float32 throughout and differ in the order of their sums.

Shape suffixes: T tokens, D input width, F features.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

# Below either, what oneDNN takes to begin, some 12 microseconds, is more than it saves.
_WORTH_IT = 1_500_000
_ROWS = 4


def affine(x_td: Tensor, w_fd: Tensor, b_f: Tensor | None = None) -> Tensor:
    """Return `x_td @ w_fd.T + b_f` like `torch.nn.functional.linear`, whatever stands before the last axis of x_td."""
    n_rows = x_td.numel() // max(1, x_td.shape[-1])
    if n_rows < _ROWS or n_rows * w_fd.numel() < _WORTH_IT or not _takes(x_td, w_fd):
        return functional.linear(x_td, w_fd, b_f)
    return torch.ops.mkldnn._linear_pointwise(x_td, w_fd, b_f, "none", [], "")


def _takes(x_td: Tensor, w_fd: Tensor) -> bool:
    """Return whether oneDNN is to multiply these; its operation has no gradient."""
    needs_gradient = torch.is_grad_enabled() and (x_td.requires_grad or w_fd.requires_grad)
    in_float32 = x_td.is_cpu and x_td.dtype == w_fd.dtype == torch.float32
    return in_float32 and not needs_gradient and onednn_is_faster()


@cache
def onednn_is_faster() -> bool:
    """Return whether MKL would not use the AVX-512 that this processor has; never measured, so always the same."""
    return (
        bool(torch.cpu.get_capabilities().get("avx512_f"))
        and "Intel" not in _vendor()
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _vendor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")
