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
    """A parsed name. `layer` is the block, -1 for the embedding, and None behind the last block.

    `owner` is the model that the name says it is of; empty where it says none.
    """

    name: str
    layer: int | None
    site: str
    head: int | None = None
    owner: str = ""


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


def shortened(name: str) -> str:
    """Return a name that joins hook points as short as it can be read: a site once, with its layers.

    blocks.0.hook_mlp_out+blocks.1.hook_mlp_out+blocks.2.hook_mlp_out is blocks.0–2.hook_mlp_out. Any text may be given.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for part in parts(name):
        owner, _, point = part.rpartition("/")
        match = BLOCK.fullmatch(point)
        site = point if match is None else point.removeprefix(f"blocks.{match['layer']}.")
        groups.setdefault((owner, site), []).extend([int(match["layer"])] if match else [])
    shown = []
    for (owner, site), layers in groups.items():
        prefix = f"{owner}/" if owner else ""
        shown.append(f"{prefix}blocks.{_runs(layers)}.{site}" if layers else f"{prefix}{site}")
    return " + ".join(shown)


def _runs(layers: list[int]) -> str:
    """Return numbers with runs of three and more drawn together."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    texts = [[f"{run[0]}–{run[-1]}"] if len(run) > 2 else list(map(str, run)) for run in runs]
    return ",".join(text for run in texts for text in run)


def owner_of(name: str) -> str:
    """Return the model that the name of a hook point says it is of: base of base/blocks.1.hook_resid_pre, or none."""
    return name.rpartition("/")[0]


def parse(name: str) -> HookPoint:
    """Split a hook point's name; raise UnknownHookPoint for what no family calls so."""
    owner, point = owner_of(name), name.rpartition("/")[2]
    if point in OUTSIDE_BLOCKS:
        return HookPoint(name, OUTSIDE_BLOCKS[point], point, owner=owner)
    match = BLOCK.fullmatch(point)
    sites = list(dict.fromkeys(site for family in FAMILIES.values() for site in family.sites))
    if match is None or match["site"] not in sites or (match["head"] and match["site"] != "attn.hook_z"):
        raise _unknown(name, sites)
    head = None if match["head"] is None else int(match["head"])
    return HookPoint(name, int(match["layer"]), match["site"], head, owner)


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
        for name in ("module", "plus_input_of", "only_for", "then", "attends")
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
