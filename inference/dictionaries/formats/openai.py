"""OpenAI's sparse autoencoders of GPT-2 small (https://arxiv.org/abs/2406.04093): one `<layer>.pt` for each layer.

    h = (normalize(x) - pre_bias) encoder.weight.T + latent_bias;  y = denormalize(a decoder.weight.T + pre_bias)

TopK files standardize each input (deviation unbiased, plus 1e-5) and undo it at the output; ReLU files do not. The
folder says the site, as in `resid_post_mlp_v5_32k/autoencoders/6.pt`. https://github.com/openai/sparse_autoencoder
"""

from __future__ import annotations

from inference.dictionaries.config import DictionaryConfig, UnsupportedDictionary
from inference.dictionaries.formats.place import Place, Verdict, no, yes

LAYOUT = "LAYER.pt with pre_bias, latent_bias, encoder.weight and decoder.weight"
ARCHITECTURES = {"ReLU": "relu", "TopK": "topk"}
TENSORS = {
    "w_enc_fd": "encoder.weight",
    "b_enc_f": "latent_bias",
    "w_dec_fo": "decoder.weight.T",
    "b_out_o": "pre_bias",
}
SITES = {
    "mlp_post_act": "mlp.hook_post",
    "resid_delta_attn": "hook_attn_out",
    "resid_post_attn": "hook_resid_mid",
    "resid_delta_mlp": "hook_mlp_out",
    "resid_post_mlp": "hook_resid_post",
}


def detect(place: Place) -> Verdict:
    content = place.content
    if content is None:
        return no("no single file of weights")
    missing = [name.removesuffix(".T") for name in TENSORS.values() if name.removesuffix(".T") not in content]
    return no(f"{content.path.name} has no {missing[0]}") if missing else yes(f"{content.path.name} has pre_bias")


def read_config(place: Place) -> DictionaryConfig:
    weights = place.content
    activation = weights.facts.get("activation", "ReLU")
    if activation not in ARCHITECTURES:
        raise UnsupportedDictionary(
            f"{weights.path} has activation {activation!r}, which Facet does not compute.",
            f"Supported are: {', '.join(ARCHITECTURES)}.",
        )
    site = place.search(rf"({'|'.join(SITES)})(?:_v\d\w*)?(?=/|\\)")
    layer = weights.path.stem
    known = site is not None and layer.isdigit()
    return place.describe(
        weights,
        format="openai",
        by_file=True,
        architecture=ARCHITECTURES[activation],
        tensors=TENSORS,
        hook_in=f"blocks.{layer}.{SITES[site[1]]}" if known else None,
        k=weights.facts.get("activation_state_dict.k"),
        normalize="layer_norm" if activation == "TopK" else "none",
        subtract_output_bias=True,
        model_name="gpt2" if known else "",
        evidence=(
            f"{weights.path.name} has the tensors of OpenAI's sparse_autoencoder and the activation {activation}.",
            *([f"Site and layer are those of {site[0]} and of the file's name."] if known else []),
        ),
    )
