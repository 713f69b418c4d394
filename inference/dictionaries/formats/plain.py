"""Facet's own plain layout, for dictionaries that no package publishes: dictionary.json + dictionary.safetensors.

    h = (x - b_in) W_enc.T + b_enc;  a = architecture(h);  y = a W_dec + b_dec (+ x W_skip)

Rows are features: `W_enc` (F, D), `W_dec` (F, O), and `b_enc`, `b_in`, `b_dec`, `threshold` where there are such. A
file without `W_dec` is tied: its decoder is its encoder. Matrices may be factored, `W_dec_left` (F, R) times
`W_dec_right` (R, O), and likewise `W_enc`; a decoder may be archetypal, `archetypes` (F, P), whose rows are made to add
up to one, times `points` (P, O), plus `relax` (F, O). gated: `r_mag`, `b_gate`, `b_mag`. kronsae: `P` (G M, D) and `Q`
(G N, D) with `b_P` and `b_Q` for `W_enc`. snmf, codebook, mp_sae and itda have `W_dec` alone.

dictionary.json says `architecture` and `hook_in`, and may say `hook_out`, `model_name`, `k`, `subtract_output_bias`,
`normalize`, `scale_by_decoder_norm`, `input_scale`, `output_scale`, `group_sizes`, `prepend_bos`, `context_size`;
`relu` (variational); `heads` (kronsae); `combine`, "sum" or "mean" (codebook).
"""

from __future__ import annotations

from typing import Any

from inference.dictionaries.config import DictionaryConfig, UnsupportedDictionary
from inference.dictionaries.formats.place import Place, Verdict
from inference.dictionaries.formats.tensors import present
from inference.dictionaries.storage import Weights, damaged

LAYOUT = "dictionary.json + dictionary.safetensors"
CONFIG, WEIGHTS = "dictionary.json", "dictionary.safetensors"
ARCHITECTURES = {
    "relu": "relu",
    "jumprelu": "jumprelu",
    "gated": "gated",
    "topk": "topk",
    "abstopk": "abstopk",
    "signed_topk": "signed_topk",
    "groupmax": "groupmax",
    "batchtopk": "batchtopk",
    "matryoshka": "matryoshka",
    "mutual_choice": "mutual_choice",
    "feature_choice": "feature_choice",
    "top_afa": "top_afa",
    "kronsae": "kron",
    "mp_sae": "fixed_pursuit",
    "itda": "fixed_pursuit",
    "gradient": "topk",
    "variational": "variational",
    "linear": "linear",
    "codebook": "codebook",
    "snmf": "nonnegative",
}
NORMALIZATIONS = ("none", "layer_norm", "constant_norm_rescale", "centred")
FACTS = ("k", "subtract_output_bias", "normalize", "scale_by_decoder_norm", "input_scale", "output_scale")
TENSORS = {
    "b_enc_f": "b_enc",
    "b_in_d": "b_in",
    "b_out_o": "b_dec",
    "threshold_f": "threshold",
    "w_skip_do": "W_skip",
    "log_gain_f": "r_mag",
    "b_gate_f": "b_gate",
    "b_magnitude_f": "b_mag",
    "w_p_pd": "P",
    "w_q_qd": "Q",
    "b_p_p": "b_P",
    "b_q_q": "b_Q",
    "archetypes_fp": "archetypes",
    "points_po": "points",
    "relax_fo": "relax",
}
# Of these the decoder is the encoder's transpose, whatever the file says.
TIED = ("snmf", "codebook", "mp_sae", "itda")


def detect(place: Place) -> Verdict:
    return place.files(CONFIG, WEIGHTS)


def read_config(place: Place) -> DictionaryConfig:
    cfg = place.json(CONFIG)
    weights = place.weights(WEIGHTS)
    name = _supported(place, cfg, "architecture", tuple(ARCHITECTURES))
    if "normalize" in cfg:
        _supported(place, cfg, "normalize", NORMALIZATIONS)
    return place.describe(
        weights,
        format="plain",
        architecture=ARCHITECTURES[name],
        tensors=_tensors(weights, name),
        hook_in=cfg.get("hook_in"),
        hook_out=cfg.get("hook_out"),
        options=_options(place, cfg, name),
        group_sizes=tuple(cfg.get("group_sizes") or ()),
        model_name=str(cfg.get("model_name") or ""),
        prepend_bos=bool(cfg.get("prepend_bos", True)),
        context_size=cfg.get("context_size"),
        metadata=cfg,
        evidence=(f"{CONFIG} and {WEIGHTS}, Facet's plain layout: {name}.",),
        **{fact: cfg[fact] for fact in FACTS if fact in cfg},
        **_mean(place, cfg, name),
    )


def _tensors(weights: Weights, name: str) -> dict[str, str]:
    tensors = present(weights, TENSORS, optional=TENSORS)
    for canonical, stored in (("w_enc_fd", "W_enc"), ("w_dec_fo", "W_dec")):
        if stored in weights:
            tensors[canonical] = stored
        elif f"{stored}_left" in weights:
            tensors[canonical] = f"{stored}_left @ {stored}_right"
    if name in TIED and "w_dec_fo" in tensors:
        tensors["w_enc_fd"] = tensors["w_dec_fo"]
    if "w_dec_fo" not in tensors and "archetypes_fp" not in tensors and "w_enc_fd" in tensors:
        tensors["w_dec_fo"] = tensors["w_enc_fd"]
    return tensors


def _options(place: Place, cfg: dict[str, Any], name: str) -> dict[str, Any]:
    if name == "variational":
        return {"relu": bool(cfg.get("relu", True))}
    if name == "codebook":
        return {"unit_encoder": True}
    if name in ("mp_sae", "itda"):
        return {"by_magnitude": name == "itda"}
    if name == "kronsae":
        heads = cfg.get("heads")
        if not isinstance(heads, int) or heads < 1:
            raise damaged(place.folder / CONFIG, f"heads is {heads!r} instead of a positive number")
        return {"heads": heads}
    return {}


def _mean(place: Place, cfg: dict[str, Any], name: str) -> dict[str, float]:
    """Return the scale of a codebook that writes the mean of its codes."""
    if name != "codebook" or _supported(place, cfg, "combine", ("sum", "mean"), "sum") == "sum":
        return {}
    return {"output_scale": float(cfg.get("k") or 1)}


def _supported(place: Place, cfg: dict[str, Any], key: str, known: tuple[str, ...], default: str = "") -> str:
    value = cfg.get(key, default)
    if value in known:
        return str(value)
    raise UnsupportedDictionary(
        f"{place.folder / CONFIG} has {key} {value!r}, which Facet does not compute.",
        f"Supported are: {', '.join(known)}.",
        **{key: value},
    )
