"""crosscoder_learning's crosscoders: config.json + model.safetensors, or one .pt, with axes for hook points.

    x' = s (x - mean);  h = sum over points of x'_p W_p + b;  a = relu(h), for BatchTopK where relu(h) n > threshold
    y_p = (a D_p + c_p) / (s + 1e-8) + mean

n, the code's norm, is the sum of |D_p| (crosscoder), |D| (SAE), a mix of both, or 1; `decoupled` codes have a threshold
for each point, and are on where relu(h) |D_p| passes it. https://github.com/science-of-finetuning/crosscoder_learning
"""

from __future__ import annotations

from math import isnan
from typing import Any

from inference.dictionaries.config import DictionaryConfig, UnsupportedDictionary
from inference.dictionaries.formats.place import OVERRIDES, Place, Verdict, no, yes
from inference.dictionaries.storage import Weights, damaged
from inference.hook_points import parts as hook_points

LAYOUT = "model.safetensors or a .pt with encoder.weight and decoder.weight of three axes"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
ARCHITECTURES = {"CrossCoder": "relu", "BatchTopKCrossCoder": "batchtopk"}
NEEDED = ("encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias")
# By code_normalization_id, which counts from 1.
GATES = ("sum", "whole", "mixed", None, "each")
# What its normalizer adds to a scale before dividing by it.
EPSILON = 1e-8


def detect(place: Place) -> Verdict:
    name = WEIGHTS if place.has(WEIGHTS) and place.path.is_dir() else place.only(".safetensors") or place.only(".pt")
    if name is None:
        return no(f"no {WEIGHTS} and no single .pt")
    weights = place.weights(name)
    missing = [tensor for tensor in NEEDED if tensor not in weights]
    if missing:
        return no(f"{name} has no {missing[0]}")
    if len(weights.shape("encoder.weight")) != 3 or len(weights.shape("decoder.weight")) != 3:
        return no(f"{name} has an encoder.weight of shape {weights.shape('encoder.weight')}, for one hook point")
    return yes(f"{name} has encoder.weight and decoder.weight of three axes")


def read_config(place: Place) -> DictionaryConfig:
    """Return the facts; raise UnsupportedDictionary unless facet.json says which hook points it joins."""
    name = WEIGHTS if place.has(WEIGHTS) and place.path.is_dir() else place.only(".safetensors") or place.only(".pt")
    weights = place.weights(name or WEIGHTS)
    cfg = place.json(CONFIG) if place.has(CONFIG) else {}
    n_points = weights.shape("decoder.weight")[0]
    if weights.shape("encoder.weight")[0] != n_points:
        raise UnsupportedDictionary(
            f"{weights.path} encodes {weights.shape('encoder.weight')[0]} of the {n_points} layers that it decodes.",
            "Facet reads crosscoders that read where they write.",
        )
    hook_in = place.overrides.get("hook_in", "")
    if len(hook_points(hook_in)) != n_points:
        raise UnsupportedDictionary(
            f"{place.folder} reads {n_points} hook points, and nothing says which.",
            f'Write {{"hook_in": "blocks.7.hook_resid_post+blocks.13.hook_resid_post"}} to {OVERRIDES} there; '
            "where they belong to two models, put MODEL/ before each.",
        )
    called = "BatchTopKCrossCoder" if "threshold" in weights else "CrossCoder"
    tensors = {
        "w_enc_fd": _joined("encoder.weight[{}].T", n_points),
        "b_enc_f": "encoder.bias",
        "w_dec_fo": _joined("decoder.weight[{}]", n_points),
        "b_out_o": _joined("decoder.bias[{}]", n_points),
    }
    scales, sentence = _scales(weights, n_points)
    if scales:
        tensors["mean_d"] = _joined("activation_mean[{}]", n_points)
    return place.describe(
        weights,
        format="crosscoder_learning",
        by_file=place.path.is_file(),
        architecture=ARCHITECTURES[called],
        tensors=tensors,
        hook_in=hook_in,
        options=_options(weights, cfg, n_points) if called == "BatchTopKCrossCoder" else {},
        k=int(weights.numbers("k")[0]) if "k" in weights else None,
        **scales,
        metadata=cfg,
        evidence=(f"{weights.path.name} has the tensors of crosscoder_learning's {called}.", sentence),
    )


def _joined(name: str, n_points: int) -> str:
    return " | ".join(name.format(point) for point in range(n_points))


def _scales(weights: Weights, n_points: int) -> tuple[dict[str, tuple[float, ...]], str]:
    """Return the scale of each point, nothing where activations are taken as they are: then the mean is NaN."""
    if "activation_mean" not in weights or any(map(isnan, weights.numbers("activation_mean"))):
        return {}, "Inputs are taken as they are: no mean is saved."
    scale = weights.numbers("activation_global_scale")
    if len(scale) != n_points:
        raise damaged(weights.path, f"{len(scale)} scales for {n_points} hook points", tensor="activation_global_scale")
    facts = {"input_scale": tuple(scale), "output_scale": tuple(number + EPSILON for number in scale)}
    return facts, "The saved mean is subtracted from inputs, and each hook point has the saved scale."


def _options(weights: Weights, cfg: dict[str, Any], n_points: int) -> dict[str, Any]:
    """Return the gate and its thresholds."""
    number = int(weights.numbers("code_normalization_id")[0]) if "code_normalization_id" in weights else 1
    if not 1 <= number <= len(GATES):
        raise damaged(weights.path, f"its code_normalization_id is {number}", tensor="code_normalization_id")
    thresholds = weights.numbers("threshold")
    if len(thresholds) != (n_points if GATES[number - 1] == "each" else 1):
        raise damaged(weights.path, f"it has {len(thresholds)} thresholds for {n_points} points", tensor="threshold")
    options: dict[str, Any] = {"threshold": thresholds[0]}
    if GATES[number - 1]:
        options["gate"] = GATES[number - 1]
    if options.get("gate") == "each":
        options["thresholds"] = tuple(thresholds)
    if options.get("gate") == "mixed":
        shares = ("code_normalization_alpha_sae", 1.0), ("code_normalization_alpha_cc", 0.1)
        options["gate_shares"] = tuple(float(cfg.get(key) or default) for key, default in shares)
    return options
