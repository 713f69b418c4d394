"""The definition: the matrix of all pairs, without its diagonal."""

from __future__ import annotations

import torch
from torch import Tensor


def neighbours(unit_fd: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest products of each row with other rows that are not zero, and their indices."""
    absent_f = ~(unit_fd.square().sum(1) > 0)
    cosine_ff = (unit_fd @ unit_fd.T).masked_fill(absent_f, -torch.inf).masked_fill(absent_f[:, None], -torch.inf)
    cosine_ff.fill_diagonal_(-torch.inf)
    values_fk, indices_fk = cosine_ff.sort(dim=1, descending=True, stable=True)
    known_fk = values_fk > -torch.inf
    values_fk, indices_fk = torch.where(known_fk, values_fk, 0.0), torch.where(known_fk, indices_fk, -1)
    missing = max(0, k - len(unit_fd))
    return (
        torch.nn.functional.pad(values_fk[:, :k], (0, missing)),
        torch.nn.functional.pad(indices_fk[:, :k], (0, missing), value=-1),
    )
