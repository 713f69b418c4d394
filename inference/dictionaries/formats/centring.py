"""Whether a dictionary was trained on a model whose weights TransformerLens had centred.

By default TransformerLens subtracts from every weight that writes to the residual stream its mean over the stream,
which LayerNorm does not see. There a residual vector is that of the published model less its own mean. Models with
RMSNorm are left as they are.
"""

from __future__ import annotations

import re

from inference.hook_points import parse

CENTRED_MODELS = re.compile(r"gpt-?2|gpt-?neo|pythia|opt-|gelu-|solu-|phi", re.IGNORECASE)
CENTRED_SITES = ("hook_embed", "hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "hook_mlp_out")
VALUE_BIASES = (
    "Beside its model, what TransformerLens takes out of attention's outputs by moving the values' biases is taken out."
)
CENTRED = "Inputs are centred: it was trained on a model whose writing weights TransformerLens had centred."


def shifts(model_name: str, hook_name: str) -> bool:
    """Return whether moving the values' biases changes what a hook point of this model holds."""
    return bool(CENTRED_MODELS.search(model_name)) and parse(hook_name).site == "attn.hook_z"


def changes(model_name: str, hook_name: str) -> bool:
    """Return whether centring changes what a hook point of this model holds."""
    return bool(CENTRED_MODELS.search(model_name)) and hook_name.endswith(CENTRED_SITES)


def normalization(normalize: str, model_name: str, hook_name: str, told: bool | None) -> tuple[str, list[str]]:
    """Return the normalization and what to say, for SAEs of packages that take TransformerLens' models as they come.

    `told` is what facet.json states about centring. A standardized input is centred already.
    """
    if told is False or normalize != "none" or not changes(model_name, hook_name):
        return normalize, []
    return "centred", [CENTRED]
