"""Gemma Scope (https://arxiv.org/abs/2408.05147): JumpReLU SAEs and transcoders in params.npz, named by their path.

    a = relu(h) [h > threshold] with h = x W_enc + b_enc;  y = a W_dec + b_dec

Nothing is subtracted from the input. There is no config: the path says model, site and layer, as in
`gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82/params.npz`. Transcoders read the norm before the MLP without
its gain. Those of the embedding take it without Gemma's factor sqrt(D), which transformers' embedding has.
"""

from __future__ import annotations

from inference.dictionaries.config import DictionaryConfig
from inference.dictionaries.formats.place import Place, Verdict, no, yes

LAYOUT = "params.npz"
WEIGHTS = "params.npz"
ARCHITECTURES = {"jumprelu": "jumprelu"}
TENSORS = {
    "w_enc_fd": "W_enc.T",
    "b_enc_f": "b_enc",
    "w_dec_fo": "W_dec",
    "b_out_o": "b_dec",
    "threshold_f": "threshold",
}
# The first uploads had lower-case names.
LOWER_TENSORS = {**TENSORS, "w_enc_fd": "w_enc.T", "w_dec_fo": "w_dec"}
SITES = {
    "res": ("hook_resid_post", None),
    "mlp": ("hook_mlp_out", None),
    "att": ("attn.hook_z", None),
    "transcoders": ("ln2.hook_normalized", "hook_mlp_out"),
}


def detect(place: Place) -> Verdict:
    return yes(WEIGHTS) if place.has(WEIGHTS) else no(f"no {WEIGHTS}")


def read_config(place: Place) -> DictionaryConfig:
    weights = place.weights(WEIGHTS)
    lower = "w_enc" in weights
    hook_in = hook_out = None
    scale = 1.0
    model_name = ""
    evidence = [f"{WEIGHTS} with the tensors of Gemma Scope; BOS was not trained on."]
    if release := place.search(r"gemma-scope-(2b|9b|27b)-(pt|it)-(res|mlp|att|transcoders)"):
        size, tuning, kind = release.groups()
        model_name = f"google/gemma-2-{size}{'-it' if tuning == 'it' else ''}"
        site_in, site_out = SITES[kind]
        if layer := place.search(r"layer_(\d+)(?=/|\\|$)"):
            hook_in = f"blocks.{layer[1]}.{site_in}"
            hook_out = site_out and f"blocks.{layer[1]}.{site_out}"
        elif place.search(r"embedding(?=/|\\|$)"):
            hook_in = "hook_embed"
            scale = weights.shape("w_dec" if lower else "W_dec")[1] ** -0.5
            evidence.append("Reads the embedding without Gemma's factor sqrt(D), which is divided out.")
        evidence.append(f"Model and hook point are those of {release[0]} and of the folder's name.")
    return place.describe(
        weights,
        format="gemma_scope",
        architecture="jumprelu",
        tensors=LOWER_TENSORS if lower else TENSORS,
        hook_in=hook_in,
        hook_out=hook_out,
        input_scale=scale,
        output_scale=scale,
        model_name=model_name,
        evidence=tuple(evidence),
    )
