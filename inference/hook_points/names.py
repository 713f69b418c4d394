"""Parsing and resolving the names of hook points."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from inference.errors import InvalidInput
from inference.hook_points import encoders, gemma, gpt, llama
from inference.hook_points.sites import Family, Site

# Sites that no block holds, with the layer that stands for their depth.
OUTSIDE_BLOCKS: dict[str, int | None] = {"hook_embed": -1, "ln_final.hook_normalized": None}
BLOCK = re.compile(r"blocks\.(?P<layer>\d+)\.(?P<site>[a-z0-9_.]+?)(?:\.(?P<head>\d+))?")


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


FAMILIES: dict[str, Family] = {
    family.name: family for group in (gpt, llama, gemma, encoders) for family in group.FAMILIES
}


def family_of(model_type: str, config: object) -> Family | None:
    """Return the family of a model by what its configuration says, or None where no family covers it."""
    return next((family for family in FAMILIES.values() if family.covers(model_type, config)), None)


def parts(name: str) -> tuple[str, ...]:
    """Return the hook points that a name joins by `+`, whose activations lie side by side; one for a plain name."""
    return tuple(name.split("+"))


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
    paths = {
        name: path.format(layer=point.layer)
        for name in ("module", "plus_input_of", "only_for", "then")
        if (path := getattr(site, name)) is not None
    }
    return point, replace(site, **paths)


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
