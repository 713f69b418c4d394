"""Which dictionaries read what attention writes, so that features can be traced to source tokens; without torch."""

from __future__ import annotations

from inference.hook_points import UnknownHookPoint, parse, parts

# Sites that hold what heads moved: side by side, or behind their common projection.
SITES = ("attn.hook_z", "attn.hook_out", "hook_attn_out")
# Architectures whose features are one projection of their input and a decision on it.
PROJECTING = frozenset(
    {
        "relu",
        "topk",
        "jumprelu",
        "gated",
        "batchtopk",
        "matryoshka",
        "mutual_choice",
        "feature_choice",
        "variational",
        "linear",
        "groupmax",
        "abstopk",
        "signed_topk",
    }
)


def untraceable(*, architecture: str, hook_in: str) -> str:
    """Return why a dictionary's features cannot be traced through attention, as a sentence; nothing where they can."""
    if len(parts(hook_in)) > 1:
        return "It reads several hook points at once, and only some of what it reads comes from one layer's attention."
    try:
        site = parse(hook_in).site
    except UnknownHookPoint:
        return f"It reads {hook_in}, which is not the output of attention."
    if site not in SITES:
        return f"It reads {hook_in}, which is not the output of attention."
    if architecture not in PROJECTING:
        return f"Features of the architecture {architecture} are not one projection of what heads move."
    return ""
