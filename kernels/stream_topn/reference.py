"""The definition: each group sorted whole. And ranks by value."""

from __future__ import annotations

import torch
from torch import Tensor

# Above every rank: what has it is refused.
UNRANKED = (1 << 63) - 1


def value_ranks(value_e: Tensor, then_e: Tensor) -> Tensor:
    """Return int64 ranks: float32 values falling, then whole numbers from 0 to 2^32 - 1 rising; NaN is UNRANKED."""
    bits_e = value_e.float().contiguous().view(torch.int32)
    falling_e = ~(bits_e ^ ((bits_e >> 31) & 0x7FFFFFFF))
    rank_e = (falling_e.long() << 32) | then_e.long()
    return rank_e.masked_fill_(value_e.isnan(), UNRANKED)


def best_of_groups(group_e: Tensor, rank_e: Tensor, identity_e: Tensor, size: int) -> Tensor:
    """Return the numbers of the candidates that are kept, by group and rank: each group's sorted, one by one."""
    rows: list[int] = []
    for group in group_e.unique().tolist():
        own = ((group_e == group) & (rank_e < UNRANKED)).nonzero().squeeze(1)
        seen: set[int] = set()
        for row in own[rank_e[own].argsort(stable=True)].tolist():
            if len(seen) < size and int(identity_e[row]) not in seen:
                seen.add(int(identity_e[row]))
                rows.append(row)
    return torch.tensor(rows, dtype=torch.int64)
