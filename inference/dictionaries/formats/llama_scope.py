"""Llama Scope (https://arxiv.org/abs/2410.20526): hyperparams.json + checkpoints/final.safetensors.

Language-Model-SAEs scales inputs and outputs to an average length, s = sqrt(width) / mean |x|, and measures activations
in units of what they write:

    h = s_in x E + b_enc;  a = JumpReLU(h |D| / s_out);  y = a D / |D| + b_dec / s_out

with one threshold for all features, in the model's own units. Loaders that compare it with h itself, or scale the
output by s_in, find other features. https://github.com/OpenMOSS/Language-Model-SAEs
"""

from __future__ import annotations

from typing import Any

from inference.dictionaries.config import DictionaryConfig, UnsupportedDictionary
from inference.dictionaries.formats.llamascopium import model_name_beside
from inference.dictionaries.formats.place import Place, Verdict
from inference.dictionaries.storage import damaged

LAYOUT = "hyperparams.json + checkpoints/final.safetensors"
CONFIG, WEIGHTS = "hyperparams.json", "checkpoints/final.safetensors"
ARCHITECTURES = {"jumprelu": "jumprelu", "relu": "relu", "topk": "topk"}
NORMALIZATIONS = {"dataset-wise": "none", "inference": "none", "token-wise": "constant_norm_rescale"}
TENSORS = {"w_enc_fd": "encoder.weight", "b_enc_f": "encoder.bias", "w_dec_fo": "decoder.weight.T"}


def detect(place: Place) -> Verdict:
    return place.files(CONFIG, WEIGHTS)


def read_config(place: Place) -> DictionaryConfig:
    cfg = place.json(CONFIG)
    weights = place.weights(WEIGHTS)
    architecture = _supported(place, cfg, "act_fn", ARCHITECTURES)
    normalize = _supported(place, cfg, "norm_activation", NORMALIZATIONS)
    hook_in, hook_out = cfg.get("hook_point_in"), cfg.get("hook_point_out")
    bias = {"b_out_o": "decoder.bias"} if cfg.get("use_decoder_bias", True) else {}
    d_out, d_in = weights.shape("decoder.weight")[0], weights.shape("encoder.weight")[1]
    scales = {"input_scale": 1.0, "output_scale": 1.0}
    if cfg.get("norm_activation") == "dataset-wise":
        scales = {"input_scale": _scale(place, cfg, "in", d_in), "output_scale": _scale(place, cfg, "out", d_out)}
    options = {}
    if architecture == "jumprelu":
        threshold = cfg.get("jump_relu_threshold")
        if not isinstance(threshold, int | float):
            raise damaged(place.folder / CONFIG, f"jump_relu_threshold is {threshold!r} instead of a number")
        options["threshold"] = threshold
    return place.describe(
        weights,
        format="llama_scope",
        architecture=architecture,
        tensors={**TENSORS, **bias},
        hook_in=hook_in,
        hook_out=hook_out,
        k=cfg.get("top_k") if architecture == "topk" else None,
        normalize=normalize,
        subtract_output_bias=bool(cfg.get("apply_decoder_bias_to_pre_encoder")),
        scale_by_decoder_norm=bool(cfg.get("sparsity_include_decoder_norm", True)),
        **scales,
        options=options,
        model_name=str(cfg.get("model_name") or model_name_beside(place) or "meta-llama/Llama-3.1-8B"),
        metadata=cfg,
        evidence=(
            f"{CONFIG} and {WEIGHTS} as Llama Scope has them.",
            "Activations are in units of what they write, as its authors load it.",
        ),
    )


def _supported(place: Place, cfg: dict[str, Any], key: str, table: dict[str, str]) -> str:
    value = cfg.get(key)
    if isinstance(value, str) and value in table:
        return table[value]
    raise UnsupportedDictionary(
        f"{place.folder / CONFIG} has {key} {value!r}, which Facet does not compute.",
        f"Supported are: {', '.join(table)}.",
        **{key: value},
    )


def _scale(place: Place, cfg: dict[str, Any], end: str, width: int) -> float:
    length = (cfg.get("dataset_average_activation_norm") or {}).get(end)
    if not isinstance(length, int | float) or length <= 0:
        raise damaged(place.folder / CONFIG, f"dataset_average_activation_norm.{end} is {length!r}")
    return width**0.5 / length
