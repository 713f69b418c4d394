"""Goodfire's SAEs of Llama 3 and gpt-oss, and those of others in their form: one .pt or .pth, two linear layers.

    a = relu(x E.T + b_enc);  y = a D.T + b_dec

Files with `encoder_linear` and `decoder_linear`, or, of the SAE of DeepSeek-R1-Distill that follows them, `encoder` and
`decoder`, are ReLU. gpt-oss' has `encoder_linear`, `decoder` and `decoder_bias` and is TopK; biases that a file does
not hold are zero, and nothing is subtracted. The file's name says where it reads, the output of layer 19 for
`Llama-3.1-8B-Instruct-SAE-l19.pth`, and k for `topk_sae_l15_exp16_k32.pt`.
"""

from __future__ import annotations

from inference.dictionaries.config import DictionaryConfig
from inference.dictionaries.formats.place import Place, Verdict, no, yes
from inference.dictionaries.formats.tensors import present
from inference.dictionaries.storage import Weights

LAYOUT = "MODEL-SAE-lN.pth with encoder_linear and decoder_linear"
ARCHITECTURES = {"relu": "relu", "qresearch": "relu", "topk": "topk"}
TENSORS = {
    "relu": {
        "w_enc_fd": "encoder_linear.weight",
        "b_enc_f": "encoder_linear.bias",
        "w_dec_fo": "decoder_linear.weight.T",
        "b_out_o": "decoder_linear.bias",
    },
    "topk": {
        "w_enc_fd": "encoder_linear.weight",
        "b_enc_f": "encoder_linear.bias",
        "w_dec_fo": "decoder.weight.T",
        "b_out_o": "decoder_bias",
    },
    "qresearch": {
        "w_enc_fd": "encoder.weight",
        "b_enc_f": "encoder.bias",
        "w_dec_fo": "decoder.weight.T",
        "b_out_o": "decoder.bias",
    },
}
BIASES = ("b_enc_f", "b_out_o")
NAMED = r"(?P<model>[\w.-]+)-SAE-l(?P<layer>\d+)\.pth?$"
OWNERS = {"Llama": "meta-llama", "DeepSeek": "deepseek-ai"}


def detect(place: Place) -> Verdict:
    content = place.content
    if content is None:
        return no("no single file of weights")
    kind = _kind(place, content)
    return (
        yes(f"{content.path.name} has linear layers")
        if kind
        else no(f"{content.path.name} has no encoder_linear.weight")
    )


def read_config(place: Place) -> DictionaryConfig:
    weights = place.content
    kind = _kind(place, weights)
    named = place.search(NAMED)
    counted = place.search(r"_l(?P<layer>\d+)_exp\d+_k(?P<k>\d+)\.pth?$") if kind == "topk" else None
    found = named or counted
    says = "; its name says the layer" if found else ""
    evidence = [f"{weights.path.name} has the linear layers of Goodfire's SAEs{says}."]
    if kind == "topk":
        evidence.append("Nothing published says whether its output's bias is subtracted from its input: it is not.")
    model_name = _model_name(named["model"]) if named else ""
    return place.describe(
        weights,
        format="goodfire",
        by_file=True,
        architecture=ARCHITECTURES[kind],
        tensors=present(weights, TENSORS[kind], optional=BIASES if kind == "topk" else ()),
        hook_in=f"blocks.{found['layer']}.hook_resid_post" if found else None,
        k=int(counted["k"]) if counted else None,
        model_name="openai/gpt-oss-20b" if place.search("gpt-oss-20b") else model_name,
        evidence=tuple(evidence),
    )


def _kind(place: Place, weights: Weights) -> str | None:
    """Return which of the forms a file has; the last has names that are others' too, and is known by the file's."""
    if "encoder_linear.weight" in weights:
        return "relu" if "decoder_linear.weight" in weights else "topk" if "decoder.weight" in weights else None
    stored = {name.removesuffix(".T") for name in TENSORS["qresearch"].values()}
    return "qresearch" if stored == set(weights.spans) and place.search(NAMED) else None


def _model_name(model: str) -> str:
    owner = next((owner for start, owner in OWNERS.items() if model.startswith(start)), "")
    return f"{owner}/{model}" if owner else model
