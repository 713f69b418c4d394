"""circuit-tracer's per-layer transcoders: one layer_<i>.safetensors for each layer, and config.yaml for all.

    h = x W_enc.T + b_enc;  y = a W_dec + b_dec (+ x W_skip.T)

Without `activation` in the config a file with thresholds is JumpReLU, h [h > threshold] without a ReLU, and others are
ReLU; its TopK has no ReLU either. https://github.com/decoderesearch/circuit-tracer
"""

from __future__ import annotations

import re
from typing import Any

from inference.dictionaries.config import DictionaryConfig, UnsupportedDictionary
from inference.dictionaries.formats.place import Place, Verdict, no, yes
from inference.dictionaries.formats.tensors import present
from inference.dictionaries.storage import damaged

LAYOUT = "layer_N.safetensors with W_enc, W_dec, b_enc, b_dec, and config.yaml in a folder above"
CONFIG = "config.yaml"
ARCHITECTURES = {"relu": "relu", "jumprelu": "jumprelu", "topk": "signed_topk"}
NEEDED = ("W_enc", "W_dec", "b_enc", "b_dec")
TENSORS = {
    "w_enc_fd": "W_enc",
    "b_enc_f": "b_enc",
    "w_dec_fo": "W_dec",
    "b_out_o": "b_dec",
    "threshold_f": "activation_function.threshold",
    "w_skip_do": "W_skip.T",
}


def detect(place: Place) -> Verdict:
    name = place.only(".safetensors")
    if name is None:
        return no("no single .safetensors file")
    if not re.fullmatch(r"layer_\d+\.safetensors", name):
        return no(f"{name} is not called layer_N")
    missing = [tensor for tensor in NEEDED if tensor not in place.weights(name)]
    return no(f"{name} has no {missing[0]}") if missing else yes(f"{name} has {', '.join(NEEDED)}")


def read_config(place: Place) -> DictionaryConfig:
    weights = place.weights(place.only(".safetensors"))
    layer = int(weights.path.stem.removeprefix("layer_"))
    cfg = config_of_set(place)
    has_threshold = TENSORS["threshold_f"] in weights
    activation = cfg.get("activation") or ("jumprelu" if has_threshold else "relu")
    if activation not in ARCHITECTURES:
        raise UnsupportedDictionary(
            f"{place.folder / CONFIG} has activation {activation!r}, which Facet does not compute.",
            f"Supported are: {', '.join(ARCHITECTURES)}.",
            activation=activation,
        )
    tensors = present(weights, TENSORS, optional=("w_skip_do",))
    if activation != "jumprelu":
        del tensors["threshold_f"]
    lowest = min(weights.numbers(TENSORS["threshold_f"])) if activation == "jumprelu" else 0
    sites = [cfg.get(key) for key in ("feature_input_hook", "feature_output_hook")]
    hook_in, hook_out = (f"blocks.{layer}.{site}" if site else None for site in sites)
    return place.describe(
        weights,
        format="circuit_tracer",
        by_file=True,
        architecture=ARCHITECTURES[activation],
        tensors=tensors,
        hook_in=hook_in,
        hook_out=hook_out,
        k=_k(cfg, weights) if activation == "topk" else None,
        # A pre-activation above a negative threshold counts though it is negative.
        options={"relu": False} if lowest < 0 else {},
        model_name=str(cfg.get("model_name") or ""),
        metadata=cfg,
        evidence=(
            f"{weights.path.name} has the tensors of circuit-tracer's transcoders, of layer {layer} by its name.",
            f"{CONFIG} says where it reads and writes." if cfg else f"There is no {CONFIG} in its folder or above.",
        ),
    )


def config_of_set(place: Place) -> dict[str, Any]:
    """Return the config of the set: in the file's folder, or one or two above."""
    import yaml

    for folder in (place.folder, *place.folder.parents[:2]):
        if (folder / CONFIG).is_file():
            path = Place(folder).inside(CONFIG)
            try:
                content = yaml.safe_load(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, yaml.YAMLError) as error:
                raise damaged(path, "it is not YAML") from error
            return content if isinstance(content, dict) else {}
    return {}


def _k(cfg: dict[str, Any], weights: Any) -> int | None:
    return cfg.get("k") or (int(weights.numbers("k")[0]) if "k" in weights else None)
