"""Named places in a forward pass, in TransformerLens notation, and where each lives in a model of each family.

The tables are data: a family is one entry of a module of this package, and nothing else in Facet knows a module's
name. This package imports neither torch nor Django; `inference.activations` reads and writes the places it describes.

Names: `hook_embed`, `blocks.N.<site>`, `ln_final.hook_normalized`; `blocks.N.attn.hook_z` holds all heads side by side
(heads * d_head wide), `blocks.N.attn.hook_z.H` is head H alone. `mlp.hook_in` is what the MLP reads, behind the norm's
gain; where a norm follows attention and MLP, `attn.hook_out` and `mlp.hook_out` are what they return before it.
Names joined by `+` are several places at once, their activations side by side: what a crosscoder reads and writes. One
of another model has that model's name and a slash before it.
`from_other_name` reads the conventions of other packages.
"""

from __future__ import annotations

from inference.hook_points.names import (
    FAMILIES,
    HookPoint,
    UnknownHookPoint,
    family_of,
    names,
    owner_of,
    parse,
    parts,
    resolve,
    shortened,
)
from inference.hook_points.other_names import from_other_name
from inference.hook_points.sites import Family, Norm, Site

__all__ = [
    "FAMILIES",
    "Family",
    "HookPoint",
    "Norm",
    "Site",
    "UnknownHookPoint",
    "family_of",
    "from_other_name",
    "names",
    "owner_of",
    "parse",
    "parts",
    "resolve",
    "shortened",
]
