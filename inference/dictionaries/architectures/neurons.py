"""A model's own neurons: what it has between the two halves of an MLP, as it is.

    a = x;  y = a W_out + b_out

Every neuron is a feature that fires, with its sign, wherever it is not zero. There is no encoder to store.

Shape suffixes: T tokens, F neurons, M chosen neurons.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inference.dictionaries.sparse import SparseActivations


@dataclass(frozen=True, slots=True)
class Neurons:
    """The number of neurons."""

    n_features: int

    @property
    def n_bytes(self) -> int:
        return 0

    def encode(self, x_td: Tensor) -> SparseActivations:
        return SparseActivations.from_mask(x_td, x_td != 0)

    def encode_features(self, x_td: Tensor, indices_m: Tensor) -> Tensor:
        return x_td[:, indices_m]

    def pre_activations(self, x_td: Tensor) -> Tensor:
        return x_td

    def activate(self, h_tf: Tensor, x_td: Tensor) -> SparseActivations:
        return self.encode(h_tf)

    def directions(self, indices_m: Tensor | slice) -> Tensor:
        """Return e_md, rows of the identity."""
        rows_m = torch.arange(self.n_features)[indices_m]
        return torch.eye(self.n_features)[rows_m] if isinstance(indices_m, slice) else _one_hot(rows_m, self.n_features)


def _one_hot(rows_m: Tensor, n_features: int) -> Tensor:
    return torch.zeros(len(rows_m), n_features).scatter(1, rows_m[:, None], 1.0)
