"""What a language model has of features itself: a model's folder, with #neurons:LAYER or #experts:LAYER behind it.

    neurons   a = x at blocks.LAYER.mlp.hook_post;  y = a W_out + b_out, what the MLP returns, exactly
    experts   a = how much the router of a mixture of experts gives to each expert, read at blocks.LAYER.mlp.hook_in

Weights are the model's own: nothing is copied. Experts have no decoder: what one writes is no direction.
"""

from __future__ import annotations

import re
from typing import Any

from inference.dictionaries.config import DamagedDictionary, DictionaryConfig, UnsupportedDictionary
from inference.dictionaries.formats.place import Place, Verdict, no, yes
from inference.dictionaries.storage import damaged
from inference.hook_points import FAMILIES, Family

LAYOUT = "a model's folder with #neurons:LAYER or #experts:LAYER behind it"
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
ARCHITECTURES = {"neurons": "neurons", "experts": "router"}
# Where families of mixtures of experts keep the matrix of their routers, inside the MLP.
ROUTERS = ("gate", "router")
# What older checkpoints call the MLP.
OLDER = ("block_sparse_moe.", "mlp.")
# Families whose projections are stored with inputs first.
INPUTS_FIRST = ("gpt2",)
# Of the chosen experts alone, whatever a config says.
AMONG_CHOSEN = ("mixtral", "gpt_oss")
PART = re.compile(r"(?P<kind>neurons|experts):(?P<layer>\d+)")


def detect(place: Place) -> Verdict:
    if not PART.fullmatch(place.part):
        return no("no #neurons:LAYER or #experts:LAYER behind the path")
    if not place.has(CONFIG):
        return no(f"no {CONFIG}")
    return yes(f"{CONFIG} is of a {_family(place).name} model")


def parts(place: Place) -> list[str]:
    """Return the layers of neurons, or of experts."""
    family = _family(place)
    kind, site = ("neurons", "mlp.hook_post") if "mlp.hook_post" in family.sites else ("experts", "mlp.hook_in")
    module = re.escape(_below(family, family.sites[site].module)).replace(re.escape("{layer}"), r"(\d+)")
    pattern = re.compile(rf"(?:.+\.)?{module}\..*weight")
    layers = {int(match[1]) for name in _files(place) if (match := pattern.fullmatch(name.replace(*OLDER)))}
    return [f"{kind}:{layer}" for layer in sorted(layers)]


def read_config(place: Place) -> DictionaryConfig:
    asked = PART.fullmatch(place.part)
    layer, family, files = int(asked["layer"]), _family(place), _files(place)
    read = _neurons if asked["kind"] == "neurons" else _experts
    return read(place, family, layer, files)


def _neurons(place: Place, family: Family, layer: int, files: dict[str, str]) -> DictionaryConfig:
    weight = _stored(files, family, family.sites["mlp.hook_post"].module, layer)
    if weight is None:
        raise _without(place, layer)
    weights = place.weights(files[weight])
    flip = "" if family.name in INPUTS_FIRST else ".T"
    # Where a norm follows the MLP, this is what it normalizes.
    site = "mlp.hook_out" if "mlp.hook_out" in family.sites else "hook_mlp_out"
    return place.describe(
        weights,
        format="own_model",
        architecture="neurons",
        tensors={"w_dec_fo": weight + flip} | _bias("b_out_o", weight, files),
        hook_in=f"blocks.{layer}.mlp.hook_post",
        hook_out=f"blocks.{layer}.{site}",
        d_in=weights.shape(weight)[1 if flip else 0],
        model_name=str(place.json(CONFIG).get("_name_or_path") or ""),
        context_size=_context_size(_text(place)),
        metadata={"family": family.name},
        evidence=(f"The neurons of layer {layer} of a {family.name} model: {weight} is what they write.",),
    )


def _experts(place: Place, family: Family, layer: int, files: dict[str, str]) -> DictionaryConfig:
    cfg = _text(place)
    module = family.sites["mlp.hook_in"].module
    stored = (_stored(files, family, f"{module}.{router}", layer) for router in ROUTERS)
    weight = next((name for name in stored if name), None)
    if weight is None:
        raise _without(place, layer)
    return place.describe(
        place.weights(files[weight]),
        format="own_model",
        architecture="router",
        tensors={"w_enc_fd": weight} | _bias("b_enc_f", weight, files),
        hook_in=f"blocks.{layer}.mlp.hook_in",
        k=cfg.get("num_experts_per_tok"),
        options={"among_chosen": family.name in AMONG_CHOSEN or bool(cfg.get("norm_topk_prob"))},
        model_name=str(place.json(CONFIG).get("_name_or_path") or ""),
        context_size=_context_size(cfg),
        metadata={"family": family.name},
        evidence=(f"The experts of layer {layer} of a {family.name} model, as its router {weight} weighs them.",),
    )


def _family(place: Place) -> Family:
    """Return the family of the model; raise UnsupportedDictionary for one without hook points or without the kind."""
    told = _text(place)
    types = [part.get("model_type") for part in (place.json(CONFIG), told)]
    # What a config leaves out is what the family's first entry has.
    found = [
        family
        for family in FAMILIES.values()
        if (family.model_type or family.name) in types
        and all(told.get(name, value) == value for name, value in family.when.items())
    ]
    if not found:
        raise UnsupportedDictionary(
            f"{place.folder / CONFIG} is of a model of type {types[0]!r}, whose modules Facet does not know.",
            f"It knows: {', '.join(FAMILIES)}.",
        )
    asked = PART.fullmatch(place.part)
    if asked and (asked["kind"] == "neurons") != ("mlp.hook_post" in found[0].sites):
        other = "experts" if asked["kind"] == "neurons" else "neurons"
        raise UnsupportedDictionary(
            f"A {found[0].name} model has no {asked['kind']} that Facet reads.", f"Ask for {other}:{asked['layer']}."
        )
    return found[0]


def _text(place: Place) -> dict[str, Any]:
    """Return the part of a config that is about the language model."""
    cfg = place.json(CONFIG)
    return cfg.get("text_config") or cfg


def _context_size(cfg: dict[str, Any]) -> int | None:
    return cfg.get("max_position_embeddings") or cfg.get("n_positions")


def _files(place: Place) -> dict[str, str]:
    """Return which file holds each tensor."""
    if place.has(WEIGHTS):
        return dict.fromkeys(place.weights(WEIGHTS).spans, WEIGHTS)
    if place.has(INDEX):
        return dict(place.json(INDEX).get("weight_map") or {})
    raise UnsupportedDictionary(
        f"{place.folder} has neither {WEIGHTS} nor {INDEX}.", "Facet reads a model's own features from safetensors."
    )


def _below(family: Family, module: str) -> str:
    return module.removeprefix(f"{family.base}.")


def _stored(files: dict[str, str], family: Family, module: str, layer: int) -> str | None:
    """Return what a checkpoint calls a module's weight, with whatever it puts before the names of the base model."""
    wanted = f"{_below(family, module.format(layer=layer))}.weight"
    plain = {name: name.replace(*OLDER) for name in files}
    return next((name for name in files if plain[name] == wanted or plain[name].endswith(f".{wanted}")), None)


def _bias(canonical: str, weight: str, files: dict[str, str]) -> dict[str, str]:
    """Return the mapping of the bias beside a weight, which may lie in another file; nothing where there is none."""
    name = weight.removesuffix("weight") + "bias"
    if name not in files:
        return {}
    return {canonical: name if files[name] == files[weight] else f"{files[name]}:{name}"}


def _without(place: Place, layer: int) -> DamagedDictionary:
    return damaged(place.folder / CONFIG, f"its model stores no {PART.fullmatch(place.part)['kind']} of layer {layer}")
