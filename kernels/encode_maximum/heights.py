"""How high features come in contexts, for those who want to know it exactly of a few features only.

`highest_cf` is no lower than each feature's maximum in each context; `exact` gives the maxima of chosen features and
where they are. Where upper bounds were computed to see what fires (`kernels.screening`), they serve here too.

Shape suffixes: T tokens, F features, C contexts, N chosen pairs of a context and a feature, P pairs of a token and one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from kernels.encode_maximum.cpu import without_nan
from kernels.encode_maximum.reference import Maximum
from kernels.products import Bounded, Product, ascending, from_bits
from kernels.rows import true_places
from kernels.screening import above

# Rows of each context: the first, and the one after the last.
Spans = Sequence[tuple[int, int]]


class Heights(Protocol):
    """Upper bounds of maxima, and the maxima."""

    @property
    def highest_cf(self) -> Tensor: ...

    def exact(self, context_n: Tensor, feature_n: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maxima of chosen features in contexts that ascend, in float32, and the first row of each."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Maxima that a kernel found."""

    maximum: Maximum

    @property
    def highest_cf(self) -> Tensor:
        return self.maximum.values_cf

    def exact(self, context_n: Tensor, feature_n: Tensor) -> tuple[Tensor, Tensor]:
        return self.maximum.values_cf[context_n, feature_n], self.maximum.tokens_cf[context_n, feature_n]


@dataclass(frozen=True, eq=False)
class Dense:
    """Pre-activations that are there already."""

    h_tf: Tensor
    spans: Spans

    @cached_property
    def highest_cf(self) -> Tensor:
        h_tf = without_nan(self.h_tf)
        if h_tf.is_cuda:
            return torch.stack([h_tf[first:last].amax(0) for first, last in self.spans]).float()
        return torch.from_numpy(np.stack([h_tf[first:last].float().numpy().max(0) for first, last in self.spans]))

    def exact(self, context_n: Tensor, feature_n: Tensor) -> tuple[Tensor, Tensor]:
        rows = [feature_n.new_zeros(0)]
        for c, near in _by_context(context_n, feature_n):
            first, last = self.spans[c]
            h_tn = self.h_tf[first:last, near]
            rows.append(h_tn.masked_fill(h_tn.isnan(), -torch.inf).max(0).indices + first)
        return self.highest_cf[context_n, feature_n], torch.cat(rows)


@dataclass(frozen=True, eq=False)
class Screened:
    """A product's upper bounds, on a CPU.

    The maximum is at the token of the highest bound, or at one whose bound reaches that token's score: few are scored.
    """

    product: Product
    bounded: Bounded
    spans: Spans

    @cached_property
    def highest_cf(self) -> Tensor:
        return self._of_scores(from_bits(self._highest_bits_cf))

    @cached_property
    def _highest_bits_cf(self) -> np.ndarray:
        bits_tf = self.bounded.bits_tf
        rows = []
        for first, last in self.spans:
            highest_f = bits_tf[first:last].max(0)
            # Below zero, bits are in the opposite order.
            below_f = np.flatnonzero(highest_f < 0)
            highest_f[below_f] = bits_tf[first:last, below_f].min(0) if len(below_f) else 0
            rows.append(highest_f)
        return np.stack(rows)

    def exact(self, context_n: Tensor, feature_n: Tensor) -> tuple[Tensor, Tensor]:
        groups = _by_context(context_n, feature_n)
        if not groups:
            return self.product.x_td.new_zeros(0), feature_n.new_zeros(0)
        columns = [self.bounded.bits_tf[slice(*self.spans[c])].take(near.numpy(), axis=1) for c, near in groups]
        row_n = np.concatenate(
            [
                self.spans[c][0] + _first_equal(bits_tn, self._highest_bits_cf[c].take(near.numpy()))
                for (c, near), bits_tn in zip(groups, columns, strict=True)
            ]
        )
        score_n = self._scores_of(row_n, feature_n)
        level_n = self._levels(score_n, feature_n)
        rows, numbers, number = [], [], 0
        for (c, near), bits_tn in zip(groups, columns, strict=True):
            some = slice(number, number + len(near))
            token, column = _reaching(bits_tn, level_n[some])
            rows.append(token + self.spans[c][0])
            numbers.append(column + number)
            number = some.stop
        row_p, number_p = np.concatenate(rows), np.concatenate(numbers)
        rival = np.flatnonzero(row_p != row_n[number_p])
        row_p, number_p = row_p[rival], number_p[rival]
        score_p = self._scores_of(row_p, feature_n[torch.from_numpy(number_p)])
        # The highest rival of each, and of equals the first.
        order = np.lexsort((row_p, -score_p, number_p))
        order = order[np.flatnonzero(np.diff(number_p[order], prepend=-1))]
        row_p, number_p, score_p = row_p[order], number_p[order], score_p[order]
        likely_p = score_n[number_p]
        won = np.flatnonzero((score_p > likely_p) | (score_p == likely_p) & (row_p < row_n[number_p]))
        row_n[number_p[won]], score_n[number_p[won]] = row_p[won], score_p[won]
        return torch.from_numpy(score_n), torch.from_numpy(row_n)

    def _scores_of(self, row_n: np.ndarray, feature_n: Tensor) -> np.ndarray:
        score_n = self.product.scores_of(torch.from_numpy(row_n), feature_n).numpy()
        score_n[np.isnan(score_n)] = -np.inf
        return score_n

    def _levels(self, score_n: np.ndarray, feature_n: Tensor) -> np.ndarray:
        """Return the bits, as they ascend, that bounds of what is not below these scores do not fall below."""
        level_n = torch.from_numpy(score_n) - self._moved(feature_n)
        # The inverse of `above`, below zero where it would be zero of either sign, and then of 16 bits the next lower.
        level_n -= level_n.abs() * (2**-7 + 2**-13) + 2**-120
        kind = self.bounded.bits_tf.dtype
        return (ascending(level_n.numpy().view(np.int32)) >> (32 - 8 * kind.itemsize)).astype(kind)

    def _of_scores(self, bound_cf: Tensor) -> Tensor:
        """Turn stored bounds of what a screen adds to products into bounds of scores in float32."""
        return above(bound_cf) + self._moved(slice(None))

    def _moved(self, features: Tensor | slice) -> Tensor:
        """Return what scores have more than what the screen adds, rounded up."""
        assert self.product.screen is not None
        moved = self.product.b_f[features] - self.product.screen.offset_f[features]
        return moved + moved.abs() * 2**-20


def heights(product: Product, spans: Spans) -> Heights:
    """Return the heights of a product's features: by its bounds or its scores on a CPU, by a kernel on a GPU."""
    if product.in_triton and not product.is_dense:
        from kernels.encode_maximum import triton

        ends = [0, *(last for _, last in spans)]
        if [first for first, _ in spans] != ends[:-1]:
            raise ValueError("contexts must lie end to end")
        indptr = torch.tensor(ends, device=product.x_td.device)
        return Known(triton.encode_maximum(product.x_td, product.w_fd, product.b_f, indptr))
    bounded = None if product.is_dense else product.bounds
    return Dense(product.h_tf, spans) if bounded is None else Screened(product, bounded, spans)


def _by_context(context_n: Tensor, feature_n: Tensor) -> list[tuple[int, Tensor]]:
    """Return the features of each context that has some."""
    contexts, counts = context_n.unique_consecutive(return_counts=True)
    return list(zip(contexts.tolist(), feature_n.split(counts.tolist()), strict=True))


def _first_equal(bits_tn: np.ndarray, wanted_n: np.ndarray) -> np.ndarray:
    """Return the first row of each column that has what is wanted, which is somewhere in it."""
    row, column = np.divmod(true_places(bits_tn == wanted_n), len(wanted_n))
    first_n = np.empty(len(wanted_n), dtype=np.int64)
    first_n[column[::-1]] = row[::-1]
    return first_n


def _reaching(bits_tn: np.ndarray, level_n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the bounds that are not below the level of their column."""
    if level_n.min() < 0:
        bits_tn = ascending(bits_tn)
    return np.divmod(true_places(bits_tn >= level_n), len(level_n))
