"""What a family's norm modules do, in two steps: normalize, then gain and bias.

Shape suffixes: B batch, T tokens, D model width.
"""

from __future__ import annotations

from torch import Tensor, nn, rsqrt

from inference.hook_points import Norm


def normalize(x_btd: Tensor, module: nn.Module, norm: Norm) -> Tensor:
    """Return x / sqrt(mean x^2 + epsilon), centred first where the family's norm is; computed in float32."""
    epsilon = getattr(module, norm.epsilon) if isinstance(norm.epsilon, str) else norm.epsilon
    x = x_btd.float()
    if norm.centred:
        x = x - x.mean(-1, keepdim=True)
    return (x * rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon)).to(x_btd.dtype)


def rescale(normalized_btd: Tensor, module: nn.Module, norm: Norm) -> Tensor:
    """Return normalized activations behind the norm's gain and bias."""
    gain_d, bias_d = gain(module, norm), getattr(module, "bias", None)
    scaled_btd = normalized_btd if gain_d is None else normalized_btd * gain_d
    return scaled_btd if bias_d is None else scaled_btd + bias_d


def gain(module: nn.Module, norm: Norm) -> Tensor | None:
    """Return the norm's gain, or None for one that has none."""
    weight_d = getattr(module, "weight", None)
    return None if weight_d is None else weight_d + norm.offset
