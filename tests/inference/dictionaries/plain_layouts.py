"""Facet's plain layout, as `layouts`: architectures of papers without a published format, with float64 formulas."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from inference.dictionaries.formats.plain import ARCHITECTURES
from tests.inference.dictionaries.lab_layouts import HERE, match_lengths, pursue_signed, solve_nonnegative
from tests.inference.dictionaries.writing import D_OUT, Case, D, Draw, F, K, Written, case, jump, save, top, write_json

HEADS, P, Q = 5, 3, 7
SIGNED = ("abstopk", "signed_topk", "itda", "mp_sae", "linear")
COMPETING = ("topk", "abstopk", "signed_topk", "groupmax", "kronsae", "mp_sae", "itda", "gradient", "codebook")
THRESHOLDS = ("jumprelu", "batchtopk", "matryoshka", "mutual_choice", "feature_choice")


@case("plain", *ARCHITECTURES)
def plain(folder: Path, draw: Draw, name: str, *, options: dict | None = None, form: str = "") -> Written:
    """Write one architecture; `form` is how its decoder is stored, or "batch" for the rule of training."""
    options = dict(options or {})
    k = {"signed_topk": F - 3}.get(name, K)
    tensors = {"W_enc": draw.encoder().T, "b_enc": draw.bias(F), "W_dec": draw.decoder(), "b_dec": draw.bias(D)}
    if name == "gated":
        del tensors["b_enc"]
        tensors |= {"r_mag": draw.bias(F), "b_gate": draw.bias(F), "b_mag": draw.bias(F)}
    if name in THRESHOLDS and form != "batch":
        tensors["threshold"] = draw.threshold()
    if name == "kronsae":
        tensors = {key: tensors[key] for key in ("W_dec", "b_dec")}
        tensors |= {"P": draw.normal(HEADS * P, D, scale=D**-0.5), "Q": draw.normal(HEADS * Q, D, scale=D**-0.5)}
        tensors |= {"b_P": draw.bias(HEADS * P), "b_Q": draw.bias(HEADS * Q)}
        options["heads"] = HEADS
    if name in ("mp_sae", "itda"):
        tensors = {"W_dec": functional.normalize(tensors["W_dec"])}
    if name == "codebook":
        tensors = {"W_dec": tensors["W_dec"]}
    if name == "snmf":
        tensors = {"W_dec": draw.normal(F, D, mean=1.0)}
    if form == "low-rank":
        del tensors["W_dec"]
        tensors |= {"W_dec_left": draw.normal(F, 9), "W_dec_right": draw.normal(9, D_OUT), "b_dec": draw.bias(D_OUT)}
        options["hook_out"] = "blocks.2.hook_mlp_out"
    if form == "tied":
        del tensors["W_dec"]
    if form == "archetypal":
        del tensors["W_dec"]
        tensors |= {
            "archetypes": draw.normal(F, 31),
            "points": draw.normal(31, D),
            "relax": draw.normal(F, D, scale=0.1),
        }
    w = save(folder / "dictionary.safetensors", tensors)
    cfg = {"architecture": name, "model_name": "tiny"} | HERE | options
    if name in COMPETING or form == "batch" or options.get("k"):
        cfg["k"] = k
    if name == "matryoshka":
        cfg["group_sizes"] = [5, 40, 60]
    write_json(folder / "dictionary.json", cfg)
    if form == "batch":
        write_json(folder / "facet.json", {"batch_rule": True})
    zero = torch.zeros(1, dtype=torch.float64)
    subtracted_d = w.get("b_in", w["b_dec"] if options.get("subtract_output_bias") else zero)
    rows_fd = decoder(w)

    def encode(x_td: Tensor) -> Tensor:
        x_td = x_td - subtracted_d
        if name in ("mp_sae", "itda"):
            return pursue_signed(x_td, w["W_dec"], K, by_magnitude=name == "itda")
        if name == "snmf":
            return solve_nonnegative(w["W_dec"].T, x_td)
        if name == "codebook":
            cosine_tf = functional.cosine_similarity(x_td[:, None], w["W_dec"][None], dim=2)
            return torch.zeros_like(cosine_tf).scatter(1, cosine_tf.topk(K, dim=1).indices, 1.0)
        if name == "kronsae":
            p_tgi = (x_td @ w["P"].T + w["b_P"]).relu().view(-1, HEADS, P)
            q_tgj = (x_td @ w["Q"].T + w["b_Q"]).relu().view(-1, HEADS, Q)
            return top(torch.einsum("tgi,tgj->tgij", p_tgi, q_tgj).sqrt().flatten(1), K)
        if name == "gated":
            u_tf = x_td @ w["W_enc"].T
            return (u_tf + w["b_gate"] > 0) * (w["r_mag"].exp() * u_tf + w["b_mag"]).relu()
        h_tf = x_td @ w["W_enc"].T + w["b_enc"]
        return activations(h_tf, x_td)

    def activations(h_tf: Tensor, x_td: Tensor) -> Tensor:
        if form == "batch" and name == "feature_choice":
            m = max(1, round(K * len(x_td) / F))
            return top(h_tf.relu().T, m).T
        if form == "batch":
            return top(h_tf.relu().reshape(1, -1), K * len(x_td)).view_as(h_tf)
        if name in THRESHOLDS:
            return jump(h_tf, w["threshold"])
        if name == "groupmax":
            h_tkg = h_tf.relu().unflatten(1, (K, -1))
            return (h_tkg * (h_tkg == h_tkg.amax(2, keepdim=True))).flatten(1)
        if name in ("topk", "gradient"):
            return top(h_tf.relu(), K)
        if name in ("abstopk", "signed_topk"):
            return top(h_tf, k, h_tf.abs() if name == "abstopk" else None)
        if name == "top_afa":
            return match_lengths(h_tf.relu(), rows_fd.norm(dim=1), x_td.norm(dim=1))
        if name == "linear" or (name == "variational" and not options.get("relu", True)):
            return top(h_tf, K, h_tf.abs()) if options.get("k") else h_tf
        return top(h_tf.relu(), K) if options.get("k") else h_tf.relu()

    def decode(a_tf: Tensor, x_td: Tensor) -> Tensor:
        y_to = a_tf @ rows_fd + w.get("b_dec", zero)
        return y_to / K if options.get("combine") == "mean" else y_to

    facts = HERE | {"model_name": "tiny", "is_signed": name in SIGNED or not options.get("relu", True)}
    dense = facts["is_signed"] and name in ("linear", "variational") and not options.get("k")
    return Written(path=folder, encode=encode, decode=decode, facts=facts, dense=dense)


def decoder(w: dict[str, Tensor]) -> Tensor:
    """Return the rows that a file stands for."""
    if "W_dec" in w:
        return w["W_dec"]
    if "W_dec_left" in w:
        return w["W_dec_left"] @ w["W_dec_right"]
    if "archetypes" in w:
        share_fp = w["archetypes"].relu()
        return share_fp / (share_fp.sum(1, keepdim=True) + 1e-8) @ w["points"] + w["relax"]
    return w["W_enc"]


def variant(name: str, **options: object) -> Case:
    return lambda folder, draw: plain(folder, draw, name, **options)


VARIANTS: dict[str, Case] = {
    "plain-low-rank-decoder": variant("topk", form="low-rank"),
    "plain-tied-decoder": variant("relu", form="tied", options={"subtract_output_bias": True}),
    "plain-tied-and-scaled-by-its-decoder": variant("relu", form="tied"),
    "plain-archetypal-decoder": variant("topk", form="archetypal"),
    "plain-mutual-choice-by-batch": variant("mutual_choice", form="batch"),
    "plain-feature-choice-by-batch": variant("feature_choice", form="batch"),
    "plain-variational-without-relu": variant("variational", options={"relu": False}),
    "plain-variational-topk": variant("variational", options={"relu": False, "k": K}),
    "plain-codebook-mean": variant("codebook", options={"combine": "mean"}),
    "plain-top-afa-subtracting": variant("top_afa", options={"subtract_output_bias": True}),
}
