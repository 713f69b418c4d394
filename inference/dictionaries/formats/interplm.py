"""InterPLM (SAEs of ESM-2, https://arxiv.org/abs/2412.12101): .pt files with activation_rescale_factor.

    ReLUSAE        a = relu((x' - bias) E + b), y = a D + bias
    ReLUSAE_Tied   a = relu(x' E + b), y = a D + decoder.bias
    TopKSAE        the k largest of relu((x' - b_dec) E + b)
    BatchTopKSAE   a = relu(h) [relu(h) > threshold], with the threshold that training saved
    JumpReLUSAE    a = relu(h) [h > threshold], nothing subtracted

`normalize_to_sqrt_d` brings inputs to the length sqrt(D), which is undone at the output. `activation_rescale_factor`,
the largest activations seen, is for display only; `ae_normalized.pt` has it folded in. The folder says the layer, as in
`layer_3/ae_normalized.pt`, counted from one. https://github.com/ElanaPearl/InterPLM
"""

from __future__ import annotations

from inference.dictionaries.config import DictionaryConfig, UnsupportedDictionary
from inference.dictionaries.formats.place import OVERRIDES, Place, Verdict, no, yes
from inference.dictionaries.storage import Weights

LAYOUT = "one .pt file with encoder.weight and activation_rescale_factor"
ARCHITECTURES = {
    "ReLUSAE": "relu",
    "ReLUSAE_Tied": "relu",
    "TopKSAE": "topk",
    "BatchTopKSAE": "batchtopk",
    "JumpReLUSAE": "jumprelu",
}
_LINEAR = {"w_enc_fd": "encoder.weight", "b_enc_f": "encoder.bias", "w_dec_fo": "decoder.weight.T"}
TENSORS = {
    "ReLUSAE": {**_LINEAR, "b_out_o": "bias"},
    "ReLUSAE_Tied": {**_LINEAR, "b_out_o": "decoder.bias"},
    "TopKSAE": {**_LINEAR, "b_out_o": "b_dec"},
    "BatchTopKSAE": {**_LINEAR, "b_out_o": "b_dec", "threshold_f": "threshold"},
    "JumpReLUSAE": {**_LINEAR, "b_out_o": "decoder.bias", "threshold_f": "threshold"},
}
SUBTRACTING = ("ReLUSAE", "TopKSAE", "BatchTopKSAE")


def detect(place: Place) -> Verdict:
    name = place.only(".pt")
    if name is None:
        return no("no single .pt file")
    weights = place.weights(name)
    missing = [tensor for tensor in ("activation_rescale_factor", "encoder.weight") if tensor not in weights]
    return no(f"{name} has no {missing[0]}") if missing else yes(f"{name} has activation_rescale_factor")


def read_config(place: Place) -> DictionaryConfig:
    weights = place.weights(place.only(".pt"))
    name = _class(place, weights)
    scaled = "normalize_to_sqrt_d" in weights and bool(weights.numbers("normalize_to_sqrt_d")[0])
    release = place.search(r"esm2-(8m|650m)")
    layer = place.search(r"layer_(\d+)(?=/|\\)")
    models = {"8m": "facebook/esm2_t6_8M_UR50D", "650m": "facebook/esm2_t33_650M_UR50D"}
    return place.describe(
        weights,
        format="interplm",
        by_file=True,
        architecture=ARCHITECTURES[name],
        tensors=TENSORS[name],
        hook_in=f"blocks.{int(layer[1]) - 1}.hook_resid_post" if layer and int(layer[1]) > 0 else None,
        k=int(weights.numbers("k")[0]) if "k" in weights else None,
        normalize="constant_norm_rescale" if scaled else "none",
        subtract_output_bias=name in SUBTRACTING,
        model_name=models[release[1]] if release else "",
        metadata={"class": name},
        evidence=(
            f"{weights.path.name} has activation_rescale_factor, as InterPLM writes it, and the tensors of its {name}.",
            *([f"The folder says layer {layer[1]}, counted from one."] if layer else []),
        ),
    )


def _class(place: Place, weights: Weights) -> str:
    """Return the class whose tensors these are; raise UnsupportedDictionary where two save the same."""
    if "k" in weights:
        named = place.overrides.get("dict_class")
        if named not in ("TopKSAE", "BatchTopKSAE"):
            raise UnsupportedDictionary(
                f"{weights.path} may be TopKSAE or BatchTopKSAE: these save the same tensors.",
                f'Say which: write {{"dict_class": "BatchTopKSAE"}} to {OVERRIDES} beside it.',
            )
        return str(named)
    if "bias" in weights:
        return "ReLUSAE"
    return "JumpReLUSAE" if "threshold" in weights else "ReLUSAE_Tied"
