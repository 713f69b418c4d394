"""SAELens' layout, version 6: a folder with cfg.json and sae_weights.safetensors.

Semantics follow SAELens 6.54 (https://github.com/decoderesearch/SAELens): the decoder's bias is subtracted from the
input of SAEs and not of transcoders; TopK keeps k pre-activations and then drops those below zero; attention outputs
(`hook_z`) are flat. Configs that keep everything at the top level (versions 3 to 5) are read too.

Shape suffixes: D input width, O output width, F features.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.dictionaries.config import DamagedDictionary, DictionaryConfig, UnsupportedDictionary
from inference.dictionaries.formats.header import damaged, read_shapes
from inference.digests import file_sha256

if TYPE_CHECKING:
    from torch import Tensor

LAYOUT = "cfg.json + sae_weights.safetensors"
CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"

ARCHITECTURES = {
    "standard": "relu",
    "topk": "topk",
    "jumprelu": "jumprelu",
    "transcoder": "relu",
    "skip_transcoder": "relu",
    "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
}
NORMALIZATIONS = {
    None: "none",
    False: "none",
    "none": "none",
    "layer_norm": "layer_norm",
    "constant_norm_rescale": "constant_norm_rescale",
    # Without effect at run time in SAELens: its factor is folded into published weights, or lost.
    "expected_average_only_in": "none",
    True: "none",
}

# The stored name behind each canonical one, for messages.
STORED_NAMES = {
    "w_enc_df": "W_enc",
    "b_enc_f": "b_enc",
    "w_dec_fo": "W_dec",
    "b_out_o": "b_dec",
    "b_in_d": "b_dec",
    "threshold_f": "threshold",
    "w_skip_do": "W_skip",
}


def matches(folder: Path) -> bool:
    """Return whether a folder is in this layout."""
    return (folder / CONFIG).is_file()


def read_config(folder: Path) -> DictionaryConfig:
    """Return the facts in cfg.json after checking them against the shapes in the weights' header."""
    cfg = _read_json(folder / CONFIG)
    # Before version 6 there was no metadata: everything was at the top level.
    metadata = {**cfg, **(cfg.get("metadata") or {})}
    name = _legacy_architecture(cfg) if "metadata" not in cfg else cfg.get("architecture", "standard")
    architecture = _supported(folder, "architecture", name, ARCHITECTURES)
    normalize = _supported(folder, "normalize_activations", cfg.get("normalize_activations"), NORMALIZATIONS)
    hook_in = _hook(folder, metadata, "hook_name", "hook_head_index")
    hook_out = hook_in
    if metadata.get("hook_name_out"):
        hook_out = _hook(folder, metadata, "hook_name_out", "hook_head_index_out")
    elif "transcoder" in name:
        raise damaged(folder / CONFIG, "hook_name_out is missing, so nothing says where the transcoder writes")
    config = DictionaryConfig(
        path=str(folder),
        weights=str(folder / WEIGHTS),
        format="saelens",
        architecture=architecture,
        hook_in=hook_in,
        hook_out=hook_out,
        d_in=_count(folder, cfg, "d_in"),
        d_out=_count(folder, cfg, "d_out") if cfg.get("d_out") else _count(folder, cfg, "d_in"),
        n_features=_count(folder, cfg, "d_sae"),
        k=_k(folder, cfg) if architecture == "topk" else None,
        normalize=normalize,
        subtract_output_bias=bool(cfg.get("apply_b_dec_to_input", True)) and hook_out == hook_in,
        scale_by_decoder_norm=architecture == "topk" and bool(cfg.get("rescale_acts_by_decoder_norm", False)),
        model_name=str(metadata.get("model_name") or ""),
        prepend_bos=bool(metadata.get("prepend_bos", True)),
        context_size=metadata.get("context_size"),
        dtype=str(cfg.get("dtype", "float32")).removeprefix("torch."),
        sha256="",
        metadata={"architecture": name, **(cfg.get("metadata") or {})},
    )
    _check_shapes(config, read_shapes(folder / WEIGHTS))
    return replace(config, sha256=file_sha256(folder / WEIGHTS))


def read_tensors(config: DictionaryConfig) -> dict[str, Tensor]:
    """Return the canonical tensors of a dictionary, as stored; TopK's scaling by decoder norms is folded in."""
    from safetensors.torch import load_file

    stored = load_file(config.weights)
    tensors = {
        "w_enc_df": stored["W_enc"].float(),
        "b_enc_f": stored["b_enc"].float(),
        "w_dec_fo": stored["W_dec"].float(),
        "b_out_o": stored["b_dec"].float(),
    }
    if config.subtract_output_bias:
        tensors["b_in_d"] = tensors["b_out_o"]
    if "threshold" in stored:
        tensors["threshold_f"] = stored["threshold"].float()
    elif "log_threshold" in stored:
        tensors["threshold_f"] = stored["log_threshold"].float().exp()
    if "W_skip" in stored:
        tensors["w_skip_do"] = stored["W_skip"].float().T
    if config.scale_by_decoder_norm:
        norm_f = tensors["w_dec_fo"].norm(dim=1)
        tensors["w_enc_df"] = tensors["w_enc_df"] * norm_f
        tensors["b_enc_f"] = tensors["b_enc_f"] * norm_f
        tensors["w_dec_fo"] = tensors["w_dec_fo"] / norm_f[:, None]
    return tensors


def _read_json(path: Path) -> dict[str, Any]:
    try:
        cfg = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(path, "it is not JSON") from error
    if not isinstance(cfg, dict):
        raise damaged(path, "it is not a JSON object")
    return cfg


def _legacy_architecture(cfg: dict[str, Any]) -> str:
    return "topk" if cfg.get("activation_fn_str") == "topk" else cfg.get("architecture", "standard")


def _supported(folder: Path, key: str, value: Any, table: dict[Any, str]) -> str:
    if isinstance(value, str | bool | None) and value in table:
        return table[value]
    known = ", ".join(name for name in table if isinstance(name, str))
    raise UnsupportedDictionary(
        f"{folder / CONFIG} has {key} {value!r}, which Facet does not compute.",
        f"Supported are: {known}.",
        **{key: value},
    )


def _hook(folder: Path, metadata: dict[str, Any], key: str, head_key: str) -> str:
    name = metadata.get(key)
    if not isinstance(name, str) or not name:
        raise damaged(folder / CONFIG, f"{key} is missing, so nothing says where the dictionary reads")
    head = metadata.get(head_key)
    return name if head is None else f"{name}.{head}"


def _count(folder: Path, cfg: dict[str, Any], key: str) -> int:
    value = cfg.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise damaged(folder / CONFIG, f"{key} is {value!r} instead of a positive number")
    return value


def _k(folder: Path, cfg: dict[str, Any]) -> int:
    k = _count(folder, cfg if "k" in cfg else cfg.get("activation_fn_kwargs", {}), "k")
    if k > cfg["d_sae"]:
        raise damaged(folder / CONFIG, f"k is {k} with {cfg['d_sae']} features")
    return k


def _check_shapes(config: DictionaryConfig, shapes: dict[str, tuple[int, ...]]) -> None:
    d, f, o = config.d_in, config.n_features, config.d_out
    expected = {"W_enc": (d, f), "b_enc": (f,), "W_dec": (f, o), "b_dec": (o,)}
    if config.architecture == "jumprelu":
        expected["log_threshold" if "log_threshold" in shapes else "threshold"] = (f,)
    if "skip" in config.metadata["architecture"]:
        expected["W_skip"] = (o, d)
    for name, shape in expected.items():
        if name not in shapes:
            raise _misshapen(config, name, f"has no tensor {name}")
        if shapes[name] != shape:
            raise _misshapen(config, name, f"has {name} of shape {shapes[name]} where {CONFIG} says {shape}")


def _misshapen(config: DictionaryConfig, tensor: str, why: str) -> DamagedDictionary:
    return DamagedDictionary(
        f"{config.weights} {why}.", f"Check that {CONFIG} belongs to these weights.", file=config.weights, tensor=tensor
    )
