"""How pre-activations become activations: one small module for each architecture.

An architecture turns normalized inputs and an encoder into sparse activations, all of them or those of chosen
features; the two agree, TopK's competition between features included.

Shape suffixes: T tokens, D input width, F features, M chosen features. `w_enc_fd` holds one feature per row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor

from inference.dictionaries.architectures.jumprelu import JumpReLU
from inference.dictionaries.architectures.topk import TopK
from inference.dictionaries.config import DictionaryConfig
from inference.dictionaries.sparse import SparseActivations


class Architecture(Protocol):
    """The nonlinear part of a dictionary."""

    def encode(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor) -> SparseActivations:
        """Return the activations of all features."""
        ...

    def activate(self, h_tf: Tensor) -> SparseActivations:
        """Return the activations that pre-activations of all features lead to."""
        ...

    def encode_features(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor, indices_m: Tensor) -> Tensor:
        """Return a_tm, equal to the chosen columns of `encode`."""
        ...


ARCHITECTURES: dict[str, Callable[[DictionaryConfig, Mapping[str, Tensor]], Architecture]] = {
    "relu": lambda config, tensors: JumpReLU(tensors["b_enc_f"].new_zeros(config.n_features)),
    "topk": lambda config, tensors: TopK(config.k or 0),
    "jumprelu": lambda config, tensors: JumpReLU(tensors["threshold_f"].clamp(min=0)),
}
