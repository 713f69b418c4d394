"""A product of inputs and encoder rows that more than one kernel looks at: what fires, and how near the others came.

On a CPU it is computed once, when a kernel first asks: in float32, or, where that pays, as the upper bounds of
`kernels.screening`. Whoever makes one gives it few enough tokens (`kernels.rows.chunks`). On a GPU nothing is kept of
it unless somebody asks for `h_tf`: kernels there compute their own tiles.

Shape suffixes: T tokens, D input width, E = D + columns that carry bounds, F features, N pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from kernels.rows import scores
from kernels.screening import Screen

_GATHERED_ELEMENTS = 1 << 18


@dataclass(frozen=True, kw_only=True, eq=False)
class Product:
    """`x_td @ w_fd.T + b_f`, with a screen made of `Screen.of(w_fd, ...)` where bounds may stand for it."""

    x_td: Tensor
    w_fd: Tensor
    b_f: Tensor
    screen: Screen | None = None

    @cached_property
    def h_tf(self) -> Tensor:
        """The pre-activations, in float32 or the wider precision of the tensors."""
        return scores(self.x_td, self.w_fd, self.b_f)

    @cached_property
    def x_te(self) -> Tensor:
        """The inputs of the screen."""
        assert self.screen is not None
        return self.screen.inputs(self.x_td)

    @cached_property
    def is_screened(self) -> bool:
        """Whether bounds pay and hold: there are none of infinities and NaN."""
        return self.screen is not None and self.screen.pays_for(self.x_td) and bool(self.x_te.isfinite().all())

    @cached_property
    def bits_tf(self) -> np.ndarray:
        """The bounds' bits, which a CPU compares much faster: ordered like the numbers from zero up, reversed below."""
        assert self.screen is not None
        return (self.x_te @ self.screen.w_fe.T).view(torch.int16).numpy()

    @property
    def is_dense(self) -> bool:
        """Whether the pre-activations are there."""
        return "h_tf" in self.__dict__

    @property
    def in_triton(self) -> bool:
        """Whether Triton's kernels know these tensors: on a GPU, and nothing wider than float32."""
        return self.x_td.is_cuda and self.x_td.dtype != torch.float64

    def scores_of(self, token_n: Tensor, index_n: Tensor) -> Tensor:
        """Return the scores of pairs, added up in float64: the same whatever else is asked for together with them."""
        size = max(1, _GATHERED_ELEMENTS // self.x_td.shape[1])
        parts = [
            (self.x_td.index_select(0, t) * self.w_fd.index_select(0, f)).sum(1, dtype=torch.float64) + self.b_f[f]
            for t, f in zip(token_n.split(size), index_n.split(size), strict=True)
        ]
        return torch.cat(parts).float() if parts else self.x_td.new_zeros(0)


def from_bits(bits: np.ndarray) -> Tensor:
    """Return bfloat16 numbers in float32 from their bits."""
    return torch.from_numpy(np.ascontiguousarray(bits)).view(torch.bfloat16).float()


def ascending(bits: np.ndarray) -> np.ndarray:
    """Return the bits of floating-point numbers as integers in the order of the numbers; its own inverse."""
    width = 8 * bits.dtype.itemsize
    return bits ^ ((bits >> (width - 1)) & bits.dtype.type(np.iinfo(bits.dtype).max))
