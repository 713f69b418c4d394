"""On GPUs a program takes a block of candidates, looks up their groups' published ranks, and lists who survives.

Survivors of a block stand together and in order; which block comes first is a race that shows nowhere, since ranks are
unique. Only survivors leave the GPU, when the list has grown long.

Suffixes: e candidates.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.stream_topn.cpu import BestOfGroups

BLOCK_E = 1024


@triton.jit
def survivors_kernel(
    group_ptr,
    rank_ptr,
    worst_ptr,
    row_ptr,
    n_survivors_ptr,
    n_candidates,
    BLOCK_E: tl.constexpr,
):
    e = tl.program_id(0).to(tl.int64) * BLOCK_E + tl.arange(0, BLOCK_E)
    inside = e < n_candidates
    group = tl.load(group_ptr + e, mask=inside, other=0).to(tl.int64)
    rank = tl.load(rank_ptr + e, mask=inside, other=0)
    survives = inside & (rank <= tl.load(worst_ptr + group, mask=inside, other=0))
    counted = survives.to(tl.int32)
    place = tl.cumsum(counted, axis=0) - counted
    first = tl.atomic_add(n_survivors_ptr, tl.sum(counted, axis=0).to(tl.int64))
    tl.store(row_ptr + first + place, e, mask=survives)


class BestOfGroupsOnGpu(BestOfGroups):
    """The state whose candidates are on a GPU."""

    def survivors(self, group_e: Tensor, rank_e: Tensor) -> Tensor:
        """Return the numbers of the candidates that may still be among the best."""
        row_e = torch.empty(len(group_e), dtype=torch.int64, device=rank_e.device)
        n_survivors = torch.zeros(1, dtype=torch.int64, device=rank_e.device)
        if len(group_e):
            survivors_kernel[(triton.cdiv(len(group_e), BLOCK_E),)](
                group_e.contiguous(),
                rank_e.contiguous(),
                self.worst_g,
                row_e,
                n_survivors,
                len(group_e),
                BLOCK_E=BLOCK_E,
                num_warps=4,
            )
        return row_e[: int(n_survivors)]
