"""Temporal SAEs (https://arxiv.org/abs/2511.01836): what context predicts is taken out before features compete.

    r = x - b;  for each attention layer:
        z = relu(r E / 4d),  p = relu(attention of z on the z of earlier tokens)
        c = <p D, r> / (|p D| + eps)^2,  predicted += c p,  r -= c p D
    novel = TopK(relu(r E / 4d)),  y = (novel + predicted) D + b

Features are the novel codes; the decoder adds what is predicted, for which it needs the input and whole sequences.
Follows SAELens 6.54.

Shape suffixes: T tokens, S tokens of one sequence, D width, F features, M chosen features, E width of keys, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from inference.dictionaries.architectures.linear import Activation, LinearDecoder, needed
from inference.dictionaries.architectures.sequences import attend, by_sequence
from inference.dictionaries.normalization import normalize
from inference.dictionaries.sparse import SparseActivations

EPSILON = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Attention:
    """One layer that predicts codes from those of earlier tokens."""

    keys_ef: Tensor
    key_bias_e: Tensor
    queries_ef: Tensor
    query_bias_e: Tensor
    values_ff: Tensor
    value_bias_f: Tensor
    out_ff: Tensor
    out_bias_f: Tensor
    n_heads: int

    @property
    def n_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in (self.keys_ef, self.queries_ef, self.values_ff, self.out_ff))

    def predict(self, z_sf: Tensor) -> Tensor:
        """Return p_sf: the first token sees nothing but biases."""
        before_sf = functional.pad(z_sf[:-1], (0, 0, 1, 0))
        query, key, value = (
            tensor.unflatten(1, (self.n_heads, -1))
            for tensor in (
                torch.addmm(self.query_bias_e, z_sf, self.queries_ef.T),
                torch.addmm(self.key_bias_e, before_sf, self.keys_ef.T),
                torch.addmm(self.value_bias_f, before_sf, self.values_ff.T),
            )
        )
        seen_sf = attend(query, key, value, query.shape[-1] ** -0.5).flatten(1)
        return torch.addmm(self.out_bias_f, seen_sf, self.out_ff.T).relu_()


@dataclass(frozen=True, slots=True, eq=False)
class Temporal:
    """The encoder. `input_scale`, which is folded into the matrices, is what eps was chosen for."""

    w_enc_fd: Tensor
    w_dec_fo: Tensor
    b_in_d: Tensor | None
    layers: tuple[Attention, ...]
    activation: Activation
    input_scale: float

    @property
    def n_bytes(self) -> int:
        return self.w_enc_fd.nbytes + sum(layer.n_bytes for layer in self.layers)

    def encode(self, x_td: Tensor, lengths: Sequence[int]) -> SparseActivations:
        return self.activation.activate(self.pre_activations(x_td, lengths))

    def encode_features(self, x_td: Tensor, indices_m: Tensor, lengths: Sequence[int]) -> Tensor:
        return self.encode(x_td, lengths).columns(indices_m)

    def pre_activations(self, x_td: Tensor, lengths: Sequence[int]) -> Tensor:
        return by_sequence(lambda x_sd: self._codes(self._explain(x_sd)[0]), x_td, lengths)

    def activate(self, h_tf: Tensor, x_td: Tensor, lengths: Sequence[int]) -> SparseActivations:
        return self.activation.activate(h_tf)

    def directions(self, indices_m: Tensor | slice) -> Tensor:
        return self.w_enc_fd[indices_m]

    def predicted(self, x_td: Tensor, lengths: Sequence[int]) -> Tensor:
        """Return what the context writes, without the bias."""
        return by_sequence(lambda x_sd: self._explain(x_sd)[1], x_td, lengths)

    def _codes(self, r_sd: Tensor) -> Tensor:
        return r_sd @ self.w_enc_fd.T / (4 * self.w_enc_fd.shape[1])

    def _explain(self, x_sd: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is left of one sequence, and what was predicted."""
        r_sd = x_sd if self.b_in_d is None else x_sd - self.b_in_d
        total_sd = torch.zeros_like(r_sd)
        for layer in self.layers:
            written_sd = layer.predict(self._codes(r_sd).relu_()) @ self.w_dec_fo
            length_s1 = written_sd.norm(dim=1, keepdim=True) + EPSILON / self.input_scale
            share_sd = (written_sd * r_sd).sum(1, keepdim=True) / length_s1.square() * written_sd
            total_sd, r_sd = total_sd + share_sd, r_sd - share_sd
        return r_sd, total_sd


@dataclass(frozen=True, slots=True, eq=False)
class TemporalDecoder:
    """A linear decoder of novel codes that adds what the encoder predicts."""

    linear: LinearDecoder
    encoder: Temporal
    normalize: str

    @property
    def n_bytes(self) -> int:
        return self.linear.n_bytes

    def decode(
        self, activations: SparseActivations, x_td: Tensor | None = None, lengths: Sequence[int] | None = None
    ) -> Tensor:
        """Return y_to; raise TypeError without the input. Without lengths all tokens are one sequence."""
        x_td = normalize(self.normalize, needed(x_td).to(self.encoder.w_dec_fo.dtype))
        return self.linear.decode(activations) + self.encoder.predicted(x_td, lengths or [len(x_td)])

    def directions(self, indices_m: Tensor | slice) -> Tensor:
        return self.linear.directions(indices_m)
