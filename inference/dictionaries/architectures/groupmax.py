"""GroupMax: features compete in k groups of equal size, and the largest of each group counts, if it is above zero.

An activation of EleutherAI's sparsify: group g holds features g F/k to (g + 1) F/k - 1.

Shape suffixes: T tokens, G groups, S features of a group, M chosen features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inference.dictionaries.sparse import SparseActivations


@dataclass(frozen=True, slots=True)
class GroupMax:
    """The number of groups."""

    k: int

    def encode(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor) -> SparseActivations:
        return SparseActivations.in_steps(
            x_td, len(b_enc_f), lambda x_cd: self.activate(torch.addmm(b_enc_f, x_cd, w_enc_fd.T))
        )

    def activate(self, h_tf: Tensor) -> SparseActivations:
        values_tg, members_tg = h_tf.unflatten(1, (self.k, -1)).max(dim=2)
        size = h_tf.shape[1] // self.k
        first_g = torch.arange(self.k, device=h_tf.device) * size
        return SparseActivations.from_topk(values_tg, members_tg + first_g, h_tf.shape[1])

    def encode_features(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor, indices_m: Tensor) -> Tensor:
        """Return the chosen activations, computing only the groups that they compete in."""
        size = len(b_enc_f) // self.k
        groups_g, own_m = (indices_m // size).unique(return_inverse=True)
        rivals_gs = groups_g[:, None] * size + torch.arange(size, device=indices_m.device)
        rivals_r = rivals_gs.reshape(-1)
        h_tgs = torch.addmm(b_enc_f[rivals_r], x_td, w_enc_fd[rivals_r].T).unflatten(1, rivals_gs.shape)
        values_tg, members_tg = h_tgs.max(dim=2)
        wins_tm = members_tg[:, own_m] == indices_m % size
        return torch.where(wins_tm & (values_tg[:, own_m] > 0), values_tg[:, own_m], 0.0)
