"""SNMF (https://arxiv.org/abs/2506.10920): snmf_factors.pt, factors of a layer's activations.

    a = argmin |x - a F.T|^2 over a >= 0;  y = a F.T

F is (D, factors), of either sign. What its authors save besides, the coefficients of their own texts among it, is not
read. The folder says the layer, `layer_5/snmf_factors.pt`, and config.json in it or above says `mode`, what was
factorized: what MLP neurons (`mlp_intermediate`), the MLP or the residual stream hold.
https://github.com/ordavid-s/snmf-mlp-decomposition
"""

from __future__ import annotations

from typing import Any

from inference.dictionaries.config import DictionaryConfig, UnsupportedDictionary
from inference.dictionaries.formats.place import Place, Verdict, no, yes

LAYOUT = "snmf_factors.pt with F"
CONFIG, WEIGHTS = "config.json", "snmf_factors.pt"
ARCHITECTURES = {"snmf": "nonnegative"}
TENSORS = {"w_enc_fd": "F.T", "w_dec_fo": "F.T"}
SITES = {"mlp_intermediate": "mlp.hook_post", "mlp": "hook_mlp_out", "residual": "hook_resid_post"}


def detect(place: Place) -> Verdict:
    if not place.has(WEIGHTS):
        return no(f"no {WEIGHTS}")
    return yes(f"{WEIGHTS} has F") if "F" in place.weights(WEIGHTS) else no(f"{WEIGHTS} has no F")


def read_config(place: Place) -> DictionaryConfig:
    weights = place.weights(WEIGHTS)
    cfg = _config(place)
    layer = weights.facts.get("layer")
    if layer is None and (named := place.search(r"layer_(\d+)(?=/|\\|$)")):
        layer = int(named[1])
    mode = cfg.get("mode")
    if cfg.get("normalize"):
        raise UnsupportedDictionary(
            f"{place.folder} was factorized with normalize: its activations had been brought to length one.",
            "Facet runs factors of activations as they are.",
        )
    return place.describe(
        weights,
        format="snmf",
        architecture="nonnegative",
        tensors=TENSORS,
        hook_in=f"blocks.{layer}.{SITES[mode]}" if mode in SITES and layer is not None else None,
        model_name=str(cfg.get("model_path") or ""),
        metadata={"mode": mode, "layer": layer},
        evidence=(
            f"{WEIGHTS} has the factors of a semi-nonnegative factorization; coefficients are solved for.",
            f"{CONFIG} says that it is of {mode}." if mode else f"There is no {CONFIG} that says what was factorized.",
        ),
    )


def _config(place: Place) -> dict[str, Any]:
    for folder in (place.folder, place.folder.parent):
        if (folder / CONFIG).is_file():
            return Place(folder).json(CONFIG)
    return {}
