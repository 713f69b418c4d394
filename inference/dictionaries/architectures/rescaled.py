"""Features that compete in one unit and are counted in another: by what they would write, as h |D|, and as h.

    a = activation(h n) / n

Shape suffixes: T tokens, D input width, F features, M chosen features.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from inference.dictionaries.architectures.heights import encode_with_heights
from inference.dictionaries.sparse import SparseActivations
from kernels.encode_maximum import Heights, Spans

if TYPE_CHECKING:
    from inference.dictionaries.architectures import Encoder


@dataclass(frozen=True, slots=True, eq=False)
class Rescaled:
    """An encoder that decides, into whose weights n is folded, and 1 / n."""

    encoder: Encoder
    scale_f: Tensor

    @property
    def n_bytes(self) -> int:
        return self.encoder.n_bytes + self.scale_f.nbytes

    def encode(self, x_td: Tensor, **sequences: object) -> SparseActivations:
        return self._scaled(self.encoder.encode(x_td, **sequences))

    def encode_features(self, x_td: Tensor, indices_m: Tensor, **sequences: object) -> Tensor:
        return self.encoder.encode_features(x_td, indices_m, **sequences) * self.scale_f[indices_m]

    def encode_with_heights(self, x_td: Tensor, spans: Spans, **sequences: object) -> tuple[SparseActivations, Heights]:
        activations, found = encode_with_heights(self.encoder, x_td, spans, **sequences)
        return self._scaled(activations), found

    def pre_activations(self, x_td: Tensor, **sequences: object) -> Tensor:
        return self.encoder.pre_activations(x_td, **sequences)

    def activate(self, h_tf: Tensor, x_td: Tensor, **sequences: object) -> SparseActivations:
        return self._scaled(self.encoder.activate(h_tf, x_td, **sequences))

    def directions(self, indices_m: Tensor | slice) -> Tensor:
        return self.encoder.directions(indices_m) * self.scale_f[indices_m, None]

    def _scaled(self, activations: SparseActivations) -> SparseActivations:
        return replace(activations, values_n=activations.values_n * self.scale_f[activations.indices_n])
