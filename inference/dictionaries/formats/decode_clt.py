"""crosslayer-coding's cross-layer transcoders (`decode-clt`): model.safetensors and cfg.json.

    a_s = activation(x_s E_s.T + b_s);  y_t = sum over s <= t of a_s D_st.T + c_st (+ x_s S_st.T)

A layer is a dictionary of its own, and the layers' outputs add up. Decoders are untied, or tied by their source, or by
their target: then a target's bias and skip connection are counted once. https://github.com/curt-tigges/crosslayer-coding
"""

from __future__ import annotations

from typing import Any

from inference.dictionaries.config import DictionaryConfig, UnsupportedDictionary
from inference.dictionaries.formats.names import hook_point
from inference.dictionaries.formats.place import Place, Verdict, no, yes
from inference.dictionaries.storage import damaged

LAYOUT = "model.safetensors with encoder_module + cfg.json, there or in the folder above"
CONFIG, WEIGHTS = "cfg.json", "model.safetensors"
ARCHITECTURES = {"relu": "relu", "jumprelu": "jumprelu"}
ENCODER, DECODERS = "encoder_module.encoders.{}", "decoder_module.decoders.{}"
SKIPS, THRESHOLD = "decoder_module.skip_weights.{}", "theta_manager.log_threshold"


def detect(place: Place) -> Verdict:
    if not place.has(WEIGHTS) or _config_place(place) is None:
        return no(f"no {CONFIG if place.has(WEIGHTS) else WEIGHTS}")
    tensor = f"{ENCODER.format(0)}.weight"
    return yes(f"{WEIGHTS} has {tensor}") if tensor in place.weights(WEIGHTS) else no(f"{WEIGHTS} has no {tensor}")


def parts(place: Place) -> list[str]:
    return [str(layer) for layer in range(_count(place, _config(place)))]


def read_config(place: Place) -> DictionaryConfig:
    cfg, weights = _config(place), place.weights(WEIGHTS)
    layer, n_layers = int(place.part), _count(place, cfg)
    activation, tying = cfg.get("activation_fn", "jumprelu"), cfg.get("decoder_tying", "none")
    _check(place, cfg, activation, tying)
    targets = range(layer, n_layers)
    names = {"none": "{0}->{1}", "per_source": "{0}", "per_target": "{1}"}
    decoders = [DECODERS.format(names[tying].format(layer, target)) for target in targets]
    tensors = {
        "w_enc_fd": f"{ENCODER.format(layer)}.weight",
        "b_enc_f": f"{ENCODER.format(layer)}.bias_param",
        "w_dec_fo": " | ".join(f"{name}.weight.T" for name in decoders),
        # Tied by target, a target's bias is added once: by the layer itself, whose first target it is.
        "b_out_o": " | ".join(f"{name}.bias_param" for name in decoders[: 1 if tying == "per_target" else None]),
    }
    if activation == "jumprelu":
        tensors["log_threshold_f"] = f"{THRESHOLD}[{layer}]"
    if cfg.get("skip_connection"):
        untied = [f"{layer}->{target}" for target in targets]
        tensors["w_skip_do"] = " | ".join(f"{SKIPS.format(n)}.T" for n in (untied if tying == "none" else [layer]))
    ends = _ends(place, cfg)
    return place.describe(
        weights,
        format="decode_clt",
        architecture=ARCHITECTURES[activation],
        tensors=tensors,
        hook_in=ends[0][layer],
        hook_out="+".join(ends[1][layer:]),
        is_summand=True,
        model_name=str(cfg.get("model_name") or ""),
        metadata=cfg,
        evidence=(
            f"It is layer {layer} of {n_layers} of a cross-layer transcoder as crosslayer-coding saves it.",
            f"Decoders are tied {tying}." if tying != "none" else "Every pair of layers has a decoder of its own.",
        ),
    )


def _config_place(place: Place) -> Place | None:
    """Return the folder of the config: its trainer saves that of a run above the checkpoints."""
    return next((Place(folder) for folder in (place.folder, place.folder.parent) if Place(folder).has(CONFIG)), None)


def _config(place: Place) -> dict[str, Any]:
    return (_config_place(place) or place).json(CONFIG)


def _count(place: Place, cfg: dict[str, Any]) -> int:
    n_layers, weights = cfg.get("num_layers"), place.weights(WEIGHTS)
    if not isinstance(n_layers, int) or n_layers < 1 or f"{ENCODER.format(n_layers - 1)}.weight" not in weights:
        raise damaged(place.folder / CONFIG, f"num_layers is {n_layers!r}, and {WEIGHTS} has others")
    return n_layers


def _check(place: Place, cfg: dict[str, Any], activation: str, tying: str) -> None:
    problem = None
    if activation not in ARCHITECTURES:
        problem = f"activation_fn {activation!r}: features compete across layers or tokens"
    elif tying not in ("none", "per_source", "per_target"):
        problem = f"decoder_tying {tying!r}"
    elif cfg.get("normalization_method", "none") not in ("none", None):
        problem = f"normalization_method {cfg['normalization_method']!r}, whose statistics are not in the files"
    elif cfg.get("enable_feature_offset") or cfg.get("enable_feature_scale"):
        problem = "feature offsets or scales of each target"
    if problem:
        raise UnsupportedDictionary(
            f"{place.folder / CONFIG} has {problem}, which Facet does not compute.",
            "Convert it to jumprelu with the package's own script, and fold its normalization.",
        )


def _ends(place: Place, cfg: dict[str, Any]) -> list[list[str]]:
    """Return the hook points that the layers read, and those that they write."""
    n_layers, found = _count(place, cfg), []
    for lens, path in (("tl_input_template", "mlp_input_template"), ("tl_output_template", "mlp_output_template")):
        if cfg.get(lens):
            points = [str(cfg[lens]).format(layer) for layer in range(n_layers)]
        else:
            module, _, end = str(cfg.get(path) or "").rpartition(".")
            points = [_hook(module, end, layer, str(cfg.get("model_name") or "")) for layer in range(n_layers)]
        if not all(points):
            raise UnsupportedDictionary(
                f"{place.folder / CONFIG} has no {lens}, and Facet does not know the {path} {cfg.get(path)!r}.",
                f"Add {lens} to {CONFIG}, such as blocks.{{}}.hook_mlp_out.",
            )
        found.append(points)
    return found


def _hook(module: str, end: str, layer: int, model_name: str) -> str:
    path = module.replace("{}", str(layer))
    return hook_point(path, end="input" if end == "input" else "output", model_name=model_name) or ""
