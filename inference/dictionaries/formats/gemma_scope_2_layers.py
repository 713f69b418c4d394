"""Gemma Scope 2's cross-layer transcoders and crosscoders: params_layer_N.safetensors for each layer.

    a_s = relu(h) [h > threshold] with h = x_s w_enc + b_enc
    y_t = sum over s <= t of a_s w_dec_s[:, t] + b_dec_t (+ x_t affine_skip_connection_t)

Its crosscoders are weakly causal: every layer has an encoder of its own, and what it finds is written there and at
later layers. So a layer is a dictionary of its own, and the layers' outputs add up to the reconstruction. The second
axis of w_dec counts layers, of which those before s hold zeros; a file in which it counts from s on has its zeros at
the end, and is read so.
"""

from __future__ import annotations

import re
from typing import Any

from inference.dictionaries.config import DamagedDictionary, DictionaryConfig, UnsupportedDictionary
from inference.dictionaries.formats.names import hook_point
from inference.dictionaries.formats.place import Place, Verdict, no, yes
from inference.dictionaries.formats.tensors import present
from inference.dictionaries.storage import Weights, damaged

LAYOUT = "params_layer_N.safetensors for each layer, in a folder under clt/ or crosscoder/"
CONFIG, WEIGHTS = "config.json", "params_layer_{}.safetensors"
ARCHITECTURES = {"clt": "jumprelu", "crosscoder": "jumprelu"}
# The ends of a layer where no config names them.
MODULES = {
    "clt": ("model.layers.{}.pre_feedforward_layernorm.output", "model.layers.{}.post_feedforward_layernorm.output"),
    "crosscoder": ("model.layers.{}.output", "model.layers.{}.output"),
}
# So many features show which layers a source writes at.
LOOKED_AT = 32


def detect(place: Place) -> Verdict:
    if not place.path.is_dir():
        return no("it is one file")
    return yes(WEIGHTS.format("N")) if _numbers(place) else no(f"no {WEIGHTS.format('N')}")


def parts(place: Place) -> list[str]:
    """Return the numbers of the layers' files; raise DamagedDictionary where one of them is missing."""
    numbers = _numbers(place)
    n_layers = place.weights(WEIGHTS.format(numbers[0])).shape("w_dec")[1:2]
    if not n_layers:
        raise damaged(place.folder / WEIGHTS.format(numbers[0]), "its w_dec has no axis of layers", tensor="w_dec")
    expected = range(max(n_layers[0], numbers[-1] + 1))
    if missing := sorted(set(expected) - set(numbers)):
        raise DamagedDictionary(
            f"{place.folder} has {len(numbers)} of {len(expected)} layers: {WEIGHTS.format(missing[0])} is missing.",
            "Fetch all files of the set: each layer writes a term of what the whole reconstructs.",
            file=str(place.folder / WEIGHTS.format(missing[0])),
        )
    return [str(number) for number in expected]


def read_config(place: Place) -> DictionaryConfig:
    number, n_layers = int(place.part), len(parts(place))
    weights = place.weights(WEIGHTS.format(number))
    cfg = place.json(CONFIG) if place.has(CONFIG) else {}
    kind = _kind(place, cfg)
    layers = _layers(place, cfg, kind, n_layers)
    first, last, counted = _written(weights, number, n_layers)
    model_name = str(cfg.get("model_name") or "")
    if not model_name and (named := place.search(r"gemma-scope-2-(\w+)-(pt|it)")):
        model_name = f"google/gemma-3-{named[1]}-{named[2]}"
    ends = [
        [_hook(cfg, key, default, layer, at, model_name) for at, layer in enumerate(layers)]
        for key, default in zip(("hf_hook_point_in", "hf_hook_point_out"), MODULES[kind], strict=True)
    ]
    return place.describe(
        weights,
        format="gemma_scope_2_layers",
        architecture=ARCHITECTURES[kind],
        tensors=present(
            weights,
            {
                "w_enc_fd": "w_enc.T",
                "b_enc_f": "b_enc",
                "threshold_f": "threshold",
                "w_dec_fo": f"w_dec[:,{first}:{last}]",
                "b_out_o": "b_dec",
                "w_skip_do": "affine_skip_connection",
            },
            optional=("w_skip_do",),
        ),
        hook_in=ends[0][number],
        hook_out="+".join(ends[1][number:]),
        is_summand=True,
        model_name=model_name,
        metadata=cfg,
        evidence=(
            f"It is layer {layers[number]}, of {n_layers} layers, of a {kind} as Gemma Scope 2 has them.",
            f"The second axis of w_dec counts {counted}: its other slices are zero.",
        ),
    )


def _numbers(place: Place) -> list[int]:
    pattern = re.compile(WEIGHTS.replace(".", r"\.").format(r"(\d+)"))
    return sorted(int(match[1]) for name in place.names if (match := pattern.fullmatch(name)))


def _kind(place: Place, cfg: dict[str, Any]) -> str:
    told = str(cfg.get("type") or "").lower().replace("_", "")
    found = place.search(r"(?<![a-z])(clt|crosscoder)(?![a-z])")
    for kind, names in (("clt", ("clt", "crosslayer")), ("crosscoder", ("crosscoder",))):
        if any(name in told for name in names) or (found and found[1] == kind):
            return kind
    raise UnsupportedDictionary(
        f"Nothing says whether {place.folder} is a cross-layer transcoder or a crosscoder.",
        f"Keep its path as published, with clt/ or crosscoder/ in it, or {CONFIG} with its type.",
    )


def _layers(place: Place, cfg: dict[str, Any], kind: str, n_layers: int) -> list[int]:
    """Return the model's layers: all from 0 on, or for a crosscoder those that its folder or its config names."""
    if kind == "clt":
        return list(range(n_layers))
    found = place.search(r"layer((?:_\d+)+)_width")
    layers = cfg.get("layers") or ([int(layer) for layer in found[1].split("_")[1:]] if found else [])
    if len(layers) != n_layers:
        raise UnsupportedDictionary(
            f"{place.folder} has {n_layers} layers, and nothing says which layers of the model they are.",
            "Keep the folder's name as published, such as layer_7_13_17_22_width_65k_l0_medium.",
        )
    return list(layers)


def _hook(cfg: dict[str, Any], key: str, default: str, layer: int, at: int, model_name: str) -> str | None:
    told = cfg.get(key)
    told = told[at] if isinstance(told, list) and at < len(told) else told
    path = re.sub(r"layers\.\d+", f"layers.{layer}", told) if isinstance(told, str) and told else default.format(layer)
    module, _, end = path.rpartition(".")
    return hook_point(module, end="input" if end == "input" else "output", model_name=model_name)


def _written(weights: Weights, number: int, n_layers: int) -> tuple[int, int, str]:
    """Return which slices of w_dec hold the decoders to layer `number` and later ones, and what the axis counts."""
    n_features, n_slices, d_out = weights.shape("w_dec")
    if n_slices != n_layers:
        raise damaged(weights.path, f"its w_dec writes at {n_slices} of {n_layers} layers", tensor="w_dec")
    written = set()
    for feature in range(min(LOOKED_AT, n_features)):
        row = weights.numbers("w_dec", (feature,))
        written |= {at for at in range(n_slices) if any(row[at * d_out : (at + 1) * d_out])}
    if not any(at < number for at in written):
        return number, n_layers, "the model's layers"
    if not any(at >= n_layers - number for at in written):
        return 0, n_layers - number, "layers from its own on"
    raise damaged(weights.path, f"its w_dec writes at {len(written)} layers from layer {number} on", tensor="w_dec")
