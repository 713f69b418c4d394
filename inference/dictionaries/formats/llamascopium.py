"""llamascopium, formerly lm-saes 2 (https://github.com/OpenMOSS/Language-Model-SAEs): config.json with a sae_type.

    h = s_in x W_E + b_E;  f = activation(h n) / n;  y = (f W_D + b_D) / s_out

with n = |W_D| where the config includes decoder norms, and s = sqrt(D) / mean |x| of each hook point's average norm in
the file where it normalizes by data set: as the package computes with `normalize_activations` around `encode` and
`decode`. Thresholds compare with h n in these units.
    sae         one hook point in, one out; `use_glu_encoder` multiplies h by sigmoid(x V + c)
    crosscoder  the sum of h over hook points; norms and therefore gates of each point
    clt         a dictionary for each layer, whose outputs add up; n over all layers that it writes at
    lorsa       attention in the place of h: `architectures.lorsa`
    molt        transforms in the place of directions: `architectures.molt`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inference.dictionaries.config import DictionaryConfig, UnsupportedDictionary
from inference.dictionaries.formats.place import Place, Verdict, no, yes
from inference.dictionaries.formats.tensors import present, shape_of
from inference.dictionaries.storage import Weights, damaged
from inference.hook_points import parts as parts_of

LAYOUT = "config.json with sae_type + sae_weights.safetensors or checkpoints/final.safetensors"
CONFIG = "config.json"
WEIGHTS = tuple(
    f"{stem}{suffix}"
    for stem in ("sae_weights", "checkpoints/pruned", "checkpoints/final")
    for suffix in (".safetensors", ".pt")
)
ARCHITECTURES = {
    "sae relu": "relu",
    "sae jumprelu": "jumprelu",
    "sae topk": "topk",
    "sae batchtopk": "batchtopk",
    "sae glu": "glu",
    "crosscoder relu": "relu",
    "crosscoder jumprelu": "jumprelu",
    "clt relu": "relu",
    "clt jumprelu": "jumprelu",
    "clt topk": "topk",
    "lorsa topk": "lorsa",
    "molt jumprelu": "molt",
}
# What each type can run; the package trains with more, which compete across layers or points.
ACTIVATIONS = {
    "sae": ("relu", "jumprelu", "topk", "batchtopk"),
    "crosscoder": ("relu", "jumprelu"),
    "clt": ("relu", "jumprelu", "topk"),
    "lorsa": ("relu", "jumprelu", "topk"),
    "molt": ("relu", "jumprelu", "topk"),
}
NORMALIZATIONS = {"inference": "none", "dataset-wise": "none", "token-wise": "constant_norm_rescale"}
THRESHOLD, AVERAGE = "activation_function.log_jumprelu_threshold", "dataset_average_activation_norm"


def detect(place: Place) -> Verdict:
    if not place.has(CONFIG) or _weights_name(place) is None:
        return no(f"no {CONFIG}" if not place.has(CONFIG) else f"no {WEIGHTS[0]} or other weights")
    kind = str(place.json(CONFIG).get("sae_type"))
    return yes(f"{CONFIG} has sae_type {kind}") if kind in ACTIVATIONS else no(f"{CONFIG} has sae_type {kind!r}")


def parts(place: Place) -> list[str]:
    """Return the layers of a cross-layer transcoder, nothing for the others."""
    cfg = place.json(CONFIG)
    return [str(layer) for layer in range(len(_points(place, cfg, "hook_points_in")))] if _is_clt(cfg) else []


def read_config(place: Place) -> DictionaryConfig:
    cfg = place.json(CONFIG)
    kind, activation = cfg["sae_type"], str(cfg.get("act_fn", "relu")).lower()
    if activation not in ACTIVATIONS[kind]:
        raise UnsupportedDictionary(
            f"{place.folder / CONFIG} has a {kind} with act_fn {activation!r}: what fires at one layer or hook point "
            "then depends on the others, or on the batch.",
            f"Facet runs {kind}s with {', '.join(ACTIVATIONS[kind])}; llamascopium converts them to jumprelu.",
            act_fn=activation,
        )
    mode = cfg.get("norm_activation", "dataset-wise")
    if mode not in NORMALIZATIONS or (mode == "token-wise" and kind != "sae"):
        raise UnsupportedDictionary(
            f"{place.folder / CONFIG} has a {kind} with norm_activation {mode!r}, which Facet does not compute.",
            f"Supported are: {', '.join(NORMALIZATIONS)}, token-wise for a sae alone.",
        )
    weights = place.weights(_weights_name(place) or WEIGHTS[0])
    facts = _READERS[kind](place, cfg, weights)
    tensors = facts.pop("tensors")
    if activation == "jumprelu":
        tensors.setdefault("log_threshold_f", _named(weights, THRESHOLD))
    if not cfg.get("use_decoder_bias", True):
        tensors.pop("b_out_o", None)
    architecture = facts.pop("architecture", activation)
    options = facts.pop("options", {})
    if architecture != activation:
        options["activation"] = activation
    if cfg.get("sparsity_include_decoder_norm", True):
        options.setdefault("gate", "whole")
    k = int(cfg.get("top_k", 50)) if "topk" in activation else None
    n_features, d_in = shape_of(weights, tensors["w_enc_fd"])
    if k is not None and not 1 <= k <= n_features:
        raise damaged(place.folder / CONFIG, f"its top_k is {k} with {n_features} features")
    return place.describe(
        weights,
        format="llamascopium",
        architecture=architecture,
        tensors=tensors,
        k=k,
        normalize=NORMALIZATIONS[mode],
        options=options,
        **(_scales(weights, facts["hook_in"], facts["hook_out"], d_in) if mode == "dataset-wise" else {}),
        **facts,
        model_name=model_name_beside(place),
        metadata=cfg,
        evidence=(
            f"{CONFIG} and {weights.path.name} as llamascopium saves a {kind}.",
            "Activations are in the units of the scaled input, as its encode returns them."
            if mode == "dataset-wise"
            else f"Inputs are taken in the mode {mode}.",
        ),
    )


def _sae(place: Place, cfg: dict[str, Any], weights: Weights) -> dict[str, Any]:
    tensors = {"w_enc_fd": "W_E.T", "b_enc_f": "b_E", "w_dec_fo": "W_D", "b_out_o": "b_D"}
    facts: dict[str, Any] = {"hook_in": _point(cfg, "hook_point_in"), "hook_out": _point(cfg, "hook_point_out")}
    if cfg.get("use_glu_encoder"):
        tensors |= {"w_glu_fd": "W_E_glu.T", "b_glu_f": "b_E_glu"}
        facts["architecture"] = "glu"
    return facts | {"tensors": _all_named(weights, tensors)}


def _crosscoder(place: Place, cfg: dict[str, Any], weights: Weights) -> dict[str, Any]:
    points = _points(place, cfg, "hook_points")
    joined = {"w_enc_fd": "W_E[{}].T", "w_dec_fo": "W_D[{}]", "b_out_o": "b_D[{}]"}
    tensors = {
        name: " | ".join(_named(weights, expression.format(at)) for at in range(len(points)))
        for name, expression in joined.items()
    }
    tensors["b_enc_f"] = " + ".join(_named(weights, f"b_E[{at}]") for at in range(len(points)))
    return {
        "hook_in": "+".join(points),
        "hook_out": "+".join(points),
        "tensors": tensors,
        "options": {"gate": "each"},
    }


def _clt(place: Place, cfg: dict[str, Any], weights: Weights) -> dict[str, Any]:
    layer = int(place.part)
    reads, writes = _points(place, cfg, "hook_points_in"), _points(place, cfg, "hook_points_out")
    if len(reads) != len(writes):
        raise damaged(place.folder / CONFIG, f"it reads {len(reads)} hook points and writes {len(writes)}")
    targets = range(layer, len(writes))
    tensors = {
        "w_enc_fd": f"W_E[{layer}].T",
        "b_enc_f": f"b_E[{layer}]",
        "b_out_o": f"b_D.{layer}",
        "log_threshold_f": f"{THRESHOLD}[{layer}]",
    }
    named = present(weights, _all_named(weights, tensors), optional=("log_threshold_f",))
    named["w_dec_fo"] = " | ".join(_named(weights, f"W_D.{target}[{layer}]") for target in targets)
    return {
        "hook_in": reads[layer],
        "hook_out": "+".join(writes[layer:]),
        "is_summand": True,
        "tensors": named,
    }


def _lorsa(place: Place, cfg: dict[str, Any], weights: Weights) -> dict[str, Any]:
    if cfg.get("rotary_scale", 1) != 1:
        raise UnsupportedDictionary(
            f"{place.folder / CONFIG} has rotary_scale {cfg['rotary_scale']}, which Facet does not compute.",
            "Facet runs Lorsa with queries and keys of their own width.",
        )
    tensors = {
        "w_enc_fd": "W_V",
        "b_enc_f": "b_V",
        "w_dec_fo": "W_O",
        "b_out_o": "b_D",
        "queries_hdk": "W_Q",
        "query_bias_hk": "b_Q",
        "keys_hdk": "W_K",
        "key_bias_hk": "b_K",
        "query_gain_hk": "ln_q.w",
        "key_gain_hk": "ln_k.w",
        "sine_sr": "rotary_sin",
        "cosine_sr": "rotary_cos",
    }
    optional = () if cfg.get("use_post_qk_ln") else ("query_gain_hk", "key_gain_hk")
    if cfg.get("positional_embedding_type", "rotary") != "rotary":
        optional += ("sine_sr", "cosine_sr")
    named = present(weights, _all_named(weights, tensors), optional=optional)
    n_heads, _, d_key = weights.shape(named["queries_hdk"])
    if weights.shape(named["w_enc_fd"])[0] % n_heads:
        raise damaged(weights.path, f"its features do not share {n_heads} query heads evenly", tensor="W_Q")
    return {
        "hook_in": _point(cfg, "hook_point_in"),
        "hook_out": _point(cfg, "hook_point_out"),
        "architecture": "lorsa",
        "tensors": named,
        "context_size": cfg.get("n_ctx"),
        "options": {
            "scale": float(cfg.get("attn_scale") or d_key**0.5),
            "adjacent": bool(cfg.get("rotary_adjacent_pairs", True)),
            "epsilon": float(cfg.get("eps", 1e-6)),
        },
    }


def _molt(place: Place, cfg: dict[str, Any], weights: Weights) -> dict[str, Any]:
    counts = {int(rank): int(count) for rank, count in (cfg.get("rank_counts") or {}).items()}
    tensors = {"w_enc_fd": "W_E.T", "b_enc_f": "b_E", "b_out_o": "b_D"}
    for rank in sorted(counts):
        tensors |= {f"u_{rank}_cor": f"U_matrices.{rank}", f"v_{rank}_crd": f"V_matrices.{rank}"}
    named = _all_named(weights, tensors)
    n_features = weights.shape(_named(weights, "W_E"))[-1]
    n_maps = [weights.shape(expression)[0] for name, expression in named.items() if name.startswith("u_")]
    if not n_maps or sum(n_maps) != n_features:
        raise damaged(weights.path, f"it has {sum(n_maps)} transforms for {n_features} features", tensor="U_matrices")
    return {
        "hook_in": _point(cfg, "hook_point_in"),
        "hook_out": _point(cfg, "hook_point_out"),
        "architecture": "molt",
        "tensors": named,
        "options": {"ranks": tuple(sorted(counts))},
    }


_READERS: dict[str, Callable[[Place, dict[str, Any], Weights], dict[str, Any]]] = {
    "sae": _sae,
    "crosscoder": _crosscoder,
    "clt": _clt,
    "lorsa": _lorsa,
    "molt": _molt,
}


def _is_clt(cfg: dict[str, Any]) -> bool:
    return cfg.get("sae_type") == "clt"


def _weights_name(place: Place) -> str | None:
    return next((name for name in WEIGHTS if place.has(name)), None)


def model_name_beside(place: Place) -> str:
    """Return the model that lm_config.json beside it names."""
    cfg = place.json("lm_config.json") if place.has("lm_config.json") else {}
    return str(cfg.get("model_name") or "")


def _point(cfg: dict[str, Any], key: str) -> str | None:
    point = cfg.get(key)
    return point if isinstance(point, str) and point else None


def _points(place: Place, cfg: dict[str, Any], key: str) -> list[str]:
    points = cfg.get(key)
    if not isinstance(points, list) or not points or not all(isinstance(point, str) for point in points):
        raise damaged(place.folder / CONFIG, f"its {key} is no list of hook points")
    return points


def _named(weights: Weights, expression: str) -> str:
    """Return the name in the file: a .pt holds everything under `sae`."""
    return f"sae.{expression}" if weights.path.suffix == ".pt" else expression


def _all_named(weights: Weights, tensors: dict[str, str]) -> dict[str, str]:
    return {canonical: _named(weights, expression) for canonical, expression in tensors.items()}


def _scales(weights: Weights, hook_in: str | None, hook_out: str | None, d_in: int) -> dict[str, Any]:
    """Return the factor of each hook point by the average length that the file has of it."""
    width = d_in // len(parts_of(hook_in or ""))

    def factors(joined: str | None) -> tuple[float, ...]:
        found = []
        for point in parts_of(joined or ""):
            [length] = weights.numbers(_named(weights, f"{AVERAGE}.{point}"))
            if not length > 0:
                raise damaged(weights.path, f"its average length at {point} is {length}", tensor=f"{AVERAGE}.{point}")
            found.append(width**0.5 / length)
        return tuple(found)

    reads, writes = factors(hook_in), factors(hook_out or hook_in)
    return {
        "input_scale": reads if len(reads) > 1 else reads[0],
        "output_scale": writes if len(writes) > 1 else writes[0],
    }
