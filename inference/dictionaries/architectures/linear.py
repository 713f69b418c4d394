"""The encoder and the decoder that most dictionaries have: one matrix and one bias each, and an activation between.

    h = x W_enc.T + b_enc,  a = activation(h),  y = a W_dec + b_out (+ x W_skip)

Shape suffixes: T tokens, D input width, O output width, F features, M chosen features. `w_enc_fd` and `w_dec_fo` hold
one feature per row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from inference.dictionaries.sparse import SparseActivations
from kernels.affine import affine
from kernels.encode_maximum import Heights, Spans, heights
from kernels.products import Product
from kernels.screening import Screen
from kernels.sparse_decode import sparse_decode


class Activation(Protocol):
    """What decides from pre-activations which features fire; fused with the product that makes them where it pays."""

    def encode(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor) -> SparseActivations:
        """Return the activations of all features."""
        ...

    def encode_features(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor, indices_m: Tensor) -> Tensor:
        """Return a_tm, equal to the chosen columns of `encode`, competition between features included."""
        ...

    def activate(self, h_tf: Tensor) -> SparseActivations:
        """Return the activations that pre-activations of all features lead to."""
        ...


@runtime_checkable
class Fused(Protocol):
    """An activation that a kernel decides on, which may find its candidates in fewer bits."""

    @property
    def screen(self) -> Screen | None: ...

    def encode_product(self, product: Product) -> SparseActivations:
        """Return the activations of a product that others look at too."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class LinearEncoder:
    """An encoder whose activations follow from a product. Whatever is subtracted first is folded into `b_enc_f`."""

    w_enc_fd: Tensor
    b_enc_f: Tensor
    activation: Activation

    @property
    def n_bytes(self) -> int:
        screen = Screen.n_bytes(self.w_enc_fd) if isinstance(self.activation, Fused) else 0
        return self.w_enc_fd.nbytes + self.b_enc_f.nbytes + screen

    def encode(self, x_td: Tensor) -> SparseActivations:
        # Kernels decide, and answer, in float32.
        return self.activation.encode(x_td, self.w_enc_fd, self.b_enc_f).to(x_td.dtype)

    def encode_features(self, x_td: Tensor, indices_m: Tensor, **known: Tensor) -> Tensor:
        return self.activation.encode_features(x_td, self.w_enc_fd, self.b_enc_f, indices_m, **known).to(x_td.dtype)

    @property
    def has_kth_scores(self) -> bool:
        return hasattr(self.activation, "kth_scores")

    def kth_scores(self, activations: SparseActivations) -> Tensor:
        """Return what chosen features must reach, for activations of the kind where k features fire at a token."""
        return self.activation.kth_scores(activations)

    def encode_with_heights(self, x_td: Tensor, spans: Spans) -> tuple[SparseActivations, Heights]:
        screen = self.activation.screen if isinstance(self.activation, Fused) else None
        product = Product(x_td=x_td, w_fd=self.w_enc_fd, b_f=self.b_enc_f, screen=screen)
        if isinstance(self.activation, Fused):
            activations = self.activation.encode_product(product)
        else:
            activations = self.activation.activate(product.h_tf)
        return activations.to(x_td.dtype), heights(product, spans)

    def pre_activations(self, x_td: Tensor) -> Tensor:
        return affine(x_td, self.w_enc_fd, self.b_enc_f)

    def activate(self, h_tf: Tensor, x_td: Tensor) -> SparseActivations:
        return self.activation.activate(h_tf)

    def directions(self, indices_m: Tensor | slice) -> Tensor:
        return self.w_enc_fd[indices_m]


@dataclass(frozen=True, slots=True, eq=False)
class LinearDecoder:
    """A decoder in which every feature writes its own row, and inputs may skip the features."""

    w_dec_fo: Tensor
    b_out_o: Tensor
    w_skip_do: Tensor | None = None

    @property
    def n_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in (self.w_dec_fo, self.b_out_o, self.w_skip_do) if tensor is not None)

    def decode(
        self, activations: SparseActivations, x_td: Tensor | None = None, lengths: Sequence[int] | None = None
    ) -> Tensor:
        y_to = sparse_decode(*activations.to_csr(), self.w_dec_fo, self.b_out_o)
        return y_to if self.w_skip_do is None else torch.addmm(y_to, needed(x_td).to(y_to.dtype), self.w_skip_do)

    def directions(self, indices_m: Tensor | slice) -> Tensor:
        return self.w_dec_fo[indices_m]


def needed(x_td: Tensor | None) -> Tensor:
    """Return the input of a decoder that cannot do without."""
    if x_td is None:
        raise TypeError("This dictionary needs its input for that: pass x_td.")
    return x_td
