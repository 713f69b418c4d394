"""Named places in a forward pass, in TransformerLens notation, and where each lives in a model of each family.

The table is data: a family is one entry of `FAMILIES`, and nothing else in Facet knows a module's name. This module
imports neither torch nor Django; `inference.activations` reads and writes the places that it describes.

Names: `hook_embed`, `blocks.N.<site>`, `ln_final.hook_normalized`; `blocks.N.attn.hook_z` holds all heads side by side
(heads * d_head wide), `blocks.N.attn.hook_z.H` is head H alone.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from inference.errors import InvalidInput

Width = Literal["model", "heads", "mlp"]

# Sites that no block holds, with the layer that stands for their depth.
OUTSIDE_BLOCKS: dict[str, int | None] = {"hook_embed": -1, "ln_final.hook_normalized": None}
BLOCK = re.compile(r"blocks\.(?P<layer>\d+)\.(?P<site>[a-z0-9_.]+?)(?:\.(?P<head>\d+))?")


@dataclass(frozen=True, slots=True)
class Site:
    """Where a value is: `module`, a path in the causal language model with `{layer}` for the block, and which `end`.

    `plus_input_of` names a module whose input is added: `hook_resid_mid` is what attention wrote plus what the block
    got, and writing it changes what attention wrote. A `normalized` site is the output of a norm before its gain and
    bias: it is computed from the norm's input, and writing it goes through the gain and bias.
    """

    module: str
    end: Literal["input", "output"] = "output"
    width: Width = "model"
    normalized: bool = False
    plus_input_of: str | None = None


@dataclass(frozen=True, slots=True)
class Norm:
    """How a family's norm modules work: `centred` for LayerNorm, the name of epsilon, and gain = weight + `offset`."""

    centred: bool
    epsilon: str
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class Family:
    """An architecture: transformers' `model_type`, its base model (all but the head), its norms and its sites."""

    name: str
    base: str
    norm: Norm
    sites: Mapping[str, Site]


@dataclass(frozen=True, slots=True)
class HookPoint:
    """A parsed name. `layer` is the block, -1 for the embedding, and None behind the last block."""

    name: str
    layer: int | None
    site: str
    head: int | None = None


class UnknownHookPoint(InvalidInput):
    """A hook point that the model's family does not have, or that lies outside its layers or heads."""

    code = "unknown-hook-point"


def _block_sites(block: str, *, ln1: str, attention: str, z: str, ln2: str, mlp: str, post: str) -> dict[str, Site]:
    """Return the sites of a pre-norm block in which attention and MLP write one after the other."""
    ln1, attention, z, ln2, mlp, post = (f"{block}.{name}" for name in (ln1, attention, z, ln2, mlp, post))
    return {
        "hook_resid_pre": Site(block, "input"),
        "ln1.hook_normalized": Site(ln1, normalized=True),
        "attn.hook_z": Site(z, "input", "heads"),
        "hook_attn_out": Site(attention),
        "hook_resid_mid": Site(attention, plus_input_of=block),
        "hook_mlp_in": Site(ln2, "input"),
        "ln2.hook_normalized": Site(ln2, normalized=True),
        "mlp.hook_post": Site(post, "input", "mlp"),
        "hook_mlp_out": Site(mlp),
        "hook_resid_post": Site(block),
    }


_GPT2 = Family(
    name="gpt2",
    base="transformer",
    norm=Norm(centred=True, epsilon="eps"),
    sites={
        "hook_embed": Site("transformer.wte"),
        **_block_sites(
            "transformer.h.{layer}",
            ln1="ln_1",
            attention="attn",
            z="attn.c_proj",
            ln2="ln_2",
            mlp="mlp",
            post="mlp.c_proj",
        ),
        "ln_final.hook_normalized": Site("transformer.ln_f", normalized=True),
    },
)

_LLAMA = Family(
    name="llama",
    base="model",
    norm=Norm(centred=False, epsilon="variance_epsilon"),
    sites={
        "hook_embed": Site("model.embed_tokens"),
        **_block_sites(
            "model.layers.{layer}",
            ln1="input_layernorm",
            attention="self_attn",
            z="self_attn.o_proj",
            ln2="post_attention_layernorm",
            mlp="mlp",
            post="mlp.down_proj",
        ),
        "ln_final.hook_normalized": Site("model.norm", normalized=True),
    },
)

FAMILIES: dict[str, Family] = {family.name: family for family in (_GPT2, _LLAMA)}


def parse(name: str) -> HookPoint:
    """Split a hook point's name; raise UnknownHookPoint for what no family calls so."""
    if name in OUTSIDE_BLOCKS:
        return HookPoint(name, OUTSIDE_BLOCKS[name], name)
    match = BLOCK.fullmatch(name)
    sites = list(dict.fromkeys(site for family in FAMILIES.values() for site in family.sites))
    if match is None or match["site"] not in sites or (match["head"] and match["site"] != "attn.hook_z"):
        raise _unknown(name, sites)
    head = None if match["head"] is None else int(match["head"])
    return HookPoint(name, int(match["layer"]), match["site"], head)


def resolve(family: Family, name: str, *, n_layers: int, n_heads: int | None = None) -> tuple[HookPoint, Site]:
    """Return a hook point of a model and its site with the layer filled in; raise UnknownHookPoint outside it."""
    point = parse(name)
    site = family.sites.get(point.site)
    if site is None:
        raise _unknown(name, family.sites)
    if point.layer is not None and point.layer >= n_layers:
        raise UnknownHookPoint(
            f"{name} lies outside the model, which has {n_layers} layers.",
            f"Use a layer from 0 to {n_layers - 1}.",
            hook_point=name,
            n_layers=n_layers,
        )
    if point.head is not None and n_heads is not None and point.head >= n_heads:
        raise UnknownHookPoint(
            f"{name} lies outside the model, which has {n_heads} heads.",
            f"Use a head from 0 to {n_heads - 1}.",
            hook_point=name,
            n_heads=n_heads,
        )
    module = site.module.format(layer=point.layer)
    plus = site.plus_input_of and site.plus_input_of.format(layer=point.layer)
    return point, replace(site, module=module, plus_input_of=plus)


def names(family: Family, n_layers: int) -> list[str]:
    """Return every hook point of a model with so many layers, without single heads."""
    layers = [
        f"blocks.{layer}.{site}" for layer in range(n_layers) for site in family.sites if site not in OUTSIDE_BLOCKS
    ]
    return [*(site for site in family.sites if site in OUTSIDE_BLOCKS), *layers]


def _unknown(name: str, sites: Iterable[str]) -> UnknownHookPoint:
    known = [site if site in OUTSIDE_BLOCKS else f"blocks.N.{site}" for site in sites]
    nearest = difflib.get_close_matches(re.sub(r"blocks\.\d+", "blocks.N", name), known, n=1, cutoff=0.0)
    return UnknownHookPoint(
        f"{name!r} is not a hook point that Facet knows.",
        f"The nearest is {nearest[0]}; all are: {', '.join(sorted(known))}.",
        hook_point=name,
        known=sorted(known),
    )
