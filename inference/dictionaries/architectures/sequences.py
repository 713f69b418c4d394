"""What encoders of sequences share: cutting tokens that lie end to end into sequences, and causal attention.

Shape suffixes: T tokens, S tokens of one sequence, H heads, K width of keys, V width of values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional


def by_sequence(transform: Callable[[Tensor], Tensor], x_td: Tensor, lengths: Sequence[int]) -> Tensor:
    """Return what a transform makes of each sequence, end to end."""
    if sum(lengths) != len(x_td):
        raise ValueError(f"the sequences have {sum(lengths)} tokens, and there are {len(x_td)}")
    made = [transform(x_sd) for x_sd in x_td.split(list(lengths)) if len(x_sd)]
    return torch.cat(made) if made else transform(x_td)


def attend(query_shk: Tensor, key_shk: Tensor, value_shv: Tensor, scale: float) -> Tensor:
    """Return z_shv: softmax(scale query key) over earlier tokens and the token itself, applied to values."""
    query, key, value = (tensor.transpose(0, 1)[None] for tensor in (query_shk, key_shk, value_shv))
    return functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)[0].transpose(0, 1)
