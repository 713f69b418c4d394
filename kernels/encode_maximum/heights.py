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
from kernels.products import Product, from_bits
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
    spans: Spans

    @cached_property
    def highest_cf(self) -> Tensor:
        bits_tf = self.product.bits_tf
        rows = []
        for first, last in self.spans:
            highest_f = bits_tf[first:last].max(0)
            # Below zero, bits are in the opposite order.
            below_f = np.flatnonzero(highest_f < 0)
            highest_f[below_f] = bits_tf[first:last, below_f].min(0) if len(below_f) else 0
            rows.append(highest_f)
        return self._of_scores(from_bits(np.stack(rows)), slice(None))

    def exact(self, context_n: Tensor, feature_n: Tensor) -> tuple[Tensor, Tensor]:
        found = [(feature_n.new_zeros(0), self.product.x_td.new_zeros(0))]
        for c, near in _by_context(context_n, feature_n):
            first, last = self.spans[c]
            found.append(self._exact(first, self._columns(first, last, near), near))
        rows, values = (torch.cat(parts) for parts in zip(*found, strict=True))
        return values, rows

    def _exact(self, first: int, bound_tn: Tensor, near_n: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first row and the value of the maxima of features of one context, by their bounds there."""
        likely_n = bound_tn.argmax(0)
        score_n = self.product.scores_of(likely_n + first, near_n)
        rivals_tn = bound_tn >= score_n
        rivals_tn[likely_n, torch.arange(len(near_n))] = False
        # By feature, then by token, so that the first of equals comes first.
        column_p, token_p = rivals_tn.T.nonzero(as_tuple=True)
        rival_p = self.product.scores_of(token_p + first, near_n[column_p])
        column = np.concatenate([np.arange(len(near_n)), column_p.numpy()])
        token = np.concatenate([likely_n.numpy(), token_p.numpy()])
        score = np.concatenate([score_n.numpy(), rival_p.numpy()])
        score[np.isnan(score)] = -np.inf
        order = np.lexsort((token, -score, column))
        order = order[np.searchsorted(column[order], np.arange(len(near_n)))]
        return torch.from_numpy(token[order]) + first, torch.from_numpy(score[order])

    def _columns(self, first: int, last: int, near_n: Tensor) -> Tensor:
        bits_tf = self.product.bits_tf[first:last]
        bits_tn = bits_tf if len(near_n) == bits_tf.shape[1] else bits_tf[:, near_n.numpy()]
        return self._of_scores(from_bits(bits_tn), near_n)

    def _of_scores(self, bound: Tensor, features: Tensor | slice) -> Tensor:
        """Turn stored bounds of what a screen adds to products into bounds of scores in float32."""
        assert self.product.screen is not None
        moved = self.product.b_f[features] - self.product.screen.offset_f[features]
        return above(bound) + (moved + moved.abs() * 2**-20)


def heights(product: Product, spans: Spans) -> Heights:
    """Return the heights of a product's features: by its bounds or its scores on a CPU, by a kernel on a GPU."""
    if product.in_triton and not product.is_dense:
        from kernels.encode_maximum import triton

        ends = [0, *(last for _, last in spans)]
        if [first for first, _ in spans] != ends[:-1]:
            raise ValueError("contexts must lie end to end")
        indptr = torch.tensor(ends, device=product.x_td.device)
        return Known(triton.encode_maximum(product.x_td, product.w_fd, product.b_f, indptr))
    return Screened(product, spans) if product.is_screened and not product.is_dense else Dense(product.h_tf, spans)


def _by_context(context_n: Tensor, feature_n: Tensor) -> list[tuple[int, Tensor]]:
    """Return the features of each context that has some."""
    contexts, counts = context_n.unique_consecutive(return_counts=True)
    return list(zip(contexts.tolist(), feature_n.split(counts.tolist()), strict=True))
