"""Encoding for those who also want to know how near features that do not fire came to firing.

Linear encoders see both in one product, or in kernels that keep nothing of it. For the others pre-activations are
computed, of as many tokens as are given, and looked at twice.

Shape suffixes: T tokens, D input width, F features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from inference.dictionaries.sparse import SparseActivations
from kernels.encode_maximum import Dense, Heights, Spans

if TYPE_CHECKING:
    from inference.dictionaries.architectures import Encoder


def encode_with_heights(
    encoder: Encoder, x_td: Tensor, spans: Spans, **sequences: object
) -> tuple[SparseActivations, Heights]:
    """Return the activations, and the highest pre-activations in spans of rows."""
    together = getattr(encoder, "encode_with_heights", None)
    if together is not None:
        return together(x_td, spans, **sequences)
    h_tf = encoder.pre_activations(x_td, **sequences)
    return encoder.activate(h_tf, x_td, **sequences), Dense(h_tf, spans)
