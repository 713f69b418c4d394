"""Hook points under the names that other packages give them.

Conventions: TransformerLens, also with hyphens for dots as in e2e_sae's state dictionaries, and the hooks of its
bridge (`blocks.3.hook_out`); submodules of dictionary_learning (`resid_post_layer_3`); and paths of modules in
transformers, whole (`model.layers.3.output`, Gemma Scope 2) or below the base model (`layers.3.mlp`, sparsify).
"""

from __future__ import annotations

import re

from inference.hook_points.names import BLOCK, OUTSIDE_BLOCKS, UnknownHookPoint
from inference.hook_points.sites import End, Family, Site

_BRIDGE_BLOCK = re.compile(r"blocks\.(?P<layer>\d+)\.(?P<site>.+)")
# A hook of the bridge is the first of these sites that the family has.
_BRIDGE_SITES = {
    "hook_in": ("hook_resid_pre",),
    "hook_out": ("hook_normalized_resid_post", "hook_resid_post"),
    "attn.hook_out": ("attn.hook_out", "hook_attn_out"),
    "mlp.hook_out": ("mlp.hook_out", "hook_mlp_out"),
    "attn.o.hook_in": ("attn.hook_z",),
    "mlp.out.hook_in": ("mlp.hook_post",),
}
_SUBMODULE = re.compile(r"(?P<kind>resid_pre|resid_post|attn_out|mlp_out)_layer_(?P<layer>\d+)")
_SUBMODULE_SITES = {
    "resid_pre": _BRIDGE_SITES["hook_in"],
    "resid_post": _BRIDGE_SITES["hook_out"],
    "attn_out": _BRIDGE_SITES["attn.hook_out"],
    "mlp_out": _BRIDGE_SITES["mlp.hook_out"],
}
_SEED = re.compile(r"/seed\d+$")
# What stands before a path in whole models, whatever version of transformers it was written for.
_PREFIX = re.compile(r"(?:(?:model|language_model|transformer|gpt_neox|bert)\.)+")
_END = re.compile(r"(?P<module>.+)\.(?P<end>input|output)")


def from_other_name(name: str, family: Family, *, end: End = "output") -> str:
    """Return the hook point that another package calls `name` in models of this family.

    A path of a module means its output unless it says `.input`, or `end` says so: sparsify's transcoders read the
    input of the module that they are named after. Raises UnknownHookPoint.
    """
    plain = _SEED.sub("", name)
    found = (
        _from_transformer_lens(plain, family)
        or _from_dictionary_learning(plain, family)
        or _from_module_path(plain, family, end)
    )
    if found is None:
        raise UnknownHookPoint(
            f"{name!r} is no hook point of {family.name} in any convention that Facet knows.",
            "Use a name of TransformerLens (blocks.3.hook_resid_post), a submodule of dictionary_learning "
            f"(resid_post_layer_3), or the path of a module ({family.sites['hook_resid_pre'].module.format(layer=3)}).",
            hook_point=name,
            family=family.name,
        )
    return found


def _from_transformer_lens(name: str, family: Family) -> str | None:
    dotted = name.replace("-", ".")
    if dotted in OUTSIDE_BLOCKS or dotted == "embed.hook_out":
        site = dotted if dotted in OUTSIDE_BLOCKS else "hook_embed"
        return site if site in family.sites else None
    match = BLOCK.fullmatch(dotted)
    if match and match["site"] in family.sites and (match["head"] is None or match["site"] == "attn.hook_z"):
        return dotted
    match = _BRIDGE_BLOCK.fullmatch(dotted)
    return _first(family, match["layer"], _BRIDGE_SITES.get(match["site"], ())) if match else None


def _from_dictionary_learning(name: str, family: Family) -> str | None:
    match = _SUBMODULE.fullmatch(name)
    return _first(family, match["layer"], _SUBMODULE_SITES[match["kind"]]) if match else None


def _first(family: Family, layer: str, sites: tuple[str, ...]) -> str | None:
    return next((f"blocks.{int(layer)}.{site}" for site in sites if site in family.sites), None)


def _from_module_path(path: str, family: Family, end: End) -> str | None:
    ended = path if _END.fullmatch(path) else f"{path}.{end}"
    # BERT has a module called `output`, whose own output is `output.output`.
    for candidate in dict.fromkeys((ended, f"{path}.{end}")):
        below = candidate[found.end() :] if (found := _PREFIX.match(candidate)) else candidate
        whole = f"{family.base}.{below}" if family.base else below
        for site_name, site in family.sites.items():
            layer = _layer_at(whole, site)
            if layer is not None:
                return f"blocks.{int(layer)}.{site_name}" if layer else site_name
    return None


def _layer_at(path: str, site: Site) -> str | None:
    """Return the layer of a path that holds the site's value, empty outside the blocks, or None for another path."""
    places = list(site.aliases)
    if not site.normalized and site.plus_input_of is None and site.only_for is None:
        places.append(f"{site.module}.{site.end}")
    for place in places:
        pattern = re.escape(place).replace(re.escape("{layer}"), r"(\d+)")
        if match := re.fullmatch(pattern, path):
            return match[1] if match.groups() else ""
    return None
