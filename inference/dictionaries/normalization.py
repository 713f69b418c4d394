"""What dictionaries do to each input vector before encoding it, and to the output of SAEs after decoding.

Formulas as in SAELens: `layer_norm` takes the unbiased deviation plus 1e-5 and `constant_norm_rescale` brings every
vector to the length sqrt(D). `centred` is for dictionaries of models whose writing weights TransformerLens centred:
there a residual vector is that of the published model less its mean, which LayerNorm does not see.
"""

from __future__ import annotations

from torch import Tensor

EPSILON = 1e-5


def normalize(mode: str, x_td: Tensor) -> Tensor:
    """Return x_td in the units that the encoder was trained in."""
    if mode == "layer_norm":
        mean_t1, deviation_t1 = _moments(x_td)
        return (x_td - mean_t1) / (deviation_t1 + EPSILON)
    if mode == "constant_norm_rescale":
        return x_td / _length(x_td)
    if mode == "centred":
        return x_td - x_td.mean(-1, keepdim=True)
    return x_td


def denormalize(mode: str, y_td: Tensor, x_td: Tensor) -> Tensor:
    """Return y_td, decoded from the normalized x_td, in the units of x_td."""
    if mode == "layer_norm":
        mean_t1, deviation_t1 = _moments(x_td)
        return y_td * deviation_t1 + mean_t1
    if mode == "constant_norm_rescale":
        return y_td * _length(x_td)
    if mode == "centred":
        return y_td + x_td.mean(-1, keepdim=True)
    return y_td


def _moments(x_td: Tensor) -> tuple[Tensor, Tensor]:
    return x_td.mean(-1, keepdim=True), x_td.std(-1, keepdim=True)


def _length(x_td: Tensor) -> Tensor:
    return x_td.norm(dim=-1, keepdim=True) / x_td.shape[-1] ** 0.5
