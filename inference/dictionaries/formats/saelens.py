"""SAELens' layout: a folder with cfg.json and sae_weights.safetensors.

Semantics follow SAELens 6.54 (https://github.com/decoderesearch/SAELens): the decoder's bias is subtracted from the
input of SAEs and not of transcoders; TopK keeps k pre-activations and then drops those below zero; attention outputs
(`hook_z`) are flat. BatchTopK and Matryoshka dictionaries are saved as JumpReLU. Configs that keep everything at the
top level (versions 3 to 5, and the `hook_point` keys before them) are read too.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from inference.dictionaries.config import DictionaryConfig, UnsupportedDictionary
from inference.dictionaries.formats import centring, temporal_saes
from inference.dictionaries.formats.names import hook_point
from inference.dictionaries.formats.place import Place, Verdict, no, yes
from inference.dictionaries.formats.tensors import present
from inference.dictionaries.storage import Weights, damaged

LAYOUT = "cfg.json + sae_weights.safetensors"
CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"

ARCHITECTURES = {
    "standard": "relu",
    "gated": "gated",
    "topk": "topk",
    "abstopk": "abstopk",
    "jumprelu": "jumprelu",
    "matching_pursuit": "matching_pursuit",
    "transcoder": "relu",
    "skip_transcoder": "relu",
    "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
    "temporal": "temporal",
}
NORMALIZATIONS = {
    None: "none",
    False: "none",
    "none": "none",
    "layer_norm": "layer_norm",
    "constant_norm_rescale": "constant_norm_rescale",
    "expected_average_only_in": "none",
    "constant_scalar_rescale": "none",
    True: "none",
}
# Older names of entries of the config.
RENAMED = {"hook_point": "hook_name", "hook_point_head_index": "hook_head_index", "activation_fn": "activation_fn_str"}
TENSORS = {
    "w_enc_fd": "W_enc.T",
    "b_enc_f": "b_enc",
    "w_dec_fo": "W_dec",
    "b_out_o": "b_dec",
    "threshold_f": "threshold",
    "log_threshold_f": "log_threshold",
    "log_gain_f": "r_mag",
    "b_gate_f": "b_gate",
    "b_magnitude_f": "b_mag",
    "w_skip_do": "W_skip.T",
    "decode_scale_f": "scaling_factor",
}


def detect(place: Place) -> Verdict:
    if not place.has(CONFIG):
        return no(f"no {CONFIG}")
    others = [name for name in place.names if name.endswith((".safetensors", ".pt", ".npz")) and name != WEIGHTS]
    if not place.has(WEIGHTS) and others:
        return no(f"{CONFIG} without {WEIGHTS}")
    return yes(CONFIG)


def read_config(place: Place) -> DictionaryConfig:
    """Return the facts in cfg.json after checking them against the shapes in the weights' header."""
    cfg = {RENAMED.get(key, key): value for key, value in place.json(CONFIG).items()}
    # Before version 6 there was no metadata: everything was at the top level.
    metadata = {**cfg, **(cfg.get("metadata") or {})}
    name = _legacy_architecture(place, cfg) if "metadata" not in cfg else cfg.get("architecture", "standard")
    architecture = _supported(place, "architecture", name, ARCHITECTURES)
    mode = cfg.get("normalize_activations")
    normalize = _supported(place, "normalize_activations", mode, NORMALIZATIONS)
    hook_in = _hook(place, metadata, "hook_name", "hook_head_index")
    hook_out = hook_in
    if metadata.get("hook_name_out"):
        hook_out = _hook(place, metadata, "hook_name_out", "hook_head_index_out")
    elif "transcoder" in name:
        raise damaged(place.folder / CONFIG, "hook_name_out is missing, so nothing says where the transcoder writes")
    centred = _centred(place, metadata, hook_in, hook_out, normalize)
    if centred == centring.CENTRED:
        normalize = "centred"
    shifted = normalize == "none" and _shifted(place, metadata, hook_in)
    weights = place.weights(WEIGHTS)
    tensors = _tensors(place, cfg, name, architecture, weights)
    d_in, d_sae = _count(place, cfg, "d_in"), _count(place, cfg, "d_sae")
    return place.describe(
        weights,
        format="saelens",
        architecture=architecture,
        tensors=tensors,
        hook_in=hook_in,
        hook_out=hook_out,
        d_in=d_in,
        d_out=_count(place, cfg, "d_out") if cfg.get("d_out") else d_in,
        n_features=d_sae,
        k=_k(place, cfg, d_sae) if "topk" in architecture or _competes(architecture, cfg) else None,
        normalize=normalize,
        subtract_output_bias=bool(cfg.get("apply_b_dec_to_input", True)) and hook_out == hook_in,
        scale_by_decoder_norm="topk" in architecture and bool(cfg.get("rescale_acts_by_decoder_norm", False)),
        options=_options(place, weights, cfg, architecture) | ({"value_biases": True} if shifted else {}),
        **(_scale(place, cfg) if mode == "constant_scalar_rescale" else {}),
        group_sizes=_group_sizes(metadata),
        model_name=str(metadata.get("model_name") or ""),
        prepend_bos=bool(metadata.get("prepend_bos", True)),
        context_size=metadata.get("context_size"),
        metadata={"architecture": name, **(cfg.get("metadata") or {})},
        evidence=(
            *_evidence(cfg, metadata, mode),
            *([centred] if centred else []),
            *([centring.VALUE_BIASES] if shifted else []),
        ),
    )


def _evidence(cfg: dict[str, Any], metadata: dict[str, Any], mode: Any) -> list[str]:
    version = metadata.get("sae_lens_version")
    flat = "" if "metadata" in cfg else ", in the flat form of versions 3 to 5"
    sentences = [f"{CONFIG} and {WEIGHTS} as SAELens{f' {version}' if version else ''} writes them{flat}."]
    if mode in (True, "expected_average_only_in"):
        sentences.append(
            f"{mode!r} says that inputs were scaled to an average length in training. As in SAELens nothing is done at "
            "run time: the factor is folded into weights when they are published, or else stated in facet.json."
        )
    if metadata.get("training_architecture"):
        sentences.append(f"Trained as {metadata['training_architecture']}.")
    return sentences


def _centred(place: Place, metadata: dict[str, Any], hook_in: str, hook_out: str, normalize: str) -> str:
    """Return a sentence about TransformerLens' centring of the model's weights, empty where it changes nothing."""
    if not centring.changes(str(metadata.get("model_name") or ""), hook_in):
        return ""
    told = (metadata.get("model_from_pretrained_kwargs") or {}).get("center_writing_weights")
    told = place.overrides.get("centred", told)
    if told is None:
        return (
            "The config does not say whether TransformerLens centred the model's weights, as it does by default; taken "
            "as not. If it did, state centred in facet.json."
        )
    if not told or normalize == "layer_norm":
        return ""
    if normalize != "none" or hook_in != hook_out:
        raise UnsupportedDictionary(
            f"{place.folder / CONFIG} is of a model with centred weights and has {normalize!r} or a second hook point.",
            "Facet centres the input of SAEs without a normalization of their own.",
        )
    return centring.CENTRED


def _shifted(place: Place, metadata: dict[str, Any], hook_in: str) -> bool:
    """Return whether TransformerLens had moved the values' biases, which it does unless told not to when it centres."""
    kwargs = metadata.get("model_from_pretrained_kwargs") or {}
    told = place.overrides.get("centred", kwargs.get("fold_value_biases", kwargs.get("center_writing_weights")))
    return bool(told) and centring.shifts(str(metadata.get("model_name") or ""), hook_in)


def _tensors(place: Place, cfg: dict, name: str, architecture: str, weights: Weights) -> dict[str, str]:
    """Return which tensor is what for an architecture; raise DamagedDictionary for one of another architecture."""
    mapping = {canonical: TENSORS[canonical] for canonical in ("w_enc_fd", "b_enc_f", "w_dec_fo", "b_out_o")}
    if architecture == "gated":
        del mapping["b_enc_f"]
        mapping |= {canonical: TENSORS[canonical] for canonical in ("log_gain_f", "b_gate_f", "b_magnitude_f")}
    if architecture == "matching_pursuit":
        mapping = {"w_enc_fd": "W_dec", "w_dec_fo": "W_dec", "b_out_o": "b_dec"}
        if not cfg.get("apply_b_dec_to_input", True):
            del mapping["b_out_o"]
    if architecture == "temporal":
        tied = bool(cfg.get("tied_weights", True))
        mapping = {"w_enc_fd": "W_dec" if tied else "W_enc.T", "w_dec_fo": "W_dec"}
        if not tied or cfg.get("apply_b_dec_to_input", True):
            mapping["b_out_o"] = "b_dec"
        mapping |= temporal_saes.attention_tensors(weights, cfg)
    if architecture == "jumprelu":
        canonical = "log_threshold_f" if "log_threshold" in weights else "threshold_f"
        mapping[canonical] = TENSORS[canonical]
    if "skip" in name:
        mapping["w_skip_do"] = TENSORS["w_skip_do"]
    # Versions 3 to 5 saved a factor that only finetuning made use of.
    if cfg.get("finetuning_scaling_factor") and "scaling_factor" in weights:
        mapping["decode_scale_f"] = TENSORS["decode_scale_f"]
    for stored in ("threshold", "b_gate", "r_mag", "W_skip"):
        if stored in weights and stored not in {value.removesuffix(".T") for value in mapping.values()}:
            raise damaged(
                weights.path, f"it holds {stored}, which {name!r} dictionaries do not have, as {CONFIG} calls it"
            )
    return present(weights, mapping)


def _legacy_architecture(place: Place, cfg: dict[str, Any]) -> str:
    activation = cfg.get("activation_fn_str", "relu")
    if activation == "topk":
        return "topk"
    if activation != "relu":
        _supported(place, "activation_fn", activation, {"relu": "relu", "topk": "topk"})
    return cfg.get("architecture", "standard")


def _supported(place: Place, key: str, value: Any, table: dict[Any, str]) -> str:
    if isinstance(value, str | bool | None) and value in table:
        return table[value]
    known = ", ".join(name for name in table if isinstance(name, str))
    raise UnsupportedDictionary(
        f"{place.folder / CONFIG} has {key} {value!r}, which Facet does not compute.",
        f"Supported are: {known}.",
        **{key: value},
    )


def _hook(place: Place, metadata: dict[str, Any], key: str, head_key: str) -> str:
    name = metadata.get(key)
    if not isinstance(name, str) or not name:
        raise damaged(place.folder / CONFIG, f"{key} is missing, so nothing says where the dictionary reads")
    # With AutoModelForCausalLM as its model, a dictionary names modules.
    if not name.startswith(("blocks.", "hook_")):
        name = hook_point(name, model_name=str(metadata.get("model_name") or "")) or name
    head = metadata.get(head_key)
    return name if head is None else f"{name}.{head}"


def _count(place: Place, cfg: dict[str, Any], key: str) -> int:
    value = cfg.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise damaged(place.folder / CONFIG, f"{key} is {value!r} instead of a positive number")
    return value


def _competes(architecture: str, cfg: dict[str, Any]) -> bool:
    """Return whether the novel codes of a temporal SAE compete."""
    return architecture == "temporal" and cfg.get("sae_diff_type", "topk") == "topk" and bool(cfg.get("kval_topk"))


def _scale(place: Place, cfg: dict[str, Any]) -> dict[str, float]:
    """Return a temporal SAE's factor of inputs, by which outputs are divided."""
    scale = cfg.get("activation_normalization_factor", 1.0)
    if cfg.get("architecture") != "temporal" or not isinstance(scale, int | float) or not scale > 0:
        raise damaged(place.folder / CONFIG, f"activation_normalization_factor is {scale!r}")
    return {"input_scale": float(scale), "output_scale": float(scale)}


def _options(place: Place, weights: Weights, cfg: dict[str, Any], architecture: str) -> dict[str, Any]:
    if architecture == "temporal":
        return temporal_saes.attention_facts(place, weights, cfg)["options"]
    return _pursuit(cfg) if architecture == "matching_pursuit" else {}


def _k(place: Place, cfg: dict[str, Any], d_sae: int) -> int:
    key = "kval_topk" if cfg.get("architecture") == "temporal" else "k"
    k = _count(place, cfg if key in cfg else cfg.get("activation_fn_kwargs", {}), key)
    if k > d_sae:
        raise damaged(place.folder / CONFIG, f"k is {k} with {d_sae} features")
    return k


def _pursuit(cfg: dict[str, Any]) -> dict[str, Any]:
    """Return matching pursuit's rules for stopping, with SAELens' defaults."""
    return {
        "residual_threshold": cfg.get("residual_threshold", 1e-2),
        "max_iterations": cfg.get("max_iterations"),
        "stop_on_duplicate_support": cfg.get("stop_on_duplicate_support", True),
    }


def _group_sizes(metadata: dict[str, Any]) -> tuple[int, ...]:
    """Return the sizes of nested groups from the widths at which they end."""
    widths = [0, *(metadata.get("matryoshka_widths") or ())]
    return tuple(stop - start for start, stop in pairwise(widths))
