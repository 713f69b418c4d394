"""circuit-tracer's cross-layer transcoders: W_enc_N.safetensors and W_dec_N.safetensors for each layer.

    a_s = activation(x_s W_enc_s.T + b_enc_s);  y_t = sum over s <= t of a_s W_dec_s[:, t - s] + b_dec_t

A layer is a dictionary of its own that reads at one hook point and writes at its own and all later ones; the layers'
outputs add up to the reconstruction. W_dec_s holds the decoders from s on. With thresholds it is JumpReLU,
h [h > threshold]. https://github.com/decoderesearch/circuit-tracer
"""

from __future__ import annotations

import re

from inference.dictionaries.config import DamagedDictionary, DictionaryConfig
from inference.dictionaries.formats.circuit_tracer import CONFIG, config_of_set
from inference.dictionaries.formats.place import Place, Verdict, no, yes
from inference.dictionaries.formats.tensors import present

LAYOUT = "W_enc_N.safetensors and W_dec_N.safetensors for each layer"
ARCHITECTURES = {"relu": "relu", "jump_relu": "jumprelu"}
ENCODER, DECODER = "W_enc_{}.safetensors", "W_dec_{}.safetensors"
# Where its loader reads and writes unless a config says otherwise.
SITES = {"feature_input_hook": "hook_resid_mid", "feature_output_hook": "hook_mlp_out"}


def detect(place: Place) -> Verdict:
    if not place.path.is_dir():
        return no("it is one file")
    missing = [name for name in (ENCODER, DECODER) if not _layers(place, name)]
    return no(f"no {missing[0].format('N')}") if missing else yes(f"{ENCODER.format('N')} and {DECODER.format('N')}")


def parts(place: Place) -> list[str]:
    """Return the layers; raise DamagedDictionary where one of them is missing."""
    encoders, decoders = _layers(place, ENCODER), _layers(place, DECODER)
    expected = range(max(encoders + decoders) + 1)
    for name, layers in ((ENCODER, encoders), (DECODER, decoders)):
        if missing := sorted(set(expected) - set(layers)):
            raise DamagedDictionary(
                f"{place.folder} has {len(layers)} of {len(expected)} layers: {name.format(missing[0])} is missing.",
                "Fetch all files of the set: each layer writes a term of what the whole reconstructs.",
                file=str(place.folder / name.format(missing[0])),
            )
    return [str(layer) for layer in expected]


def read_config(place: Place) -> DictionaryConfig:
    layer, n_layers = int(place.part), len(parts(place))
    weights = place.weights(ENCODER.format(layer))
    tensors = present(
        weights,
        {
            "w_enc_fd": f"W_enc_{layer}",
            "b_enc_f": f"b_enc_{layer}",
            "threshold_f": f"threshold_{layer}",
            "w_dec_fo": f"{DECODER.format(layer)}:W_dec_{layer}[:,0:{n_layers - layer}]",
            "b_out_o": f"b_dec_{layer}",
        },
        optional=("threshold_f",),
    )
    name = "jump_relu" if "threshold_f" in tensors else "relu"
    lowest = min(weights.numbers(tensors["threshold_f"])) if "threshold_f" in tensors else 0
    cfg = config_of_set(place)
    site_in, site_out = (str(cfg.get(key) or site) for key, site in SITES.items())
    told = (
        f"{CONFIG} says where it reads and writes." if cfg else "It reads and writes where circuit-tracer assumes it."
    )
    return place.describe(
        weights,
        format="circuit_tracer_clt",
        architecture=ARCHITECTURES[name],
        tensors=tensors,
        hook_in=f"blocks.{layer}.{site_in}",
        hook_out="+".join(f"blocks.{target}.{site_out}" for target in range(layer, n_layers)),
        is_summand=True,
        options={"relu": False} if lowest < 0 else {},
        model_name=str(cfg.get("model_name") or ""),
        metadata=cfg,
        evidence=(f"It is layer {layer} of {n_layers} of a cross-layer transcoder as circuit-tracer saves it.", told),
    )


def _layers(place: Place, name: str) -> list[int]:
    pattern = re.compile(name.replace(".", r"\.").format(r"(\d+)"))
    return sorted(int(match[1]) for file in place.names if (match := pattern.fullmatch(file)))
