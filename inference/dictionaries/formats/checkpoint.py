"""Checkpoints of SAELens before version 3 and of its descendants: one .pt file with `cfg` and `state_dict`.

    SAE          a = relu((x - b_dec) W_enc + b_enc), y = a W_dec + b_dec
    transcoder   a = relu((x - b_dec) W_enc + b_enc), y = a W_dec + b_dec_out   (transcoder_circuits)

Files whose `cfg` is an object of the package's own would run its code, and are refused; those with plain values are
read: ViT-Prisma's, and what was saved again without it. Models are TransformerLens' as they come.
https://github.com/jacobdunefsky/transcoder_circuits
"""

from __future__ import annotations

from typing import Any

from inference.dictionaries.config import DictionaryConfig, UnsupportedDictionary
from inference.dictionaries.formats import centring
from inference.dictionaries.formats.place import Place, Verdict, no, yes

LAYOUT = "one .pt file with cfg and state_dict"
ARCHITECTURES = {"standard": "relu", "transcoder": "relu", "topk": "topk"}
PREFIX = "state_dict."
_SHARED = {"w_enc_fd": "W_enc.T", "b_enc_f": "b_enc", "w_dec_fo": "W_dec"}
TENSORS = {
    "standard": {**_SHARED, "b_out_o": "b_dec"},
    "topk": {**_SHARED, "b_out_o": "b_dec"},
    "transcoder": {**_SHARED, "b_in_d": "b_dec", "b_out_o": "b_dec_out"},
}


def detect(place: Place) -> Verdict:
    name = place.only(".pt")
    if name is None:
        return no("no single .pt file")
    weights = place.weights(name)
    if f"{PREFIX}W_enc" not in weights:
        return no(f"{name} has no state_dict with W_enc")
    told = any(fact.startswith("cfg.") for fact in weights.facts)
    return yes(f"{name} has cfg and state_dict") if told else no(f"{name} has no cfg")


def read_config(place: Place) -> DictionaryConfig:
    weights = place.weights(place.only(".pt"))
    cfg = {name.removeprefix("cfg."): value for name, value in weights.facts.items() if name.startswith("cfg.")}
    transcodes = bool(cfg.get("is_transcoder")) or f"{PREFIX}b_dec_out" in weights
    activation = str(cfg.get("activation_fn_str") or "relu")
    name = "transcoder" if transcodes else {"relu": "standard"}.get(activation, activation)
    if name not in ARCHITECTURES or (transcodes and activation != "relu"):
        raise UnsupportedDictionary(
            f"{weights.path} has activation_fn_str {activation!r}, which Facet does not compute here.",
            "Supported are: relu, and topk for SAEs.",
            activation=activation,
        )
    hook_in = cfg.get("hook_point")
    model_name = str(cfg.get("model_name") or "")
    told = place.overrides.get("centred")
    said = []
    normalize = "none"
    if not transcodes:
        normalize, said = centring.normalization("none", model_name, str(hook_in or ""), told)
    elif told is not False and centring.changes(model_name, str(cfg.get("out_hook_point") or "")):
        said = ["Its output is that of a model with centred weights: without the mean, which LayerNorm does not see."]
    return place.describe(
        weights,
        format="checkpoint",
        by_file=True,
        architecture=ARCHITECTURES[name],
        tensors={canonical: PREFIX + stored for canonical, stored in TENSORS[name].items()},
        hook_in=hook_in,
        hook_out=cfg.get("out_hook_point") if transcodes else None,
        k=_k(cfg),
        normalize=normalize,
        subtract_output_bias=not transcodes,
        model_name=model_name,
        prepend_bos=bool(cfg.get("prepend_bos", True)),
        context_size=cfg.get("context_size"),
        metadata={key: value for key, value in cfg.items() if isinstance(value, str | int | float | bool)},
        evidence=(
            f"{weights.path.name} has cfg, of plain values, and state_dict: a {name} of SAELens' first form.",
            *said,
        ),
    )


def _k(cfg: dict[str, Any]) -> int | None:
    return cfg.get("activation_fn_kwargs.k") or cfg.get("k")
