"""Sparse activations: which features fire at which tokens, in rows of any length.

Shape suffixes: T tokens, F features, N firings; `indptr` has T + 1 entries and row t is indptr[t]:indptr[t + 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Numbers that a step of an encoder without a kernel computes at once.
STEP_ELEMENTS = 1 << 22


@dataclass(frozen=True, slots=True, eq=False)
class SparseActivations:
    """Activations as compressed sparse rows: `indptr` and `indices_n` int64, `values_n` not zero.

    Values are positive unless the architecture keeps signs (`DictionaryConfig.is_signed`). Within a row TopK lists
    features from the strongest on, the other architectures by index.
    """

    indptr: Tensor
    indices_n: Tensor
    values_n: Tensor
    n_features: int

    @classmethod
    def from_topk(cls, values_tk: Tensor, indices_tk: Tensor, n_features: int) -> SparseActivations:
        """Keep the entries that are above zero."""
        return cls.from_rows(values_tk, indices_tk, values_tk > 0, n_features)

    @classmethod
    def from_rows(cls, values_tk: Tensor, indices_tk: Tensor, fires_tk: Tensor, n_features: int) -> SparseActivations:
        """Keep the entries where the mask is set."""
        return cls(_indptr(fires_tk.sum(1)), indices_tk[fires_tk], values_tk[fires_tk], n_features)

    @classmethod
    def from_mask(cls, h_tf: Tensor, fires_tf: Tensor) -> SparseActivations:
        """Keep the entries of h_tf where the mask is set."""
        # Flat positions: on a CPU, pairs of coordinates were measured to take more than twice as long.
        n_features = h_tf.shape[1]
        flat_n = fires_tf.reshape(-1).nonzero().squeeze(1)
        tokens_n = flat_n.div(n_features, rounding_mode="floor")
        counts_t = torch.bincount(tokens_n, minlength=len(h_tf))
        values_n = h_tf.reshape(-1).index_select(0, flat_n)
        return cls(_indptr(counts_t), flat_n - tokens_n * n_features, values_n, n_features)

    @classmethod
    def concatenate(cls, parts: Sequence[SparseActivations]) -> SparseActivations:
        """Join the rows of several parts of one text."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            _indptr(torch.cat([part.counts_t for part in parts])),
            torch.cat([part.indices_n for part in parts]),
            torch.cat([part.values_n for part in parts]),
            parts[0].n_features,
        )

    @classmethod
    def in_steps(cls, x_td: Tensor, width: int, encode: Callable[[Tensor], SparseActivations]) -> SparseActivations:
        """Join what an encoder returns for a few tokens at a time, where it computes `width` numbers for each."""
        return cls.concatenate([encode(x_cd) for x_cd in x_td.split(max(1, STEP_ELEMENTS // width))])

    @property
    def n_tokens(self) -> int:
        return len(self.indptr) - 1

    @property
    def counts_t(self) -> Tensor:
        """The number of features that fire at each token."""
        return self.indptr.diff()

    @property
    def tokens_n(self) -> Tensor:
        """The token of each firing."""
        tokens_t = torch.arange(self.n_tokens, device=self.indptr.device)
        return tokens_t.repeat_interleave(self.counts_t, output_size=len(self.indices_n))

    def to_csr(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return indptr, indices_n, values_n."""
        return self.indptr, self.indices_n, self.values_n

    def to(self, dtype: torch.dtype) -> SparseActivations:
        """Return the activations with values of a dtype."""
        if self.values_n.dtype == dtype:
            return self
        return SparseActivations(self.indptr, self.indices_n, self.values_n.to(dtype), self.n_features)

    def dense(self) -> Tensor:
        """Return a_tf."""
        a_tf = self.values_n.new_zeros(self.n_tokens, self.n_features)
        a_tf[self.tokens_n, self.indices_n] = self.values_n
        return a_tf

    def rows(self, kept_t: Tensor) -> SparseActivations:
        """Return the activations of the tokens where a mask is set."""
        kept_n = kept_t.repeat_interleave(self.counts_t, output_size=len(self.indices_n))
        return SparseActivations(
            _indptr(self.counts_t[kept_t]), self.indices_n[kept_n], self.values_n[kept_n], self.n_features
        )

    def columns(self, indices_m: Tensor) -> Tensor:
        """Return a_tm, the activations of chosen features."""
        slot_f = indices_m.new_full((self.n_features,), -1)
        unique_m, inverse_m = indices_m.unique(return_inverse=True)
        slot_f[unique_m] = torch.arange(len(unique_m), device=indices_m.device)
        slot_n = slot_f.index_select(0, self.indices_n)
        chosen_n = (slot_n >= 0).nonzero().squeeze(1)
        tokens_n = torch.searchsorted(self.indptr, chosen_n, right=True) - 1
        a_tu = self.values_n.new_zeros(self.n_tokens, len(unique_m))
        a_tu[tokens_n, slot_n[chosen_n]] = self.values_n[chosen_n]
        return a_tu[:, inverse_m]


def _indptr(counts_t: Tensor) -> Tensor:
    indptr = counts_t.new_zeros(len(counts_t) + 1, dtype=torch.int64)
    torch.cumsum(counts_t, 0, out=indptr[1:])
    return indptr
