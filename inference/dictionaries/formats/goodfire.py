"""Goodfire's SAEs of Llama 3: one .pt or .pth with two linear layers, named by model and layer.

    a = relu(x encoder_linear.weight.T + encoder_linear.bias);  y = a decoder_linear.weight.T + decoder_linear.bias

The file's name says where it reads: the output of layer 19 for `Llama-3.1-8B-Instruct-SAE-l19.pth`.
"""

from __future__ import annotations

from inference.dictionaries.config import DictionaryConfig
from inference.dictionaries.formats.place import Place, Verdict, no, yes

LAYOUT = "MODEL-SAE-lN.pth with encoder_linear and decoder_linear"
ARCHITECTURES = {"relu": "relu"}
TENSORS = {
    "w_enc_fd": "encoder_linear.weight",
    "b_enc_f": "encoder_linear.bias",
    "w_dec_fo": "decoder_linear.weight.T",
    "b_out_o": "decoder_linear.bias",
}


def detect(place: Place) -> Verdict:
    content = place.content
    if content is None:
        return no("no single file of weights")
    missing = [name.removesuffix(".T") for name in TENSORS.values() if name.removesuffix(".T") not in content]
    return no(f"{content.path.name} has no {missing[0]}") if missing else yes(f"{content.path.name} has linear layers")


def read_config(place: Place) -> DictionaryConfig:
    weights = place.content
    named = place.search(r"(?P<model>[\w.-]+)-SAE-l(?P<layer>\d+)\.pth?$")
    return place.describe(
        weights,
        format="goodfire",
        by_file=True,
        architecture="relu",
        tensors=TENSORS,
        hook_in=f"blocks.{named['layer']}.hook_resid_post" if named else None,
        model_name=f"meta-llama/{named['model']}" if named else "",
        evidence=(
            f"{weights.path.name} has the linear layers of Goodfire's SAEs; its name says model and layer."
            if named
            else f"{weights.path.name} has the linear layers of Goodfire's SAEs.",
        ),
    )
