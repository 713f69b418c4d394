"""Hook points from the names in a dictionary's files, before its model is known."""

from __future__ import annotations

import re
from collections import Counter

from inference.hook_points import FAMILIES, UnknownHookPoint, from_other_name
from inference.hook_points.sites import End

# dictionary_learning's older names of submodules.
_OLDER = ((r"^resid_out_layer_?", "resid_post_layer_"), (r"^att(?:entio)?n_out_layer_?", "attn_out_layer_"))


def hook_point(name: str, *, end: End = "output", model_name: str = "") -> str | None:
    """Return the hook point behind a module's path or another package's name; None if no family knows it.

    Families differ: what an MLP returns is `hook_mlp_out` in most, and in Gemma 2 is normalized before it becomes that.
    The family whose name is in the model's decides, or else what most families say.
    """
    for older, newer in _OLDER:
        name = re.sub(older, newer, name)
    found = {}
    for family in FAMILIES.values():
        try:
            found[family.name] = from_other_name(name, family, end=end)
        except UnknownHookPoint:
            continue
    if not found:
        return None
    squeezed = re.sub(r"[^a-z0-9]", "", model_name.lower())
    likely = [family for family in found if re.sub(r"[^a-z0-9]", "", family) in squeezed]
    return found[max(likely, key=len)] if likely else Counter(found.values()).most_common(1)[0][0]
