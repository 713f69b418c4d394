"""How pre-activations become activations: one small module for each architecture.

An architecture turns normalized inputs and an encoder into sparse activations, all of them or those of chosen
features; the two agree, TopK's competition between features included.

Shape suffixes: T tokens, D input width, F features, M chosen features. `w_enc_fd` holds one feature per row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor

from inference.dictionaries.architectures.groupmax import GroupMax
from inference.dictionaries.architectures.jumprelu import JumpReLU
from inference.dictionaries.architectures.matching_pursuit import MatchingPursuit
from inference.dictionaries.architectures.signed_topk import SignedTopK
from inference.dictionaries.architectures.topk import TopK
from inference.dictionaries.config import DictionaryConfig
from inference.dictionaries.sparse import SparseActivations


class Architecture(Protocol):
    """The nonlinear part of a dictionary."""

    def encode(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor) -> SparseActivations:
        """Return the activations of all features."""
        ...

    def encode_features(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor, indices_m: Tensor) -> Tensor:
        """Return a_tm, equal to the chosen columns of `encode`."""
        ...


class DecidesByPreActivations(Architecture, Protocol):
    """An architecture whose activations follow from pre-activations alone."""

    def activate(self, h_tf: Tensor) -> SparseActivations:
        """Return the activations that pre-activations of all features lead to."""
        ...


def _jumprelu(config: DictionaryConfig, tensors: Mapping[str, Tensor]) -> JumpReLU:
    threshold_f = tensors["threshold_f"]
    return JumpReLU(threshold_f.clamp(min=0) if config.options.get("relu", True) else threshold_f)


def _matching_pursuit(config: DictionaryConfig, tensors: Mapping[str, Tensor]) -> MatchingPursuit:
    options = config.options
    return MatchingPursuit(
        b_in_d=tensors.get("b_in_d"),
        residual_threshold=options["residual_threshold"],
        max_steps=options["max_iterations"] or config.d_in,
        stop_on_repeat=options["stop_on_duplicate_support"],
    )


# Tensors are folded: a gated dictionary has become a JumpReLU, and so has BatchTopK with the threshold it saved.
ARCHITECTURES: dict[str, Callable[[DictionaryConfig, Mapping[str, Tensor]], Architecture]] = {
    "relu": lambda config, tensors: JumpReLU(tensors["b_enc_f"].new_zeros(config.n_features)),
    "topk": lambda config, tensors: TopK(config.k or 0),
    "jumprelu": _jumprelu,
    "gated": _jumprelu,
    "batchtopk": _jumprelu,
    "matryoshka": _jumprelu,
    "groupmax": lambda config, tensors: GroupMax(config.k or 0),
    "abstopk": lambda config, tensors: SignedTopK(config.k or 0, by_magnitude=True),
    "signed_topk": lambda config, tensors: SignedTopK(config.k or 0, by_magnitude=False),
    "matching_pursuit": _matching_pursuit,
}
