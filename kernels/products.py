"""A product of inputs and encoder rows that more than one kernel looks at: what fires, and how near the others came.

On a CPU it is computed once, when a kernel first asks: in float32, or, where that pays, as upper bounds in fewer bits
(`kernels.screening`). Whoever makes one gives it few enough tokens (`kernels.rows.chunks`). On a GPU nothing is kept of
it unless somebody asks for `h_tf`: kernels there compute their own tiles.

Shape suffixes: T tokens, D input width, F features, S features of a sample, N pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernels.bounds import Format
from kernels.rows import scores
from kernels.screening import Screen

_GATHERED_ELEMENTS = 1 << 18
_FLOATS = {np.dtype(np.int16): torch.bfloat16, np.dtype(np.int32): torch.float32}
_INTEGERS = {torch.bfloat16: torch.int16, torch.float32: torch.int32}


@dataclass(frozen=True, kw_only=True, eq=False)
class Bounded:
    """The upper bounds of a product in one format."""

    format: Format
    inputs: Any

    @cached_property
    def bits_tf(self) -> np.ndarray:
        """The bounds' bits, which a CPU compares much faster: ordered like the numbers from zero up, reversed below."""
        bound_tf = self.format.bounds(self.inputs)
        return bound_tf.view(_INTEGERS[bound_tf.dtype]).numpy()

    @property
    def is_computed(self) -> bool:
        """Whether the bounds are there."""
        return "bits_tf" in self.__dict__

    @property
    def gap_t(self) -> Tensor:
        """How far each token's bounds may be from the scores, but for rounding when they are stored."""
        return self.format.gap(self.inputs)

    @property
    def sampled_share(self) -> float:
        """The share of bounds above zero, of a sample of the features, for a small part of the product."""
        bound_ts = self.format.sample(self.inputs)
        return int((bound_ts > 0).sum()) / max(1, bound_ts.numel())


@dataclass(frozen=True, kw_only=True, eq=False)
class Product:
    """`x_td @ w_fd.T + b_f`, with a screen made of the same weights where bounds may stand for it."""

    x_td: Tensor
    w_fd: Tensor
    b_f: Tensor
    screen: Screen | None = None
    _bounded: dict[Format, Bounded | None] = field(default_factory=dict)

    @cached_property
    def h_tf(self) -> Tensor:
        """The pre-activations, in float32 or the wider precision of the tensors."""
        return scores(self.x_td, self.w_fd, self.b_f)

    def bounded(self) -> Iterator[Bounded]:
        """Yield bounds that may stand for the pre-activations, the best first and each made when it is asked for."""
        for format in self.screen.formats(self.x_td) if self.screen else ():
            if format not in self._bounded:
                inputs = format.inputs(self.x_td)
                self._bounded[format] = None if inputs is None else Bounded(format=format, inputs=inputs)
            if (bounded := self._bounded[format]) is not None:
                yield bounded

    @property
    def bounds(self) -> Bounded | None:
        """The bounds that are there, else the best that there could be."""
        computed = (bounded for bounded in self._bounded.values() if bounded is not None and bounded.is_computed)
        return next(computed, None) or next(self.bounded(), None)

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
    """Return in float32 the numbers, in bfloat16 or float32, of which these are the bits."""
    return torch.from_numpy(np.ascontiguousarray(bits)).view(_FLOATS[bits.dtype]).float()


def to_bits(numbers: Tensor, like: np.ndarray) -> np.ndarray:
    """Return the bits of numbers in the precision of other bits."""
    return numbers.to(_FLOATS[like.dtype]).view(_INTEGERS[_FLOATS[like.dtype]]).numpy()


def ascending(bits: np.ndarray) -> np.ndarray:
    """Return the bits of floating-point numbers as integers in the order of the numbers; its own inverse."""
    width = 8 * bits.dtype.itemsize
    return bits ^ ((bits >> (width - 1)) & bits.dtype.type(np.iinfo(bits.dtype).max))
