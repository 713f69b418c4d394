"""overcomplete (https://github.com/KempnerInstitute/overcomplete): state dictionaries of its SAEs, without a config.

    TopKSAE        the k largest of relu(x E.T + b)
    BatchTopKSAE   a = relu(h) [relu(h) >= threshold]
    JumpSAE        a = relu(h) [relu(h) >= exp(thresholds)]
    SAE            a = relu(h)
    MpSAE          k steps of matching pursuit, each taking the largest projection with its sign; no encoder
    y = a D,  D = exp(multiplier) W, rows of W at length one, nothing added

RATopKSAE and RAJumpSAE (https://arxiv.org/abs/2502.12892) have D = exp(multiplier) (S C + Relax), rows of S being
relu(W) over its sum: archetypes, convex combinations of points C. `tied` encoders are D itself. Neither k nor
BatchTopK's running threshold is saved, nor where the dictionary reads: facet.json states `k` or `threshold`, and
`hook_in`; `dict_class` SAE says that neither is meant.
"""

from __future__ import annotations

from math import exp, isfinite
from typing import Any

from inference.dictionaries.config import DictionaryConfig, UnsupportedDictionary
from inference.dictionaries.formats.place import OVERRIDES, Place, Verdict, no, yes
from inference.dictionaries.storage import Weights, damaged

LAYOUT = "one file with dictionary._weights, or dictionary.W and dictionary.C"
ARCHITECTURES = {
    "SAE": "relu",
    "TopKSAE": "topk",
    "BatchTopKSAE": "batchtopk",
    "JumpSAE": "jumprelu",
    "MpSAE": "fixed_pursuit",
    "RATopKSAE": "topk",
    "RAJumpSAE": "jumprelu",
}
# The package's own; what a run set instead is not saved.
RELAX_LENGTH = 1.0
MULTIPLIER = "dictionary.multiplier"
LINEAR = ("encoder.final_block.0.weight", "encoder.weight")


def detect(place: Place) -> Verdict:
    content = place.content
    if content is None:
        return no("no single file of weights")
    if "dictionary._weights" in content or ("dictionary.W" in content and "dictionary.C" in content):
        return yes(f"{content.path.name} has a dictionary of overcomplete")
    return no(f"{content.path.name} has neither dictionary._weights nor dictionary.W and dictionary.C")


def read_config(place: Place) -> DictionaryConfig:
    weights = place.content
    archetypal = "dictionary.W" in weights
    name = _class(place, weights)
    tensors = _tensors(weights)
    options: dict[str, Any] = {"relax_length": RELAX_LENGTH} if archetypal else {"unit_decoder": True}
    if name == "MpSAE":
        options["by_magnitude"] = False
    if "thresholds" in weights:
        tensors["log_threshold_f"] = "thresholds"
    tied = tensors["w_enc_fd"] == tensors.get("w_dec_fo")
    multiplier = weights.numbers("dictionary.multiplier")[0] if "dictionary.multiplier" in weights else 0.0
    if not isfinite(multiplier):
        raise damaged(
            weights.path, "dictionary.multiplier has values that are not finite", tensor="dictionary.multiplier"
        )
    return place.describe(
        weights,
        format="overcomplete",
        by_file=True,
        architecture=ARCHITECTURES[name],
        tensors=tensors,
        hook_in=None,
        # The multiplier belongs to the dictionary, and so to an encoder that is the dictionary too.
        input_scale=exp(multiplier) if tied else 1.0,
        output_scale=exp(-multiplier),
        options=options,
        metadata={"class": f"RA{name}" if archetypal else name},
        evidence=(
            f"{weights.path.name} has the tensors of overcomplete's {'RA' if archetypal else ''}{name}.",
            *(["It has no encoder: taken as MpSAE, not OMPSAE, which saves the same."] if name == "MpSAE" else []),
        ),
    )


def _class(place: Place, weights: Weights) -> str:
    """Return the class, without RA; raise UnsupportedDictionary for what Facet does not compute or cannot tell."""
    told = str(place.overrides.get("dict_class") or "")
    if told and told not in ARCHITECTURES:
        raise UnsupportedDictionary(
            f"{place.folder / OVERRIDES} states dict_class {told!r}, which Facet does not compute.",
            f"Supported are: {', '.join(ARCHITECTURES)}.",
            dict_class=told,
        )
    others = [name for name in weights.spans if name.startswith(("encoder.mlp_blocks", "encoder.final_block.1", "Q"))]
    if others:
        raise UnsupportedDictionary(
            f"{weights.path} has {others[0]}: its encoder is more than one product.",
            "Facet runs overcomplete's linear and tied encoders.",
        )
    if "thresholds" in weights:
        return "JumpSAE"
    if not any(name in weights for name in LINEAR) and "encoder.bias" not in weights and told in ("", "MpSAE"):
        return "MpSAE"
    if told:
        return told.removeprefix("RA")
    for stated, name in (("k", "TopKSAE"), ("threshold", "BatchTopKSAE")):
        if stated in place.overrides:
            return name
    raise UnsupportedDictionary(
        f"{weights.path} does not say how many features count: overcomplete saves neither k nor a threshold.",
        f'Write {{"k": NUMBER}} to {OVERRIDES} beside it for TopKSAE, {{"threshold": NUMBER}} for BatchTopKSAE, or '
        '{"dict_class": "SAE"}.',
    )


def _tensors(weights: Weights) -> dict[str, str]:
    if "dictionary.W" in weights:
        tensors = {"archetypes_fp": "dictionary.W", "points_po": "dictionary.C", "relax_fo": "dictionary.Relax"}
    else:
        tensors = {"w_dec_fo": "dictionary._weights"}
    linear = next((name for name in LINEAR if name in weights), None)
    tensors["w_enc_fd"] = linear or tensors.get("w_dec_fo", "")
    if linear is None and "dictionary.W" in weights:
        raise UnsupportedDictionary(
            f"{weights.path} has an archetypal dictionary and no encoder.", "Facet runs those with a linear encoder."
        )
    bias = (linear or "encoder.weight").replace("weight", "bias")
    return tensors | ({"b_enc_f": bias} if bias in weights else {})
