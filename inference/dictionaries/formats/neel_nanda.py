"""Nanda's SAEs of gelu-1l and Kissane's of attention outputs: <name>.pt + <name>_cfg.json.

    a = relu((x - b_dec) W_enc + b_enc);  y = a W_dec + b_dec

The config's `act_name` and `layer` say where it reads, all heads' `hook_z` side by side for attention outputs; without
them it is the MLP of gelu-1l. https://github.com/neelnanda-io/1L-Sparse-Autoencoder,
https://github.com/ckkissane/attention-output-saes
"""

from __future__ import annotations

import re
from typing import Any

from inference.dictionaries.config import DictionaryConfig
from inference.dictionaries.formats import centring
from inference.dictionaries.formats.place import Place, Verdict, no, yes
from inference.dictionaries.storage import damaged

LAYOUT = "NAME.pt with W_enc, b_enc, W_dec and b_dec, and NAME_cfg.json"
ARCHITECTURES = {"relu": "relu"}
TENSORS = {"w_enc_fd": "W_enc.T", "b_enc_f": "b_enc", "w_dec_fo": "W_dec", "b_out_o": "b_dec"}
SITES = {"z": "attn.hook_z", "post": "mlp.hook_post", "mlp_out": "hook_mlp_out", "attn_out": "hook_attn_out"}


def detect(place: Place) -> Verdict:
    name = place.only(".pt")
    if name is None:
        return no("no single .pt file")
    if not place.has(_config(name)):
        return no(f"no {_config(name)}")
    missing = [tensor for tensor in ("W_enc", "b_enc", "W_dec", "b_dec") if tensor not in place.weights(name)]
    return no(f"{name} has no {missing[0]}") if missing else yes(f"{name} and {_config(name)}")


def read_config(place: Place) -> DictionaryConfig:
    weights = place.weights(place.only(".pt"))
    config = _config(weights.path.name)
    cfg = place.json(config)
    told, stored = cfg.get("act_size"), weights.shape("W_enc")[0]
    if told is not None and told != stored:
        raise damaged(weights.path, f"W_enc says that act_size is {stored}, and {config} says {told}", tensor="W_enc")
    model_name = str(cfg.get("model_name") or cfg.get("model") or ("gpt2" if "act_name" in cfg else "gelu-1l"))
    hook_in = _hook_point(cfg)
    normalize, said = centring.normalization("none", model_name, hook_in, place.overrides.get("centred"))
    shifted = place.overrides.get("centred") is not False and centring.shifts(model_name, hook_in)
    if shifted:
        said = [centring.VALUE_BIASES]
    return place.describe(
        weights,
        format="neel_nanda",
        by_file=True,
        architecture="relu",
        tensors=TENSORS,
        hook_in=hook_in,
        normalize=normalize,
        options={"value_biases": True} if shifted else {},
        subtract_output_bias=True,
        model_name=model_name,
        context_size=cfg.get("seq_len"),
        metadata=cfg,
        evidence=(f"{weights.path.name} has the tensors of Nanda's SAEs, and {config} lies beside it.", *said),
    )


def _hook_point(cfg: dict[str, Any]) -> str:
    act_name = str(cfg.get("act_name") or "post")
    if act_name.startswith("blocks."):
        return act_name
    return f"blocks.{cfg.get('layer', 0)}.{SITES.get(act_name, act_name)}"


def _config(name: str) -> str:
    return re.sub(r"\.pt$", "_cfg.json", name)
