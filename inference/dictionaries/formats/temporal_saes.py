"""Temporal SAEs (https://arxiv.org/abs/2511.01836): conf.yaml + latest_ckpt.safetensors, in layer_N/temporal.

The formulas are those of `architectures.temporal`; inputs are multiplied by conf.yaml's scaling_factor. Read the same
way from SAELens' own layout, whose names are others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inference.dictionaries.config import DictionaryConfig, UnsupportedDictionary
from inference.dictionaries.formats.place import Place, Verdict
from inference.dictionaries.storage import Weights, damaged

LAYOUT = "conf.yaml + latest_ckpt.safetensors"
CONFIG, WEIGHTS = "conf.yaml", "latest_ckpt.safetensors"
ARCHITECTURES = {"temporal": "temporal"}
_LINEAR = {"keys": "k_ctx", "queries": "q_target", "values": "v_ctx", "out": "c_proj"}
_SHAPES = {"keys": ("ef", "e"), "queries": ("ef", "e"), "values": ("ff", "f"), "out": ("ff", "f")}


def detect(place: Place) -> Verdict:
    return place.files(CONFIG, WEIGHTS)


def read_config(place: Place) -> DictionaryConfig:
    conf = _conf(place)
    sae, weights = conf["sae"], place.weights(WEIGHTS)
    layer = place.search(r"layer_(\d+)")
    tied = bool(sae.get("tied_weights", True))
    tensors = {"w_enc_fd": "D" if tied else "E.T", "w_dec_fo": "D", "b_out_o": "b"}
    scale = float(sae.get("scaling_factor") or 1.0)
    return place.describe(
        weights,
        format="temporal_saes",
        architecture="temporal",
        tensors=tensors | attention_tensors(weights, sae),
        hook_in=f"blocks.{layer[1]}.hook_resid_post" if layer else None,
        subtract_output_bias=True,
        input_scale=scale,
        output_scale=scale,
        **attention_facts(place, weights, sae),
        model_name=str(conf["llm"].get("name") or conf["llm"].get("model_name") or ""),
        metadata=conf,
        evidence=(
            f"{CONFIG} and {WEIGHTS} as temporal SAEs are published.",
            "Features are the novel codes; what the context predicts is added to reconstructions.",
        ),
    )


def attention_tensors(weights: Weights, cfg: Mapping[str, Any]) -> dict[str, str]:
    """Return the mapping of the attention layers."""
    return {
        canonical: f"attn_layers.{layer}.{_LINEAR[name]}.{kind}"
        for layer in range(int(cfg.get("n_attn_layers", 1)))
        for name, shapes in _SHAPES.items()
        for canonical, kind in zip(
            (f"{name}_{layer}_{shapes[0]}", f"{name}_{layer}_bias_{shapes[1]}"), ("weight", "bias"), strict=True
        )
    }


def attention_facts(place: Place, weights: Weights, cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return `k` and `options`; raise UnsupportedDictionary, DamagedDictionary."""
    kind, k = cfg.get("sae_diff_type", "topk"), cfg.get("kval_topk")
    if kind not in ("relu", "topk"):
        raise UnsupportedDictionary(
            f"{place.folder} has sae_diff_type {kind!r}, which Facet does not compute.", "Supported are: relu, topk."
        )
    n_layers, n_heads = int(cfg.get("n_attn_layers", 1)), int(cfg.get("n_heads", 8))
    for layer in range(n_layers):
        width = weights.shape(f"attn_layers.{layer}.k_ctx.weight")[0]
        if n_heads < 1 or width % n_heads:
            raise damaged(weights.path, f"{n_heads} heads do not share keys of width {width}")
    competes = kind == "topk" and k is not None
    n_features = weights.shape("D" if "D" in weights else "W_dec")[0]
    if competes and not 1 <= int(k) <= n_features:
        raise damaged(weights.path, f"k is {k} with {n_features} features")
    return {
        "k": int(k) if competes else None,
        "options": {"n_layers": n_layers, "n_heads": n_heads, "activation": "topk" if competes else "relu"},
    }


def _conf(place: Place) -> dict[str, Any]:
    import yaml

    path = place.inside(CONFIG)
    try:
        conf = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise damaged(path, "it is not YAML") from error
    if not isinstance(conf, dict) or not all(isinstance(conf.get(section), dict) for section in ("llm", "sae")):
        raise damaged(path, "it has no sections llm and sae")
    return conf
