"""Gemma Scope 2: JumpReLU SAEs and transcoders of Gemma 3 in params.safetensors, with a config.json beside it.

    a = relu(h) [h > threshold] with h = x w_enc + b_enc;  y = a w_dec + b_dec (+ x affine_skip_connection)

The skip connection is (D, O) and is not transposed. Hook points are module paths with `.input` or `.output`.
"""

from __future__ import annotations

from typing import Any

from inference.dictionaries.config import DictionaryConfig, UnsupportedDictionary
from inference.dictionaries.formats.names import hook_point
from inference.dictionaries.formats.place import Place, Verdict
from inference.dictionaries.formats.tensors import present

LAYOUT = "config.json + params.safetensors"
CONFIG, WEIGHTS = "config.json", "params.safetensors"
ARCHITECTURES = {"jump_relu": "jumprelu"}
TENSORS = {
    "w_enc_fd": "w_enc.T",
    "b_enc_f": "b_enc",
    "w_dec_fo": "w_dec",
    "b_out_o": "b_dec",
    "threshold_f": "threshold",
    "w_skip_do": "affine_skip_connection",
}


def detect(place: Place) -> Verdict:
    return place.files(CONFIG, WEIGHTS)


def read_config(place: Place) -> DictionaryConfig:
    cfg = place.json(CONFIG)
    weights = place.weights(WEIGHTS)
    if cfg.get("architecture", "jump_relu") not in ARCHITECTURES:
        raise UnsupportedDictionary(
            f"{place.folder / CONFIG} has architecture {cfg['architecture']!r}, which Facet does not compute.",
            f"Supported are: {', '.join(ARCHITECTURES)}.",
        )
    hook_in = _hook_point(cfg, "hf_hook_point_in")
    hook_out = _hook_point(cfg, "hf_hook_point_out") or hook_in
    return place.describe(
        weights,
        format="gemma_scope_2",
        architecture="jumprelu",
        tensors=present(weights, TENSORS, optional=("w_skip_do",)),
        hook_in=hook_in,
        hook_out=hook_out,
        model_name=str(cfg.get("model_name", "")),
        metadata=cfg,
        evidence=(f"{CONFIG} and {WEIGHTS} as Gemma Scope 2 has them; the config names the modules that it reads.",),
    )


def _hook_point(cfg: dict[str, Any], key: str) -> str | None:
    module, _, end = str(cfg.get(key) or "").rpartition(".")
    if end not in ("input", "output"):
        return None
    return hook_point(module, end=end, model_name=str(cfg.get("model_name", "")))
