"""Layouts of dictionaries that read or write at several hook points, and of those without plain encoders or decoders.

Crosscoders join two points of half the width. Of a cross-layer transcoder the second of three layers is read.
"""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from torch import Tensor

from tests.inference.dictionaries.writing import (
    D_OUT,
    Case,
    D,
    Draw,
    F,
    K,
    Written,
    case,
    jump,
    save,
    top,
    variant,
    write_json,
)

HALF = D // 2
LAYERS, LAYER = 3, 1
RESIDUALS = "blocks.7.hook_resid_post+blocks.13.hook_resid_post"
MLP_OUTS = "+".join(f"blocks.{layer}.hook_mlp_out" for layer in range(LAYER, LAYERS))


def halves(x_td: Tensor) -> Tensor:
    """Return x_tpd of two joined hook points."""
    return x_td.unflatten(1, (2, HALF))


def summed(x_td: Tensor, w_pdf: Tensor) -> Tensor:
    return torch.einsum("tpd,pdf->tf", halves(x_td), w_pdf)


def written_at_points(a_tpf: Tensor, w_pfd: Tensor) -> Tensor:
    return torch.einsum("tpf,pfd->tpd", a_tpf, w_pfd)


def decoders(draw: Draw, n: int, d: int = HALF) -> Tensor:
    return torch.stack([draw.decoder(d) for _ in range(n)])


@case("crosscoder_learning", "CrossCoder", "BatchTopKCrossCoder")
def crosscoder_learning(
    folder: Path, draw: Draw, name: str, *, gate: int = 1, centred: bool = True, alone: bool = False
) -> Written:
    """`gate` is the code_normalization_id; `alone` is a .pt without a config."""
    stored = {
        "encoder.weight": draw.normal(2, HALF, F, scale=D**-0.5),
        "encoder.bias": draw.bias(F),
        "decoder.weight": decoders(draw, 2),
        "decoder.bias": draw.normal(2, HALF, scale=0.2),
        "code_normalization_id": torch.tensor(gate),
        "target_rms": torch.tensor(1.0),
        "activation_mean": draw.normal(2, HALF) if centred else torch.full((2, HALF), torch.nan),
        "activation_std": draw.normal(2, HALF).abs() if centred else torch.full((2, HALF), torch.nan),
        "activation_global_scale": torch.tensor([0.6, 1.7]) if centred else torch.ones(2),
    }
    if name == "BatchTopKCrossCoder":
        threshold = torch.tensor([0.4, 0.7]) if gate == 5 else torch.tensor(0.8)
        stored |= {"k": torch.tensor(K), "threshold": threshold}
    path = folder / ("ae_final.pt" if alone else "model.safetensors")
    w = save(path, stored)
    if not alone:
        write_json(folder / "config.json", {"activation_dim": HALF, "dict_size": F, "num_layers": 2})
    write_json(folder / "facet.json", {"hook_in": RESIDUALS})
    lengths_pf = w["decoder.weight"].norm(dim=2)
    whole_f = lengths_pf.square().sum(0).sqrt()
    codes = {
        1: lengths_pf.sum(0),
        2: whole_f,
        3: whole_f + 0.1 * lengths_pf.sum(0),
        4: torch.ones(F).double(),
        5: lengths_pf,
    }
    scale_p1 = w["activation_global_scale"][:, None]

    def points(a_tf: Tensor) -> Tensor:
        if gate != 5:
            return a_tf[:, None].expand(-1, 2, -1)
        return a_tf[:, None] * (a_tf[:, None] * codes[5] > w["threshold"][:, None])

    def encode(x_td: Tensor) -> Tensor:
        if centred:
            x_td = ((halves(x_td) - w["activation_mean"]) * scale_p1).flatten(1)
        a_tf = (summed(x_td, w["encoder.weight"]) + w["encoder.bias"]).relu()
        if name == "CrossCoder":
            return a_tf
        return points(a_tf).amax(1) if gate == 5 else a_tf * (a_tf * codes[gate] > w["threshold"])

    def decode(a_tf: Tensor, x_td: Tensor) -> Tensor:
        y_tpd = written_at_points(points(a_tf), w["decoder.weight"]) + w["decoder.bias"]
        if centred:
            y_tpd = y_tpd / (scale_p1 + 1e-8) + w["activation_mean"]
        return y_tpd.flatten(1)

    facts = {"hook_in": RESIDUALS, "hook_out": RESIDUALS, "is_summand": False}
    return Written(path=path if alone else folder, encode=encode, decode=decode, facts=facts)


@case("model_diff", "crosscoder")
def model_diff(folder: Path, draw: Draw, name: str) -> Written:
    w = save(
        folder / "cc_weights.pt",
        {
            "W_enc": draw.normal(2, HALF, F, scale=D**-0.5),
            "W_dec": decoders(draw, 2).transpose(0, 1).contiguous(),
            "b_enc": draw.bias(F),
            "b_dec": draw.normal(2, HALF, scale=0.2),
        },
    )
    write_json(folder / "cfg.json", {"model_name": "gemma-2-2b", "hook_point": "blocks.14.hook_resid_pre"})
    scale_p1 = torch.tensor([[0.2758961493232058], [0.24422852496546169]]).double()

    def encode(x_td: Tensor) -> Tensor:
        return (summed((halves(x_td) * scale_p1).flatten(1), w["W_enc"]) + w["b_enc"]).relu()

    def decode(a_tf: Tensor, x_td: Tensor) -> Tensor:
        return ((torch.einsum("tf,fpd->tpd", a_tf, w["W_dec"]) + w["b_dec"]) / scale_p1).flatten(1)

    both = "gemma-2-2b/blocks.14.hook_resid_pre+gemma-2-2b-it/blocks.14.hook_resid_pre"
    return Written(path=folder, encode=encode, decode=decode, facts={"hook_in": both})


@case("circuit_tracer_clt", "relu", "jump_relu")
def circuit_tracer_clt(folder: Path, draw: Draw, name: str, *, missing: str = "") -> Written:
    w = {}
    for layer in range(LAYERS):
        stored = {
            f"W_enc_{layer}": draw.encoder().T,
            f"b_enc_{layer}": draw.bias(F),
            f"b_dec_{layer}": draw.bias(D_OUT),
        }
        if name == "jump_relu":
            # Without a ReLU, so that what lies above a negative threshold counts.
            stored[f"threshold_{layer}"] = draw.threshold() - 0.3
        w |= save(folder / f"W_enc_{layer}.safetensors", stored)
        decoder_ftd = decoders(draw, LAYERS - layer, D_OUT).transpose(0, 1)
        w |= save(folder / f"W_dec_{layer}.safetensors", {f"W_dec_{layer}": decoder_ftd})
    (folder / "config.yaml").write_text(
        yaml.safe_dump(
            {
                "model_kind": "cross_layer_transcoder",
                "feature_input_hook": "mlp.hook_in",
                "feature_output_hook": "hook_mlp_out",
            }
        )
    )
    if missing:
        (folder / missing).unlink()

    def encode(x_td: Tensor) -> Tensor:
        h_tf = x_td @ w[f"W_enc_{LAYER}"].T + w[f"b_enc_{LAYER}"]
        return h_tf.relu() if name == "relu" else h_tf * (h_tf > w[f"threshold_{LAYER}"])

    def decode(a_tf: Tensor, x_td: Tensor) -> Tensor:
        y_tpd = torch.einsum("tf,fpd->tpd", a_tf, w[f"W_dec_{LAYER}"])
        y_tpd[:, 0] += w[f"b_dec_{LAYER}"]
        return y_tpd.flatten(1)

    facts = {"is_summand": True, "hook_in": f"blocks.{LAYER}.mlp.hook_in", "hook_out": MLP_OUTS}
    return Written(path=Path(f"{folder}#{LAYER}"), encode=encode, decode=decode, facts=facts)


@case("gemma_scope_2_layers", "clt", "crosscoder")
def gemma_scope_2_layers(folder: Path, draw: Draw, name: str, *, relative: bool = False) -> Written:
    path = folder / "gemma-scope-2-1b-pt" / name / "layer_7_13_17_width_16k_l0_medium"
    skips = name == "clt"
    for layer in range(LAYERS):
        w_dec_fpd = decoders(draw, LAYERS, D).transpose(0, 1).contiguous()
        w_dec_fpd[:, slice(LAYERS - layer, None) if relative else slice(0, layer)] = 0
        stored = {
            "w_enc": draw.encoder(),
            "b_enc": draw.bias(F),
            "threshold": draw.threshold(),
            "w_dec": w_dec_fpd,
            "b_dec": draw.bias(D),
        }
        if skips:
            stored["affine_skip_connection"] = draw.normal(D, D, scale=0.1)
        saved = save(path / f"params_layer_{layer}.safetensors", stored)
        if layer == LAYER:
            w = saved
    written = slice(0, LAYERS - LAYER) if relative else slice(LAYER, None)

    def encode(x_td: Tensor) -> Tensor:
        return jump(x_td @ w["w_enc"] + w["b_enc"], w["threshold"])

    def decode(a_tf: Tensor, x_td: Tensor) -> Tensor:
        y_tpd = torch.einsum("tf,fpd->tpd", a_tf, w["w_dec"][:, written])
        y_tpd[:, 0] += w["b_dec"] + (x_td @ w["affine_skip_connection"] if skips else 0)
        return y_tpd.flatten(1)

    facts = {"is_summand": True, "hook_in": "blocks.1.mlp.hook_in", "hook_out": MLP_OUTS}
    if name == "crosscoder":
        out = "blocks.13.hook_resid_post+blocks.17.hook_resid_post"
        facts |= {"hook_in": "blocks.13.hook_resid_post", "hook_out": out}
    return Written(path=Path(f"{path}#{LAYER}"), encode=encode, decode=decode, facts=facts)


@case("decode_clt", "relu", "jumprelu")
def decode_clt(
    folder: Path, draw: Draw, name: str, *, tying: str = "none", skip: bool = False, inside: str = ""
) -> Written:
    """`inside` is the folder of a checkpoint, below that of the run."""
    pairs = [(source, target) for source in range(LAYERS) for target in range(source, LAYERS)]
    called = {"none": "{}->{}", "per_source": "{0}", "per_target": "{1}"}[tying]
    decoder = "decoder_module.decoders.{}.{}".format
    stored: dict[str, Tensor] = {}
    for layer in range(LAYERS):
        stored[f"encoder_module.encoders.{layer}.weight"] = draw.encoder().T
        stored[f"encoder_module.encoders.{layer}.bias_param"] = draw.bias(F)
    for key in {called.format(*pair): None for pair in pairs}:
        stored[decoder(key, "weight")] = draw.decoder(D).T
        stored[decoder(key, "bias_param")] = draw.bias(D)
    skips = [f"{a}->{b}" for a, b in pairs] if tying == "none" else [str(layer) for layer in range(LAYERS)]
    if skip:
        stored |= {f"decoder_module.skip_weights.{key}": draw.normal(D, D, scale=0.1) for key in skips}
    if name == "jumprelu":
        stored["theta_manager.log_threshold"] = torch.stack([draw.threshold() for _ in range(LAYERS)]).log()
    w = save(folder / inside / "model.safetensors", stored)
    cfg = {"num_features": F, "num_layers": LAYERS, "d_model": D, "activation_fn": name, "decoder_tying": tying}
    templates = {
        "mlp_input_template": "transformer.h.{}.mlp.input",
        "tl_output_template": "blocks.{}.hook_mlp_out",
    }
    write_json(folder / "cfg.json", cfg | {"model_name": "gpt2", "skip_connection": skip} | templates)

    def encode(x_td: Tensor) -> Tensor:
        h_tf = x_td @ w[f"encoder_module.encoders.{LAYER}.weight"].T
        h_tf = h_tf + w[f"encoder_module.encoders.{LAYER}.bias_param"]
        return h_tf.relu() if name == "relu" else jump(h_tf, w["theta_manager.log_threshold"][LAYER].exp())

    def decode(a_tf: Tensor, x_td: Tensor) -> Tensor:
        outputs = []
        for target in range(LAYER, LAYERS):
            key = called.format(LAYER, target)
            y_td = a_tf @ w[decoder(key, "weight")].T
            if tying != "per_target" or target == LAYER:
                y_td = y_td + w[decoder(key, "bias_param")]
            skip_key = f"{LAYER}->{target}" if tying == "none" else str(LAYER)
            if skip and (tying == "none" or target == LAYER):
                y_td = y_td + x_td @ w[f"decoder_module.skip_weights.{skip_key}"].T
            outputs.append(y_td)
        return torch.cat(outputs, dim=1)

    facts = {"is_summand": True, "hook_in": "blocks.1.mlp.hook_in", "hook_out": MLP_OUTS}
    return Written(path=Path(f"{folder / inside}#{LAYER}"), encode=encode, decode=decode, facts=facts)


def attention(draw: Draw, n_layers: int, width: int) -> dict[str, Tensor]:
    """Return the attention layers of a temporal SAE."""
    stored = {}
    for layer in range(n_layers):
        for key, rows in (("k_ctx", width), ("q_target", width), ("v_ctx", F), ("c_proj", F)):
            stored[f"attn_layers.{layer}.{key}.weight"] = draw.normal(rows, F, scale=2 * F**-0.5)
            stored[f"attn_layers.{layer}.{key}.bias"] = draw.bias(rows)
    return stored


def explained(
    r_td: Tensor, w: dict[str, Tensor], d_fd: Tensor, e_df: Tensor, *, n_layers: int, n_heads: int
) -> tuple[Tensor, Tensor]:
    """Return what features see of a sequence, before they compete, and the codes that its past predicts."""
    total_tf = torch.zeros(len(r_td), F).double()
    for layer in range(n_layers):
        linear = {
            key: (w[f"attn_layers.{layer}.{key}.weight"], w[f"attn_layers.{layer}.{key}.bias"])
            for key in ("k_ctx", "q_target", "v_ctx", "c_proj")
        }
        z_tf = (r_td @ e_df / (4 * D)).relu()
        before_tf = torch.cat([torch.zeros_like(z_tf[:1]), z_tf[:-1]])
        query, key, value = (
            (s_tf @ linear[name][0].T + linear[name][1]).unflatten(1, (n_heads, -1)).transpose(0, 1)
            for name, s_tf in (("q_target", z_tf), ("k_ctx", before_tf), ("v_ctx", before_tf))
        )
        scores = query @ key.mT / query.shape[-1] ** 0.5
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        seen_tf = (scores.masked_fill(later, -torch.inf).softmax(-1) @ value).transpose(0, 1).flatten(1)
        p_tf = (seen_tf @ linear["c_proj"][0].T + linear["c_proj"][1]).relu()
        written_td = p_tf @ d_fd
        share_t1 = (written_td * r_td).sum(1, keepdim=True) / (written_td.norm(dim=1, keepdim=True) + 1e-6) ** 2
        total_tf, r_td = total_tf + share_t1 * p_tf, r_td - share_t1 * written_td
    return (r_td @ e_df / (4 * D)).relu(), total_tf


@case("temporal_saes", "temporal")
def temporal_saes(
    folder: Path, draw: Draw, name: str, *, tied: bool = True, kind: str = "topk", n_layers: int = 2
) -> Written:
    path, n_heads, scale = folder / "layer_12" / "temporal", 3, 0.4
    stored = {"D": draw.decoder(), "b": draw.bias(D)} | ({} if tied else {"E": draw.normal(D, F)})
    w = save(path / "latest_ckpt.safetensors", stored | attention(draw, n_layers, F // 5))
    sae = {
        "exp_factor": F / D,
        "n_heads": n_heads,
        "n_attn_layers": n_layers,
        "bottleneck_factor": 5,
        "sae_diff_type": kind,
        "kval_topk": K,
        "tied_weights": tied,
        "scaling_factor": scale,
    }
    conf = {"llm": {"dimin": D}, "sae": sae, "data": {"dtype": "float32"}}
    (path / "conf.yaml").write_text(yaml.safe_dump(conf))

    def seen(x_td: Tensor) -> tuple[Tensor, Tensor]:
        e_df = w["D"].T if tied else w["E"]
        return explained(x_td * scale - w["b"], w, w["D"], e_df, n_layers=n_layers, n_heads=n_heads)

    def encode(x_td: Tensor) -> Tensor:
        return top(seen(x_td)[0], K) if kind == "topk" else seen(x_td)[0]

    def decode(a_tf: Tensor, x_td: Tensor) -> Tensor:
        return ((a_tf + seen(x_td)[1]) @ w["D"] + w["b"]) / scale

    facts = {"hook_in": "blocks.12.hook_resid_post", "is_sequential": True, "k": K if kind == "topk" else None}
    return Written(path=path, encode=encode, decode=decode, facts=facts)


@case("saelens", "temporal")
def saelens_temporal(folder: Path, draw: Draw, name: str) -> Written:
    scale = 0.4
    stored = {"W_dec": draw.decoder(), "W_enc": draw.normal(D, F), "b_dec": draw.bias(D)}
    w = save(folder / "sae_weights.safetensors", stored | attention(draw, 1, F // 5))
    cfg = {"architecture": name, "d_in": D, "d_sae": F, "tied_weights": False, "n_heads": 3, "n_attn_layers": 1}
    cfg |= {"sae_diff_type": "topk", "kval_topk": K, "bottleneck_factor": 5, "activation_normalization_factor": scale}
    cfg |= {"normalize_activations": "constant_scalar_rescale", "metadata": {"hook_name": "blocks.1.hook_resid_post"}}
    write_json(folder / "cfg.json", cfg)

    def seen(x_td: Tensor) -> tuple[Tensor, Tensor]:
        return explained(x_td * scale - w["b_dec"], w, w["W_dec"], w["W_enc"], n_layers=1, n_heads=3)

    def decode(a_tf: Tensor, x_td: Tensor) -> Tensor:
        return ((a_tf + seen(x_td)[1]) @ w["W_dec"] + w["b_dec"]) / scale

    return Written(path=folder, encode=lambda x_td: top(seen(x_td)[0], K), decode=decode, facts={"is_sequential": True})


VARIANTS: dict[str, Case] = {
    **{
        f"crosscoder_learning-gate-{gate}": variant(crosscoder_learning, "BatchTopKCrossCoder", gate=number)
        for number, gate in ((2, "whole"), (3, "mixed"), (4, "none"), (5, "each"))
    },
    "crosscoder_learning-uncentred": variant(crosscoder_learning, "CrossCoder", centred=False),
    "crosscoder_learning-pt": variant(crosscoder_learning, "BatchTopKCrossCoder", alone=True),
    "gemma_scope_2_layers-relative": variant(gemma_scope_2_layers, "clt", relative=True),
    "decode_clt-per_source": variant(decode_clt, "jumprelu", tying="per_source", skip=True),
    "decode_clt-per_target": variant(decode_clt, "relu", tying="per_target", skip=True),
    "decode_clt-checkpoint": variant(decode_clt, "jumprelu", inside="latest"),
    "decode_clt-skip": variant(decode_clt, "relu", skip=True),
    "temporal_saes-untied": variant(temporal_saes, "temporal", tied=False, n_layers=1),
    "temporal_saes-relu": variant(temporal_saes, "temporal", kind="relu"),
}
