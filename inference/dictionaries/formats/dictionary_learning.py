"""dictionary_learning (https://github.com/saprmarks/dictionary_learning): ae.pt, in its newer runs beside config.json.

    AutoEncoder             a = relu((x - bias) E + b), y = a D + bias
    AutoEncoderNew          a = relu(x E + b), y = a D + decoder.bias
    GatedAutoEncoder        e = (x - decoder_bias) E, a = [e + gate_bias > 0] relu(exp(r_mag) e + mag_bias)
    AutoEncoderTopK         the k largest of relu((x - b_dec) E + b)
    BatchTopKSAE            a = relu(h) [relu(h) > threshold], with the threshold that training saved
    MatryoshkaBatchTopKSAE  the same, with nested groups of features
    JumpReluAutoEncoder     a = relu(h) [h > threshold], nothing subtracted

The class is in the config; without one the tensors tell, but for TopK and BatchTopK, which save the same. The package
may rescale activations when it loads an AutoEncoder (normalize_decoder); here they are as saved.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inference.dictionaries.config import DictionaryConfig, UnsupportedDictionary
from inference.dictionaries.formats.names import hook_point
from inference.dictionaries.formats.place import OVERRIDES, Place, Verdict, no, yes
from inference.dictionaries.storage import Weights, damaged

LAYOUT = "ae.pt, a state dict, and config.json"
CONFIG = "config.json"
ARCHITECTURES = {
    "AutoEncoder": "relu",
    "AutoEncoderNew": "relu",
    "GatedAutoEncoder": "gated",
    "AutoEncoderTopK": "topk",
    "BatchTopKSAE": "batchtopk",
    "MatryoshkaBatchTopKSAE": "matryoshka",
    "JumpReluAutoEncoder": "jumprelu",
}
_LINEAR = {"w_enc_fd": "encoder.weight", "b_enc_f": "encoder.bias", "w_dec_fo": "decoder.weight.T"}
_MATRICES = {"w_enc_fd": "W_enc.T", "b_enc_f": "b_enc", "w_dec_fo": "W_dec", "b_out_o": "b_dec"}
_COMPETING = {**_LINEAR, "b_out_o": "b_dec"}
TENSORS: dict[str, dict[str, str]] = {
    "AutoEncoder": {**_LINEAR, "b_out_o": "bias"},
    "AutoEncoderNew": {**_LINEAR, "b_out_o": "decoder.bias"},
    "GatedAutoEncoder": {
        "w_enc_fd": "encoder.weight",
        "w_dec_fo": "decoder.weight.T",
        "b_out_o": "decoder_bias",
        "log_gain_f": "r_mag",
        "b_gate_f": "gate_bias",
        "b_magnitude_f": "mag_bias",
    },
    "AutoEncoderTopK": _COMPETING,
    "BatchTopKSAE": {**_COMPETING, "threshold_f": "threshold"},
    "MatryoshkaBatchTopKSAE": {**_MATRICES, "threshold_f": "threshold"},
    "JumpReluAutoEncoder": {**_MATRICES, "threshold_f": "threshold"},
}
SUBTRACTING = set(ARCHITECTURES) - {"AutoEncoderNew", "JumpReluAutoEncoder"}


def detect(place: Place) -> Verdict:
    name = "ae.pt" if place.has("ae.pt") and place.path.is_dir() else place.only(".pt")
    if name is None:
        return no("no ae.pt, nor a single .pt file")
    classes = _classes(place.weights(name))
    return yes(f"{name} has the tensors of {' or '.join(classes)}") if classes else no(f"{name} has other tensors")


def read_config(place: Place) -> DictionaryConfig:
    weights = place.weights("ae.pt" if place.has("ae.pt") and place.path.is_dir() else place.only(".pt"))
    cfg = place.json(CONFIG) if place.has(CONFIG) else {}
    trainer = cfg.get("trainer") or {}
    name = _class(place, weights, trainer)
    model_name = str(trainer.get("lm_name") or "")
    evidence = [f"{weights.path.name} has the tensors of dictionary_learning's {name}."]
    if ARCHITECTURES[name] in ("batchtopk", "matryoshka") and weights.numbers("threshold")[0] < 0:
        evidence.append("Its threshold was never set: as in the package, every positive pre-activation counts.")
    if not trainer:
        evidence.append(f"There is no {CONFIG}: the path says where it reads, and nothing says of which model.")
    return place.describe(
        weights,
        format="dictionary_learning",
        by_file=weights.path.name != "ae.pt",
        architecture=ARCHITECTURES[name],
        tensors=TENSORS[name],
        hook_in=_hook_point(place.path, trainer, model_name),
        k=_k(weights, trainer),
        subtract_output_bias=name in SUBTRACTING,
        group_sizes=tuple(int(size) for size in weights.numbers("group_sizes")) if "group_sizes" in weights else (),
        model_name=model_name,
        context_size=(cfg.get("buffer") or {}).get("ctx_len"),
        metadata={"dict_class": name, **trainer},
        evidence=tuple(evidence),
    )


def _classes(weights: Weights) -> list[str]:
    """Return the classes whose tensors are these: those that use most of them."""
    stored = {name: {value.removesuffix(".T") for value in tensors.values()} for name, tensors in TENSORS.items()}
    fitting = [name for name, tensors in stored.items() if all(tensor in weights for tensor in tensors)]
    # `k` and `group_sizes` tell dictionaries apart that are otherwise alike.
    fitting = [name for name in fitting if (name == "MatryoshkaBatchTopKSAE") == ("group_sizes" in weights)]
    return [name for name in fitting if name not in ("AutoEncoder", "AutoEncoderNew") or "k" not in weights]


def _class(place: Place, weights: Weights, trainer: dict[str, Any]) -> str:
    fitting = _classes(weights)
    named = str(trainer.get("dict_class") or place.overrides.get("dict_class") or "")
    if named and named not in ARCHITECTURES:
        raise UnsupportedDictionary(
            f"{place.folder / CONFIG} has dict_class {named!r}, which Facet does not compute.",
            f"Supported are: {', '.join(ARCHITECTURES)}.",
            dict_class=named,
        )
    if named and named not in fitting:
        raise damaged(weights.path, f"{CONFIG} calls it {named}, and its tensors are those of {' or '.join(fitting)}")
    if not named and len(fitting) > 1:
        raise UnsupportedDictionary(
            f"{weights.path} may be {' or '.join(fitting)}: these save the same tensors.",
            f'Say which: write {{"dict_class": "{fitting[-1]}"}} to {OVERRIDES} beside it.',
        )
    return named or fitting[0]


def _k(weights: Weights, trainer: dict[str, Any]) -> int | None:
    saved = int(weights.numbers("k")[0]) if "k" in weights else None
    told = trainer.get("k")
    if saved is not None and told is not None and saved != told:
        raise damaged(weights.path, f"it was saved with k {saved}, and {CONFIG} says {told}")
    return saved if saved is not None else told


def _hook_point(path: Path, trainer: dict[str, Any], model_name: str) -> str | None:
    if named := trainer.get("submodule_name"):
        return hook_point(str(named), model_name=model_name)
    return next((found for part in reversed(path.parts) if (found := hook_point(part, model_name=model_name))), None)
