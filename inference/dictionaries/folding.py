"""Folding: everything constant about a dictionary becomes part of its weights once, when it is loaded.

What remains to be done for a token is normalize, multiply, add, decide, multiply, add. The weights as the file has them
are one call away: `formats.tensors.read_tensors`.

Shape suffixes: D input width, O output width, F features, P points.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from inference.dictionaries.architectures.gated import as_jumprelu
from inference.dictionaries.architectures.molt import put_transforms_together
from inference.dictionaries.config import DictionaryConfig
from inference.dictionaries.gates import fold_gate, gate_by

# The matrices that encoders are made of, each with its bias.
MATRICES = (("w_enc_fd", "b_enc_f"), ("w_p_pd", "b_p_p"), ("w_q_qd", "b_q_q"), ("w_glu_fd", "b_glu_f"))
SMALLEST_LENGTH = 1e-12
# As in overcomplete, whose archetypal dictionaries these are.
SMALLEST_SHARE = 1e-8
# Twice what bfloat16 rounds a number by.
HALF_ROUNDING = 2**-7


def fold(config: DictionaryConfig, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return an encoder, w_dec_fo, b_out_o, and where there are such w_skip_do, threshold_f and b_in_d.

    The stored tensors may be changed in place. `b_in_d` is folded into b_enc_f and kept for architectures that need it.
    """
    tensors = dict(stored)
    if config.architecture == "molt":
        return _fold_transforms(config, tensors)
    if not config.decodes:
        tensors.setdefault("b_enc_f", tensors["w_enc_fd"].new_zeros(config.n_features))
        return tensors
    if "archetypes_fp" in tensors:
        _fold_archetypes(tensors, config.options.get("relax_length"))
    w_dec_fo = tensors["w_dec_fo"]
    if config.options.get("unit_decoder"):
        # An encoder that is the same tensor is normalized with it.
        w_dec_fo.div_(w_dec_fo.norm(dim=1, keepdim=True).clamp(min=SMALLEST_LENGTH))
    tensors.setdefault("b_enc_f", w_dec_fo.new_zeros(config.n_features))
    for weight, bias in MATRICES[1:]:
        if weight in tensors:
            tensors.setdefault(bias, w_dec_fo.new_zeros(len(tensors[weight])))
    tensors.setdefault("b_out_o", w_dec_fo.new_zeros(config.d_out))
    for name in {"b_out_o", "w_skip_do"} & set(tensors):
        # What is as wide as one hook point belongs to the first of several.
        tensors[name] = functional.pad(tensors[name], (0, config.d_out - tensors[name].shape[-1]))
    if config.subtract_output_bias:
        tensors["b_in_d"] = tensors["b_out_o"]
    _fold_thresholds(config, tensors)
    if "decode_scale_f" in tensors:
        w_dec_fo.mul_(tensors.pop("decode_scale_f")[:, None])
    if tensors.get("w_enc_fd") is w_dec_fo and (
        config.scale_by_decoder_norm or not config.input_scale == config.output_scale == 1
    ):
        tensors["w_enc_fd"] = w_dec_fo.clone()
    if config.options.get("unit_encoder"):
        tensors["w_enc_fd"] = functional.normalize(tensors["w_enc_fd"])
    if config.architecture == "gated":
        as_jumprelu(tensors)
    if "gate" in config.options:
        fold_gate(config, tensors)
    _fold_scales(config, tensors)
    if "mean_d" in tensors:
        tensors["b_in_d"] = tensors["mean_d"] + tensors.get("b_in_d", 0)
        tensors["b_out_o"] = tensors["b_out_o"] + tensors.pop("mean_d")
    if config.scale_by_decoder_norm:
        _fold_decoder_norms(tensors)
    if "b_in_d" in tensors:
        for weight, bias in MATRICES:
            if weight in tensors:
                tensors[bias] = tensors[bias] - tensors[weight] @ tensors["b_in_d"]
    return tensors


def _fold_transforms(config: DictionaryConfig, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    norm_f = put_transforms_together(tensors)
    tensors.setdefault("b_out_o", norm_f.new_zeros(config.d_out))
    _fold_thresholds(config, tensors)
    if "gate" in config.options:
        gate_by(norm_f, config, tensors)
    tensors["w_enc_fd"] = tensors["w_enc_fd"] * config.input_scale
    tensors["v_rd"] = tensors["v_rd"] * config.input_scale
    tensors["u_ro"] = tensors["u_ro"] / config.output_scale
    tensors["b_out_o"] = tensors["b_out_o"] / config.output_scale
    return tensors


def _fold_archetypes(tensors: dict[str, Tensor], relax_length: float | None) -> None:
    """Make decoder rows of shares of points: relu(W), with rows that add up to one, times C, plus what is relaxed.

    What is relaxed was kept within a length in training. A file in half precision may exceed it by rounding, which is
    undone; where rows are longer than rounding makes them, the length was another.
    """
    share_fp = tensors.pop("archetypes_fp").relu_()
    share_fp.div_(share_fp.sum(1, keepdim=True) + SMALLEST_SHARE)
    tensors["w_dec_fo"] = share_fp @ tensors.pop("points_po")
    if "relax_fo" in tensors:
        relax_fo = tensors.pop("relax_fo")
        excess_f1 = relax_fo.norm(dim=1, keepdim=True) / (relax_length or torch.inf)
        if excess_f1.max() < 1 + HALF_ROUNDING:
            relax_fo.div_(excess_f1.clamp(min=1))
        tensors["w_dec_fo"] += relax_fo


def _fold_thresholds(config: DictionaryConfig, tensors: dict[str, Tensor]) -> None:
    """Give every feature its threshold, from logarithms or from one number for all."""
    if "log_threshold_f" in tensors:
        tensors["threshold_f"] = tensors.pop("log_threshold_f").exp()
    if "threshold" in config.options:
        tensors["threshold_f"] = next(iter(tensors.values())).new_tensor(config.options["threshold"])
    if "threshold_f" in tensors:
        tensors["threshold_f"] = tensors["threshold_f"].expand(config.n_features).clone()


def _fold_scales(config: DictionaryConfig, tensors: dict[str, Tensor]) -> None:
    """Let the encoder take, and the decoder give, activations of the model's own size.

    (s x - b) W = (x - b / s) (s W); activations themselves, their biases and thresholds stay as they are.
    """
    if config.input_scale != 1:
        scale_d = _spread(config.input_scale, config.d_in)
        for weight, _ in MATRICES:
            if weight in tensors:
                tensors[weight].mul_(scale_d)
        if "b_in_d" in tensors:
            tensors["b_in_d"] = tensors["b_in_d"] / scale_d
        for name in {"queries_hdk", "keys_hdk"} & set(tensors):
            tensors[name] = tensors[name] * scale_d[:, None]
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
