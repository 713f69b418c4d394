"""Qwen Scope: TopK SAEs of Qwen 3, one layer<i>.sae.pt for each layer, with k in the repository's name.

    h = x W_enc.T + b_enc;  y = a W_dec.T + b_dec

W_enc is (F, D) and W_dec (D, F), the transposes of SAELens' tensors of the same names; nothing is subtracted. The path
says the rest, as in `SAE-Res-Qwen3-1.7B-Base-W32K-L0_50/layer0.sae.pt`.
"""

from __future__ import annotations

import re

from inference.dictionaries.config import DictionaryConfig
from inference.dictionaries.formats.place import Place, Verdict, no, yes

LAYOUT = "layerN.sae.pt with W_enc, b_enc, W_dec and b_dec"
ARCHITECTURES = {"topk": "topk"}
TENSORS = {"w_enc_fd": "W_enc", "b_enc_f": "b_enc", "w_dec_fo": "W_dec.T", "b_out_o": "b_dec"}


def detect(place: Place) -> Verdict:
    name = place.only(".pt")
    if name is None or not re.fullmatch(r"layer\d+\.sae\.pt", name):
        return no("no single file called layerN.sae.pt")
    missing = [tensor for tensor in ("W_enc", "b_enc", "W_dec", "b_dec") if tensor not in place.weights(name)]
    return no(f"{name} has no {missing[0]}") if missing else yes(f"{name} has W_enc and W_dec")


def read_config(place: Place) -> DictionaryConfig:
    weights = place.weights(place.only(".pt"))
    layer = re.search(r"\d+", weights.path.name)[0]
    release = place.search(r"SAE-Res-(?P<model>[\w.-]+?)-W\d+K-L0_(?P<k>\d+)")
    return place.describe(
        weights,
        format="qwen_scope",
        by_file=True,
        architecture="topk",
        tensors=TENSORS,
        hook_in=f"blocks.{layer}.hook_resid_post",
        k=int(release["k"]) if release else place.overrides.get("k"),
        model_name=f"Qwen/{release['model']}" if release else "",
        context_size=1024,
        evidence=(
            f"{weights.path.name} is called as Qwen Scope calls its files; its matrices are read in their orientation.",
            f"Model and k are those of {release[0]}." if release else "The path does not say k.",
        ),
    )
