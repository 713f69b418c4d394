"""Inputs that encoders are tested on: the cases that have broken kernels of this kind.

Shape suffixes: T tokens, D input width, F features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kernels.bounds import InBfloat16, InBytes
from kernels.screening import Screen, Use

FORMATS = {"bfloat16": InBfloat16, "bytes": InBytes}


class Inputs(NamedTuple):
    x_td: Tensor
    w_fd: Tensor
    b_f: Tensor

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> Inputs:
        return Inputs(*(tensor.to(device, dtype) for tensor in self))

    def scores(self) -> Tensor:
        """Return h_tf in float64."""
        return (self.x_td.double() @ self.w_fd.double().T + self.b_f.double()).cpu()


def normal(n_tokens: int, d_in: int, n_features: int, *, seed: int = 0) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    return Inputs(
        torch.randn(n_tokens, d_in, generator=generator),
        torch.randn(n_features, d_in, generator=generator) / d_in**0.5,
        torch.randn(n_features, generator=generator) / 4,
    )


def heavy_tailed() -> Inputs:
    x_td, w_fd, b_f = normal(9, 24, 260)
    return Inputs(x_td.pow(3), w_fd.pow(3) * 40, b_f)


def duplicate_features() -> Inputs:
    x_td, w_fd, b_f = normal(5, 16, 150)
    return Inputs(x_td, w_fd[:50].repeat(3, 1), b_f[:50].repeat(3))


def all_equal() -> Inputs:
    x_td, w_fd, b_f = normal(4, 16, 140)
    return Inputs(x_td, w_fd[:1].expand(140, -1), torch.full_like(b_f, 0.5))


def all_negative() -> Inputs:
    x_td, w_fd, b_f = normal(4, 16, 140)
    return Inputs(x_td, w_fd, torch.full_like(b_f, -100.0))


def one_tile_holds_all() -> Inputs:
    x_td, w_fd, b_f = normal(6, 24, 512)
    b_f[130:170] += 20
    return Inputs(x_td, w_fd, b_f)


def strided() -> Inputs:
    x_td, w_fd, b_f = normal(9, 32, 200)
    x_td = x_td.repeat_interleave(2, dim=1)[:, ::2]
    w_fd = w_fd.T.contiguous().T
    assert not x_td.is_contiguous()
    assert not w_fd.is_contiguous()
    return Inputs(x_td, w_fd, b_f)


def tiny() -> Inputs:
    """Denormal numbers and negative zeros."""
    x_td, w_fd, b_f = normal(5, 16, 130)
    x_td[0] = -0.0
    return Inputs(x_td * 1e-20, w_fd * 1e-20, b_f * 0)


WELL_BEHAVED = {
    "one": lambda: normal(1, 16, 128),
    "odd": lambda: normal(17, 33, 300),
    "narrow": lambda: normal(5, 64, 255),
    "wide": lambda: normal(3, 40, 257),
    "no-tokens": lambda: normal(0, 16, 140),
    "heavy-tailed": heavy_tailed,
    "duplicates": duplicate_features,
    "all-equal": all_equal,
    "all-negative": all_negative,
    "one-tile": one_tile_holds_all,
    "strided": strided,
    "tiny": tiny,
}


def nan_in_a_token() -> Inputs:
    inputs = normal(6, 16, 140)
    inputs.x_td[2, 3] = torch.nan
    return inputs


def infinity_in_a_token() -> Inputs:
    inputs = normal(6, 16, 140)
    inputs.x_td[4, 0] = torch.inf
    return inputs


def nan_in_a_feature() -> Inputs:
    inputs = normal(6, 16, 140)
    inputs.w_fd[131, 5] = torch.nan
    return inputs


def infinity_in_a_feature() -> Inputs:
    inputs = normal(6, 16, 140)
    inputs.w_fd[7, 5] = -torch.inf
    return inputs


NOT_FINITE = {
    "nan-in-x": nan_in_a_token,
    "inf-in-x": infinity_in_a_token,
    "nan-in-w": nan_in_a_feature,
    "inf-in-w": infinity_in_a_feature,
}


def far_apart(device: torch.device) -> Inputs:
    """Return weights whose last entries lie beyond 2^31 numbers from the first, in memory that is never touched."""
    x_td, w_fd, b_f = normal(3, 16, 300)
    stride = (1 << 31) // 290
    # Not by torch.empty, which tests fill with NaN: that would touch all of it.
    w_far_fd = torch.empty_strided((300, 16), (stride, 1), device=device)
    return Inputs(x_td.to(device), w_far_fd.copy_(w_fd), b_f.to(device))


def screen_in(format: type, w_fd: Tensor, offset_f: Tensor) -> Screen:
    """Return a screen in one format, whatever the sizes and the machine."""
    return Screen(w_fd=w_fd, offset_f=offset_f, uses=(Use(format=format, fewest_in_cache=0),))
