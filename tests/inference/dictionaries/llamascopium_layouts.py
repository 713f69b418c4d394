"""llamascopium's types: normalized inputs, gates by the length of what is written, sequences and transforms.

The formulas are those of its `normalize_activations`, `encode` and `decode`, in that order.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tests.inference.dictionaries.set_layouts import HALF, LAYER, LAYERS, MLP_OUTS, RESIDUALS, decoders, halves, summed
from tests.inference.dictionaries.writing import (
    Case,
    D,
    Draw,
    F,
    K,
    Written,
    case,
    save,
    top,
    variant,
    write_json,
)

THRESHOLD = "activation_function.log_jumprelu_threshold"
RANKS = {2: 65, 5: 40}
N_HEADS, D_KEY, N_CTX = 7, 6, 80


def activate(name: str, h_tf: Tensor, threshold_f: Tensor | None) -> Tensor:
    if name == "jumprelu":
        return h_tf * (h_tf > threshold_f)
    return top(h_tf.relu(), K) if name == "topk" else h_tf.relu()


def gated(name: str, h_tf: Tensor, norm_f: Tensor, threshold_f: Tensor | None) -> Tensor:
    return activate(name, h_tf * norm_f, threshold_f) / norm_f


def write(
    folder: Path,
    tensors: dict[str, Tensor],
    cfg: dict,
    averages: dict[str, float],
    mode: str,
    *,
    pickled: bool = False,
) -> dict:
    """Write weights and config; return the tensors and the factor of each hook point."""
    stored = dict(tensors)
    factors = dict.fromkeys(averages, 1.0)
    if mode == "dataset-wise":
        stored |= {f"dataset_average_activation_norm.{key}": torch.tensor(value) for key, value in averages.items()}
        width = D if cfg["sae_type"] != "crosscoder" else HALF
        factors = {key: width**0.5 / value for key, value in averages.items()}
    if pickled:
        path = folder / "checkpoints" / "final.pt"
        path.parent.mkdir(parents=True)
        torch.save({"sae": stored, "version": "2.0.0"}, path)
        written = {name: tensor.double() for name, tensor in stored.items()}
    else:
        written = save(folder / "sae_weights.safetensors", stored)
    write_json(folder / "config.json", {"norm_activation": mode, "top_k": K, "d_model": D, **cfg})
    write_json(folder / "lm_config.json", {"model_name": "tiny"})
    return written | {"factors": factors}


def with_threshold(draw: Draw, name: str, *shape: int) -> dict[str, Tensor]:
    if name != "jumprelu":
        return {}
    return {THRESHOLD: (0.1 + 0.5 * torch.rand(*shape, generator=draw.generator)).log()}


@case("llamascopium", "sae relu", "sae jumprelu", "sae topk", "sae batchtopk", "sae glu")
def sae(
    folder: Path, draw: Draw, name: str, *, mode: str = "dataset-wise", norms: bool = True, act_fn: str = ""
) -> Written:
    act_fn = act_fn or {"glu": "topk"}.get(name.split()[1], name.split()[1])
    glu, points = name == "sae glu", ("blocks.3.ln2.hook_normalized", "blocks.3.hook_mlp_out")
    stored = {"W_E": draw.encoder(), "b_E": draw.bias(F), "W_D": draw.decoder(), "b_D": draw.bias(D)}
    stored |= with_threshold(draw, act_fn, F)
    if glu:
        stored |= {"W_E_glu": draw.encoder(), "b_E_glu": draw.bias(F)}
    cfg = {"sae_type": "sae", "act_fn": act_fn, "sparsity_include_decoder_norm": norms, "use_glu_encoder": glu}
    cfg |= {"hook_point_in": points[0], "hook_point_out": points[1]}
    w = write(folder, stored, cfg, {points[0]: 3.0, points[1]: 11.0}, mode)
    if act_fn == "batchtopk":
        write_json(folder / "facet.json", {"threshold": 0.9})
    norm_f = w["W_D"].norm(dim=1) if norms else torch.ones(F).double()
    threshold_f = w[THRESHOLD].exp() if THRESHOLD in w else torch.tensor(0.9)

    def encode(x_td: Tensor) -> Tensor:
        x_td = x_td * w["factors"][points[0]]
        if mode == "token-wise":
            x_td = x_td * D**0.5 / x_td.norm(dim=1, keepdim=True)
        h_tf = x_td @ w["W_E"] + w["b_E"]
        if glu:
            h_tf = h_tf * (x_td @ w["W_E_glu"] + w["b_E_glu"]).sigmoid()
        return gated("jumprelu" if act_fn == "batchtopk" else act_fn, h_tf, norm_f, threshold_f)

    def decode(a_tf: Tensor, x_td: Tensor) -> Tensor:
        return (a_tf @ w["W_D"] + w["b_D"]) / w["factors"][points[1]]

    return Written(path=folder, encode=encode, decode=decode, facts={"is_transcoder": True, "model_name": "tiny"})


@case("llamascopium", "crosscoder relu", "crosscoder jumprelu")
def crosscoder(folder: Path, draw: Draw, name: str, *, pickled: bool = False) -> Written:
    act_fn, points = name.split()[1], RESIDUALS.split("+")
    stored = {
        "W_E": draw.normal(2, HALF, F, scale=D**-0.5),
        "b_E": draw.normal(2, F, scale=0.2),
        "W_D": decoders(draw, 2),
        "b_D": draw.normal(2, HALF, scale=0.2),
        **with_threshold(draw, act_fn, F),
    }
    cfg = {"sae_type": "crosscoder", "act_fn": act_fn, "hook_points": points}
    averages = {points[0]: 3.0, points[1]: 5.0}
    w = write(folder, stored, cfg, averages, "dataset-wise", pickled=pickled)
    factor_p1 = torch.tensor([[w["factors"][point]] for point in points]).double()
    norm_pf = w["W_D"].norm(dim=2)

    def by_point(h_tf: Tensor) -> Tensor:
        """Return f_tpf: a gate for each point."""
        threshold_f = w[THRESHOLD].exp() if THRESHOLD in w else None
        return activate(act_fn, h_tf[:, None] * norm_pf, threshold_f) / norm_pf

    def encode(x_td: Tensor) -> Tensor:
        x_td = (halves(x_td) * factor_p1).flatten(1)
        return by_point(summed(x_td, w["W_E"]) + w["b_E"].sum(0)).amax(1)

    def decode(a_tf: Tensor, x_td: Tensor) -> Tensor:
        y_tpd = torch.einsum("tpf,pfd->tpd", by_point(a_tf), w["W_D"]) + w["b_D"]
        return (y_tpd / factor_p1).flatten(1)

    return Written(path=folder, encode=encode, decode=decode, facts={"hook_in": RESIDUALS, "is_transcoder": False})


@case("llamascopium", "clt relu", "clt jumprelu", "clt topk")
def clt(folder: Path, draw: Draw, name: str, *, pickled: bool = False) -> Written:
    act_fn = name.split()[1]
    reads = [f"blocks.{layer}.ln2.hook_normalized" for layer in range(LAYERS)]
    writes = [f"blocks.{layer}.hook_mlp_out" for layer in range(LAYERS)]
    stored = {
        "W_E": draw.normal(LAYERS, D, F, scale=D**-0.5),
        "b_E": draw.normal(LAYERS, F, scale=0.2),
        **{f"W_D.{target}": decoders(draw, target + 1, D) for target in range(LAYERS)},
        **{f"b_D.{target}": draw.bias(D) for target in range(LAYERS)},
        **with_threshold(draw, act_fn, LAYERS, F),
    }
    cfg = {"sae_type": "clt", "act_fn": act_fn, "hook_points_in": reads, "hook_points_out": writes}
    averages = {point: 2.0 + at for at, point in enumerate(reads + writes)}
    w = write(folder, stored, cfg, averages, "dataset-wise", pickled=pickled)
    targets = range(LAYER, LAYERS)
    norm_f = sum(w[f"W_D.{target}"][LAYER].square().sum(1) for target in targets).sqrt()

    def encode(x_td: Tensor) -> Tensor:
        h_tf = x_td * w["factors"][reads[LAYER]] @ w["W_E"][LAYER] + w["b_E"][LAYER]
        return gated(act_fn, h_tf, norm_f, w[THRESHOLD][LAYER].exp() if THRESHOLD in w else None)

    def decode(a_tf: Tensor, x_td: Tensor) -> Tensor:
        outputs = [a_tf @ w[f"W_D.{target}"][LAYER] for target in targets]
        outputs[0] = outputs[0] + w[f"b_D.{LAYER}"]
        scaled = zip(outputs, targets, strict=True)
        return torch.cat([y_td / w["factors"][writes[target]] for y_td, target in scaled], dim=1)

    facts = {"hook_in": reads[LAYER], "hook_out": MLP_OUTS, "is_summand": True}
    return Written(path=Path(f"{folder}#{LAYER}"), encode=encode, decode=decode, facts=facts)


@case("llamascopium", "lorsa topk")
def lorsa(
    folder: Path, draw: Draw, name: str, *, act_fn: str = "topk", adjacent: bool = True, normed: bool = True
) -> Written:
    points = ("blocks.3.ln1.hook_normalized", "blocks.3.hook_attn_out")
    angles = torch.arange(N_CTX)[:, None] / 10000 ** (torch.arange(2) / 2)
    angles = angles.repeat_interleave(2, 1) if adjacent else angles.repeat(1, 2)
    stored = {
        "W_Q": draw.normal(N_HEADS, D, D_KEY, scale=D**-0.5),
        "W_K": draw.normal(N_HEADS, D, D_KEY, scale=D**-0.5),
        "b_Q": draw.normal(N_HEADS, D_KEY, scale=0.2),
        "b_K": draw.normal(N_HEADS, D_KEY, scale=0.2),
        "W_V": draw.encoder().T,
        "b_V": draw.bias(F),
        "W_O": draw.decoder(),
        "b_D": draw.bias(D),
        "rotary_sin": angles.sin(),
        "rotary_cos": angles.cos(),
        "mask": torch.ones(N_CTX, N_CTX).tril().bool(),
        "IGNORE": torch.tensor(-torch.inf),
        **with_threshold(draw, act_fn, F),
    }
    if normed:
        stored |= {f"ln_{which}.w": 1 + draw.normal(N_HEADS, D_KEY, scale=0.2) for which in "qk"}
    cfg = {"sae_type": "lorsa", "act_fn": act_fn, "hook_point_in": points[0], "hook_point_out": points[1]}
    cfg |= {"n_qk_heads": N_HEADS, "d_qk_head": D_KEY, "rotary_dim": 4, "n_ctx": N_CTX, "eps": 1e-5}
    cfg |= {"rotary_adjacent_pairs": adjacent, "use_post_qk_ln": normed, "normalization_type": "RMS"}
    w = write(folder, stored, cfg, {points[0]: 3.0, points[1]: 7.0}, "dataset-wise")
    norm_f = w["W_O"].norm(dim=1)

    def turned(x_hk: Tensor, position: int) -> Tensor:
        pairs = [(0, 1), (2, 3)] if adjacent else [(0, 2), (1, 3)]
        result = x_hk.clone()
        for a, b in pairs:
            sine, cosine = w["rotary_sin"][position, a], w["rotary_cos"][position, a]
            result[:, a] = x_hk[:, a] * cosine - x_hk[:, b] * sine
            result[:, b] = x_hk[:, b] * cosine + x_hk[:, a] * sine
        return result

    def made(x_d: Tensor, which: str, position: int) -> Tensor:
        x_hk = torch.einsum("d,hdk->hk", x_d, w[f"W_{which}"]) + w[f"b_{which}"]
        if normed:
            x_hk = x_hk / (x_hk.square().mean(1, keepdim=True) + 1e-5).sqrt() * w[f"ln_{which.lower()}.w"]
        return turned(x_hk, position)

    def encode(x_td: Tensor) -> Tensor:
        x_td = x_td * w["factors"][points[0]]
        queries = [made(x_d, "Q", at) for at, x_d in enumerate(x_td)]
        keys = torch.stack([made(x_d, "K", at) for at, x_d in enumerate(x_td)])
        value_tf = x_td @ w["W_V"].T + w["b_V"]
        h_tf = torch.empty_like(value_tf)
        for at, query_hk in enumerate(queries):
            pattern_sh = ((keys[: at + 1] * query_hk).sum(2) / D_KEY**0.5).softmax(0)
            h_tf[at] = (pattern_sh.repeat_interleave(F // N_HEADS, 1) * value_tf[: at + 1]).sum(0)
        return gated(act_fn, h_tf, norm_f, w[THRESHOLD].exp() if THRESHOLD in w else None)

    def decode(a_tf: Tensor, x_td: Tensor) -> Tensor:
        return (a_tf @ w["W_O"] + w["b_D"]) / w["factors"][points[1]]

    return Written(path=folder, encode=encode, decode=decode, facts={"is_sequential": True, "context_size": N_CTX})


@case("llamascopium", "molt jumprelu")
def molt(folder: Path, draw: Draw, name: str, *, act_fn: str = "jumprelu") -> Written:
    points = ("blocks.3.ln2.hook_normalized", "blocks.3.hook_mlp_out")
    stored = {"W_E": draw.encoder(), "b_E": draw.bias(F), "b_D": draw.bias(D), **with_threshold(draw, act_fn, F)}
    for rank, count in RANKS.items():
        stored[f"U_matrices.{rank}"] = draw.normal(count, D, rank, scale=D**-0.5)
        stored[f"V_matrices.{rank}"] = draw.normal(count, rank, D, scale=D**-0.5)
    cfg = {"sae_type": "molt", "act_fn": act_fn, "hook_point_in": points[0], "hook_point_out": points[1]}
    w = write(folder, stored, cfg | {"rank_counts": RANKS}, {points[0]: 3.0, points[1]: 7.0}, "dataset-wise")
    maps_fod = torch.cat([w[f"U_matrices.{rank}"] @ w[f"V_matrices.{rank}"] for rank in RANKS])
    norm_f = maps_fod.flatten(1).norm(dim=1)

    def encode(x_td: Tensor) -> Tensor:
        h_tf = x_td * w["factors"][points[0]] @ w["W_E"] + w["b_E"]
        return gated(act_fn, h_tf, norm_f, w[THRESHOLD].exp() if THRESHOLD in w else None)

    def decode(a_tf: Tensor, x_td: Tensor) -> Tensor:
        y_td = torch.einsum("tf,fod,td->to", a_tf, maps_fod, x_td * w["factors"][points[0]]) + w["b_D"]
        return y_td / w["factors"][points[1]]

    return Written(path=folder, encode=encode, decode=decode, facts={"has_directions": False})


VARIANTS: dict[str, Case] = {
    "llamascopium-crosscoder-pt": variant(crosscoder, "crosscoder jumprelu", pickled=True),
    "llamascopium-clt-pt": variant(clt, "clt jumprelu", pickled=True),
    "llamascopium-inference": variant(sae, "sae jumprelu", mode="inference"),
    "llamascopium-token-wise": variant(sae, "sae relu", mode="token-wise"),
    "llamascopium-without-norms": variant(sae, "sae topk", norms=False),
    "llamascopium-glu-jumprelu": variant(sae, "sae glu", act_fn="jumprelu"),
    "llamascopium-lorsa-halves": variant(lorsa, "lorsa", act_fn="jumprelu", adjacent=False, normed=False),
    "llamascopium-lorsa-relu": variant(lorsa, "lorsa", act_fn="relu"),
    "llamascopium-molt-topk": variant(molt, "molt", act_fn="topk"),
}
