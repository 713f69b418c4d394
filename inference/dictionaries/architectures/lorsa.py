"""Low-rank sparse attention (Lorsa, https://arxiv.org/abs/2504.20938): features are attention heads of rank one.

    v = x W_V.T + b_V,  h_f = sum over earlier tokens of pattern of f's query head * v_f,  a = activation(h)
    pattern = softmax((x W_Q + b_Q) (x W_K + b_K) / scale), with rotated queries and keys

Several features in a row share one query head. Follows llamascopium 2.0.

Shape suffixes: T tokens, S tokens of one sequence, D input width, F features, M chosen features, H query heads,
K width of keys, R rotated ones of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.dictionaries.architectures.linear import Activation
from inference.dictionaries.architectures.sequences import attend, by_sequence
from inference.dictionaries.sparse import SparseActivations
from inference.errors import InvalidInput


class SequenceTooLong(InvalidInput):
    """A text beyond the positions that a dictionary knows."""

    code = "sequence-too-long"


@dataclass(frozen=True, slots=True, eq=False)
class Rotation:
    """Sines and cosines by position, and whether neighbours are rotated together, or halves."""

    sine_sr: Tensor
    cosine_sr: Tensor
    adjacent: bool

    def __call__(self, x_shk: Tensor) -> Tensor:
        """Return queries or keys, of which the first R are rotated by their position."""
        n, width = len(x_shk), self.sine_sr.shape[1]
        if n > len(self.sine_sr):
            raise SequenceTooLong(
                f"This dictionary knows {len(self.sine_sr)} positions, and the text has {n} tokens.",
                "Shorten the text, or build with shorter contexts.",
                n=n,
                limit=len(self.sine_sr),
            )
        turned, kept = x_shk[..., :width], x_shk[..., width:]
        if self.adjacent:
            flipped = torch.stack([-turned[..., 1::2], turned[..., ::2]], dim=-1).flatten(-2)
        else:
            flipped = torch.cat([-turned[..., width // 2 :], turned[..., : width // 2]], dim=-1)
        rotated = turned * self.cosine_sr[:n, None] + flipped * self.sine_sr[:n, None]
        return torch.cat([rotated, kept], dim=-1)


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """What makes queries, or keys: a matrix and a bias for each head, and a norm behind them where there is one."""

    w_hdk: Tensor
    b_hk: Tensor
    gain_hk: Tensor | None
    epsilon: float

    def __call__(self, x_sd: Tensor) -> Tensor:
        made_shk = torch.einsum("sd,hdk->shk", x_sd, self.w_hdk) + self.b_hk
        if self.gain_hk is None:
            return made_shk
        return made_shk / (made_shk.square().mean(-1, keepdim=True) + self.epsilon).sqrt() * self.gain_hk


@dataclass(frozen=True, slots=True, eq=False)
class Lorsa:
    """The heads: values of every feature, queries and keys of every group of features."""

    w_enc_fd: Tensor
    b_enc_f: Tensor
    query: Projection
    key: Projection
    rotation: Rotation | None
    scale: float
    activation: Activation

    @property
    def n_bytes(self) -> int:
        return self.w_enc_fd.nbytes + self.query.w_hdk.nbytes + self.key.w_hdk.nbytes

    def encode(self, x_td: Tensor, lengths: Sequence[int]) -> SparseActivations:
        return self.activation.activate(self.pre_activations(x_td, lengths))

    def encode_features(self, x_td: Tensor, indices_m: Tensor, lengths: Sequence[int]) -> Tensor:
        return self.encode(x_td, lengths).columns(indices_m)

    def pre_activations(self, x_td: Tensor, lengths: Sequence[int]) -> Tensor:
        return by_sequence(self._heads, x_td, lengths)

    def activate(self, h_tf: Tensor, x_td: Tensor, lengths: Sequence[int]) -> SparseActivations:
        return self.activation.activate(h_tf)

    def directions(self, indices_m: Tensor | slice) -> Tensor:
        """Return what values are projected on."""
        return self.w_enc_fd[indices_m]

    def _heads(self, x_sd: Tensor) -> Tensor:
        query_shk, key_shk = self.query(x_sd), self.key(x_sd)
        if self.rotation is not None:
            query_shk, key_shk = self.rotation(query_shk), self.rotation(key_shk)
        value_shv = torch.addmm(self.b_enc_f, x_sd, self.w_enc_fd.T).unflatten(1, (query_shk.shape[1], -1))
        return attend(query_shk, key_shk, value_shv, 1 / self.scale).flatten(1)
