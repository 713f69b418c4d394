"""Mixtures of linear transforms (MOLT): every feature is a map of low rank from input to output, and no direction.

    y = sum over f of a_f U_f V_f x + b

Follows llamascopium 2.0; features are ordered by the rank of their maps. The length of what a feature writes, which
gates it, is the Frobenius norm of U_f V_f.

Shape suffixes: T tokens, D input width, O output width, F features, C features of one rank, R ranks of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.dictionaries.architectures.linear import needed
from inference.dictionaries.sparse import SparseActivations

CHUNK_ELEMENTS = 1 << 22


@dataclass(frozen=True, slots=True, eq=False)
class Transforms:
    """The maps of all features, one rank after another: what each rank reads, what it writes, and whose it is."""

    v_rd: Tensor
    u_ro: Tensor
    feature_r: Tensor
    b_out_o: Tensor

    @property
    def n_bytes(self) -> int:
        return self.v_rd.nbytes + self.u_ro.nbytes + self.feature_r.nbytes + self.b_out_o.nbytes

    def decode(
        self, activations: SparseActivations, x_td: Tensor | None = None, lengths: Sequence[int] | None = None
    ) -> Tensor:
        """Return y_to; raise TypeError without the input."""
        x_td = needed(x_td).to(self.v_rd.dtype)
        rows = max(1, CHUNK_ELEMENTS // len(self.feature_r))
        written = []
        for start in range(0, len(x_td), rows):
            here_t = torch.zeros(len(x_td), dtype=torch.bool, device=x_td.device)
            here_t[start : start + rows] = True
            a_tf = activations.rows(here_t).dense()
            read_tr = (x_td[start : start + rows] @ self.v_rd.T).mul_(a_tf.index_select(1, self.feature_r.long()))
            written.append(read_tr @ self.u_ro)
        return self.b_out_o + (torch.cat(written) if written else x_td.new_zeros(0, len(self.b_out_o)))

    def directions(self, indices_m: Tensor | slice) -> Tensor:
        raise TypeError("A transform writes something else for every input.")


def put_transforms_together(tensors: dict[str, Tensor]) -> Tensor:
    """Put `u_RANK_cor` and `v_RANK_crd` of all ranks together as u_ro, v_rd and feature_r; return norm_f."""
    ranks = sorted(int(name.split("_")[1]) for name in tensors if name.startswith("u_") and name.endswith("_cor"))
    reads, writes, owners, norms = [], [], [], []
    first = 0
    for rank in ranks:
        u_cor, v_crd = tensors.pop(f"u_{rank}_cor"), tensors.pop(f"v_{rank}_crd")
        inner_crr = u_cor.mT @ u_cor
        norms.append((inner_crr * (v_crd @ v_crd.mT)).sum((1, 2)).clamp(min=0).sqrt())
        reads.append(v_crd.flatten(0, 1))
        writes.append(u_cor.mT.flatten(0, 1))
        owners.append(torch.arange(first, first + len(u_cor)).repeat_interleave(rank))
        first += len(u_cor)
    tensors |= {"v_rd": torch.cat(reads), "u_ro": torch.cat(writes), "feature_r": torch.cat(owners).to(torch.float32)}
    return torch.cat(norms)
