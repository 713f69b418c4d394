"""Bussmann's BatchTopK and Matryoshka repositories, and Top-AFA's, which follows them: sae.pt + config.json.

    vanilla    a = relu((x' - b_dec) W_enc + b_enc), y = a W_dec + b_dec
    topk, batchtopk, topafa, global-matryoshka-topk
               h = (x' - b_dec) W_enc: their b_enc is there and never used
    jumprelu   a = relu(h) [relu(h) > exp(log_threshold)], h = x' W_enc + b_enc: nothing is subtracted

`input_unit_norm` standardizes inputs (deviation unbiased, plus 1e-5) and undoes it at the output. Values of config.json
may be strings. BatchTopK was published without a threshold at first: then facet.json states one, or `batch_rule`.
https://github.com/bartbussmann/BatchTopK, https://github.com/bartbussmann/matryoshka_sae
"""

from __future__ import annotations

import ast
from typing import Any

from inference.dictionaries.config import DictionaryConfig, UnsupportedDictionary
from inference.dictionaries.formats import centring
from inference.dictionaries.formats.place import OVERRIDES, Place, Verdict, no, yes
from inference.dictionaries.storage import damaged

LAYOUT = "config.json with sae_type + sae.pt"
CONFIG, WEIGHTS = "config.json", "sae.pt"
ARCHITECTURES = {
    "vanilla": "relu",
    "topk": "topk",
    "batchtopk": "batchtopk",
    "jumprelu": "jumprelu",
    "global-matryoshka-topk": "matryoshka",
    "topafa": "top_afa",
}
ALIASES = {"batch-topk": "batchtopk"}
TENSORS = {"w_enc_fd": "W_enc.T", "w_dec_fo": "W_dec", "b_out_o": "b_dec"}
BIASED = ("vanilla", "jumprelu")


def detect(place: Place) -> Verdict:
    there = place.files(CONFIG, WEIGHTS)
    if not there.fits:
        return there
    return yes(f"{CONFIG} has sae_type") if "sae_type" in place.json(CONFIG) else no(f"{CONFIG} has no sae_type")


def read_config(place: Place) -> DictionaryConfig:
    cfg = {key: _value(value) for key, value in place.json(CONFIG).items()}
    weights = place.weights(WEIGHTS)
    name = ALIASES.get(str(cfg["sae_type"]), str(cfg["sae_type"]))
    if name not in ARCHITECTURES:
        raise UnsupportedDictionary(
            f"{place.folder / CONFIG} has sae_type {name!r}, which Facet does not compute.",
            f"Supported are: {', '.join(ARCHITECTURES)}.",
            sae_type=name,
        )
    for key, stored in (("act_size", weights.shape("W_enc")[0]), ("dict_size", weights.shape("W_enc")[-1])):
        told = sum(cfg["group_sizes"]) if key == "dict_size" and cfg.get("group_sizes") else cfg.get(key)
        if told is not None and told != stored:
            raise damaged(weights.path, f"W_enc says that {key} is {stored}, and {CONFIG} says {told}", tensor="W_enc")
    tensors = TENSORS | ({"b_enc_f": "b_enc"} if name in BIASED else {})
    if name == "jumprelu":
        tensors["log_threshold_f"] = "jumprelu.log_threshold"
    elif "threshold" in weights:
        tensors["threshold_f"] = "threshold"
    elif name == "batchtopk" and not {"threshold", "batch_rule"} & place.overrides.keys():
        raise UnsupportedDictionary(
            f"{weights.path} has no threshold: in training, features competed across a batch.",
            f'Write {{"threshold": NUMBER}} to {OVERRIDES} beside it, or {{"batch_rule": true}} to let them compete.',
        )
    model_name = str(cfg.get("model_name") or "")
    normalize, said = centring.normalization(
        "layer_norm" if cfg.get("input_unit_norm") else "none",
        model_name,
        str(cfg.get("hook_point") or ""),
        place.overrides.get("centred"),
    )
    unused = [] if name in BIASED else ["b_enc is not used, as in its authors' code."]
    return place.describe(
        weights,
        format="bussmann",
        architecture=ARCHITECTURES[name],
        tensors=tensors,
        hook_in=cfg.get("hook_point"),
        k=cfg.get("top_k") if "topk" in name else None,
        normalize=normalize,
        subtract_output_bias=name != "jumprelu",
        group_sizes=tuple(cfg.get("group_sizes") or ()) if name == "global-matryoshka-topk" else (),
        model_name=model_name,
        context_size=cfg.get("seq_len"),
        metadata={key: value for key, value in cfg.items() if isinstance(value, str | int | float | bool | list)},
        evidence=(
            f"{CONFIG} says sae_type {name}, and {WEIGHTS} has its tensors.",
            *unused,
            *said,
        ),
    )


def _value(value: Any) -> Any:
    """Return what a string stands for, if it is a number, a truth value or a list."""
    try:
        return ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError):
        return value
