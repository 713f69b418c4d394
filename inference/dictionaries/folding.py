"""Folding: everything constant about a dictionary becomes part of its weights once, when it is loaded.

What remains to be done for a token is normalize, multiply, add, decide, multiply, add. The weights as the file has them
are one call away: `formats.tensors.read_tensors`.

Shape suffixes: D input width, O output width, F features.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from inference.dictionaries.architectures.gated import as_jumprelu
from inference.dictionaries.config import DictionaryConfig


def fold(config: DictionaryConfig, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return w_enc_fd, b_enc_f, w_dec_fo, b_out_o, and where there are such w_skip_do, threshold_f and b_in_d.

    The stored tensors may be changed in place. `b_in_d` is folded into b_enc_f and kept for architectures that need it.
    """
    tensors = dict(stored)
    w_dec_fo = tensors["w_dec_fo"]
    tensors.setdefault("b_enc_f", w_dec_fo.new_zeros(config.n_features))
    tensors.setdefault("b_out_o", w_dec_fo.new_zeros(config.d_out))
    for name in {"b_out_o", "w_skip_do"} & set(tensors):
        # What is as wide as one hook point belongs to the first of several.
        tensors[name] = functional.pad(tensors[name], (0, config.d_out - tensors[name].shape[-1]))
    if config.subtract_output_bias:
        tensors["b_in_d"] = tensors["b_out_o"]
    _fold_thresholds(config, tensors)
    if "decode_scale_f" in tensors:
        w_dec_fo.mul_(tensors.pop("decode_scale_f")[:, None])
    if config.tensors["w_enc_fd"] == config.tensors["w_dec_fo"] and config.input_scale != 1:
        tensors["w_enc_fd"] = w_dec_fo.clone()
    if config.architecture == "gated":
        as_jumprelu(tensors)
    _fold_scales(config, tensors)
    if config.scale_by_decoder_norm:
        _fold_decoder_norms(tensors)
    if "b_in_d" in tensors:
        tensors["b_enc_f"] = tensors["b_enc_f"] - tensors["w_enc_fd"] @ tensors["b_in_d"]
    return tensors


def _fold_thresholds(config: DictionaryConfig, tensors: dict[str, Tensor]) -> None:
    """Give every feature its threshold, from logarithms or from one number for all."""
    if "log_threshold_f" in tensors:
        tensors["threshold_f"] = tensors.pop("log_threshold_f").exp()
    if "threshold" in config.options:
        tensors["threshold_f"] = tensors["w_dec_fo"].new_tensor(config.options["threshold"])
    if "threshold_f" in tensors:
        tensors["threshold_f"] = tensors["threshold_f"].expand(config.n_features).clone()


def _fold_scales(config: DictionaryConfig, tensors: dict[str, Tensor]) -> None:
    """Let the encoder take, and the decoder give, activations of the model's own size.

    (s x - b) W = (x - b / s) (s W); activations themselves, their biases and thresholds stay as they are.
    """
    if config.input_scale != 1:
        scale_d = _spread(config.input_scale, config.d_in)
        tensors["w_enc_fd"].mul_(scale_d)
        if "b_in_d" in tensors:
            tensors["b_in_d"] = tensors["b_in_d"] / scale_d
    if config.output_scale != 1:
        scale_o = _spread(config.output_scale, config.d_out)
        tensors["w_dec_fo"].div_(scale_o)
        tensors["b_out_o"] = tensors["b_out_o"] / scale_o


def _spread(scale: float | tuple[float, ...], width: int) -> Tensor:
    """Return one factor for each coordinate, from one for all or one for each hook point."""
    scale_p = torch.tensor(scale if isinstance(scale, tuple) else (scale,))
    return scale_p.repeat_interleave(width // len(scale_p))


def _fold_decoder_norms(tensors: dict[str, Tensor]) -> None:
    """Measure activations in units of what they write: decoder rows get length one.

    Thresholds stay: dictionaries of this kind compare them with the scaled pre-activations.
    """
    norm_f = tensors["w_dec_fo"].norm(dim=1)
    tensors["w_enc_fd"].mul_(norm_f[:, None])
    tensors["b_enc_f"] = tensors["b_enc_f"] * norm_f
    tensors["w_dec_fo"].div_(norm_f[:, None])
