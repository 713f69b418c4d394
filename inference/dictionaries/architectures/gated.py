"""Gated SAEs (https://arxiv.org/abs/2404.16014): one encoder decides whether a feature is on, and how strongly.

    u = (x - b_in) W_enc;  a = [u + b_gate > 0] * relu(exp(r) u + b_magnitude)

The gain exp(r) is positive, so that u + b_gate > 0 says the same as h > b_magnitude - exp(r) b_gate, where
h = exp(r) u + b_magnitude: a gated dictionary is a JumpReLU dictionary with encoder exp(r) W_enc, bias b_magnitude and
that threshold (https://arxiv.org/abs/2407.14435, appendix), and is run as one.

Shape suffixes: D input width, F features.
"""

from __future__ import annotations

from torch import Tensor


def as_jumprelu(tensors: dict[str, Tensor]) -> None:
    """Replace log_gain_f, b_gate_f and b_magnitude_f by a JumpReLU's w_enc_fd, b_enc_f and threshold_f."""
    gain_f = tensors.pop("log_gain_f").exp()
    b_gate_f, b_magnitude_f = tensors.pop("b_gate_f"), tensors.pop("b_magnitude_f")
    tensors["w_enc_fd"].mul_(gain_f[:, None])
    tensors["b_enc_f"] = b_magnitude_f
    tensors["threshold_f"] = b_magnitude_f - gain_f * b_gate_f
