"""Layouts of single laboratories, as `layouts`: random dictionaries written as published, with float64 formulas."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from tests.inference.dictionaries.writing import D_OUT, Case, D, Draw, F, K, Written, case, jump, save, top, write_json

HERE = {"hook_in": "blocks.2.hook_resid_post"}


def standardize(x_td: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return standardized rows, their means, and their deviations."""
    mean_t1, deviation_t1 = x_td.mean(1, keepdim=True), x_td.std(1, keepdim=True)
    return (x_td - mean_t1) / (deviation_t1 + 1e-5), mean_t1, deviation_t1


def matrices(draw: Draw, d_out: int = D) -> dict[str, Tensor]:
    return {"W_enc": draw.encoder(), "b_enc": draw.bias(F), "W_dec": draw.decoder(d_out), "b_dec": draw.bias(d_out)}


@case("mlsae", "topk")
def mlsae(folder: Path, draw: Draw, name: str, *, prefix: str = "", standard: bool = True) -> Written:
    path = folder / f"mlsae-pythia-70m-deduped-x64-k{K}{'-tfm' if prefix else ''}"
    tensors = {
        "encoder.weight": draw.encoder().T,
        "decoder.weight": draw.decoder().T,
        "pre_encoder_bias": draw.bias(D),
        "last_nonzero": torch.zeros(F, dtype=torch.int64),
    }
    w = save(path / "model.safetensors", {prefix + key: value for key, value in tensors.items()})
    w = {key.removeprefix(prefix): value for key, value in w.items()}
    write_json(path / "config.json", {"n_inputs": D, "n_latents": F, "k": K, "standardize": standard})

    def encode(x_td: Tensor) -> Tensor:
        x_td = standardize(x_td)[0] if standard else x_td
        return top((x_td - w["pre_encoder_bias"]) @ w["encoder.weight"].T, K).relu()

    def decode(a_tf: Tensor, x_td: Tensor) -> Tensor:
        y_td = a_tf @ w["decoder.weight"].T + w["pre_encoder_bias"]
        _, mean_t1, deviation_t1 = standardize(x_td)
        return y_td * deviation_t1 + mean_t1 if standard else y_td

    facts = {"hook_in": "blocks.3.hook_resid_post", "model_name": "EleutherAI/pythia-70m-deduped", "k": K}
    return Written(path=Path(f"{path}#3"), encode=encode, decode=decode, facts=facts)


@case("bussmann", "vanilla", "topk", "batchtopk", "jumprelu", "global-matryoshka-topk", "topafa")
def bussmann(folder: Path, draw: Draw, name: str, *, unit_norm: bool = True, batch_rule: bool = False) -> Written:
    path = folder / f"gpt2-small_blocks.8.hook_resid_pre_{F}_{name}_{K}_0.0003_10000"
    tensors = matrices(draw)
    if name == "jumprelu":
        tensors["jumprelu.log_threshold"] = draw.threshold().log()
    if name in ("batchtopk", "global-matryoshka-topk") and not batch_rule:
        tensors["threshold"] = torch.tensor(0.6)
    w = save(path / "sae.pt", tensors)
    cfg = {"act_size": str(D), "dict_size": F, "hook_point": "blocks.8.hook_resid_pre", "seq_len": 128}
    cfg |= {"input_unit_norm": str(unit_norm), "top_k": str(K), "sae_type": name, "model_name": "gpt2-small"}
    if name == "global-matryoshka-topk":
        cfg |= {"group_sizes": "[20, 35, 50]"}
        del cfg["dict_size"]
    write_json(path / "config.json", cfg)
    if batch_rule:
        write_json(path / "facet.json", {"batch_rule": True})

    def prepared(x_td: Tensor) -> tuple[Tensor, Tensor, Tensor | float]:
        if unit_norm:
            return standardize(x_td)
        # The model's residual stream as TransformerLens has it, with centred weights.
        return x_td - x_td.mean(1, keepdim=True), x_td.mean(1, keepdim=True), 1.0

    def encode(x_td: Tensor) -> Tensor:
        x_td = prepared(x_td)[0]
        if name == "jumprelu":
            return jump(x_td @ w["W_enc"] + w["b_enc"], w["jumprelu.log_threshold"].exp())
        h_tf = (x_td - w["b_dec"]) @ w["W_enc"]
        if name == "vanilla":
            return (h_tf + w["b_enc"]).relu()
        if name == "topk":
            return top(h_tf.relu(), K)
        if name == "topafa":
            return match_lengths(h_tf.relu(), w["W_dec"].norm(dim=1), (x_td - w["b_dec"]).norm(dim=1))
        return (
            top(h_tf.relu().reshape(1, -1), K * len(x_td)).view_as(h_tf) if batch_rule else jump(h_tf, w["threshold"])
        )

    def decode(a_tf: Tensor, x_td: Tensor) -> Tensor:
        _, mean_t1, deviation_t1 = prepared(x_td)
        return (a_tf @ w["W_dec"] + w["b_dec"]) * deviation_t1 + mean_t1

    facts = {"hook_in": "blocks.8.hook_resid_pre", "model_name": "gpt2-small", "context_size": 128}
    facts["group_sizes"] = (20, 35, 50) if "matryoshka" in name else ()
    return Written(path=path, encode=encode, decode=decode, facts=facts)


def match_lengths(a_tf: Tensor, norm_f: Tensor, length_t: Tensor) -> Tensor:
    """Return Top-AFA's choice, token by token."""
    kept_tf = torch.zeros_like(a_tf)
    for a_f, kept_f, length in zip(a_tf, kept_tf, length_t, strict=True):
        order = (a_f * norm_f).argsort(descending=True).tolist()
        lengths = [float(((a_f * norm_f)[order[: k + 1]] ** 2).sum() ** 0.5) for k in range(len(order) - 1)]
        gaps = [abs(written - float(length)) for written in lengths]
        chosen = order[: gaps.index(min(gaps)) + 1]
        kept_f[chosen] = a_f[chosen]
    return kept_tf


@case("noanabeshima", "matryoshka")
def noanabeshima(folder: Path, draw: Draw, name: str) -> Written:
    path = folder / "blocks.2.hook_resid_post" / "sae.pt"
    w = save(path, matrices(draw) | {"normalizer.running_avg": torch.tensor([13.0])})
    s, norm_f = D**0.5 / 13.0, w["W_dec"].norm(dim=1)
    return Written(
        path=path,
        encode=lambda x_td: (s * x_td @ w["W_enc"] + w["b_enc"]).relu() * norm_f / s,
        decode=lambda a_tf, x_td: (a_tf * s / norm_f @ w["W_dec"] + w["b_dec"]) / s,
        facts=HERE,
    )


@case("neel_nanda", "relu")
def neel_nanda(folder: Path, draw: Draw, name: str, *, z: bool = True) -> Written:
    path = folder / "gpt2-small_L5_Hcat_z.pt"
    w = save(path, matrices(draw))
    cfg = {"act_size": D, "dict_size": F, "act_name": "blocks.5.attn.hook_z", "layer": 5, "model_name": "gpt2-small"}
    write_json(path.with_name("gpt2-small_L5_Hcat_z_cfg.json"), cfg if z else {"d_mlp": D, "seq_len": 128})
    hook_in = "blocks.5.attn.hook_z" if z else "blocks.0.mlp.hook_post"
    return Written(
        path=path,
        encode=lambda x_td: ((x_td - w["b_dec"]) @ w["W_enc"] + w["b_enc"]).relu(),
        decode=lambda a_tf, x_td: a_tf @ w["W_dec"] + w["b_dec"],
        facts={"hook_in": hook_in, "model_name": "gpt2-small" if z else "gelu-1l"},
    )


@case("itda", "itda")
def itda(folder: Path, draw: Draw, name: str) -> Written:
    atoms = functional.normalize(draw.encoder().T)
    w = save(folder / "atoms.pt", {"atoms": atoms})
    torch.save(atoms, folder / "atoms.pt")
    torch.save(torch.zeros(F, 2, dtype=torch.int64), folder / "atom_indices.pt")
    metadata = f"layer: 3\nlm_name: EleutherAI/pythia-70m\nk: {K}\nseq_len: 128\nsubmodule_name: null\n"
    (folder / "metadata.yaml").write_text(metadata)
    return Written(
        path=folder,
        encode=lambda x_td: pursue_signed(x_td, w["atoms"], K, by_magnitude=True),
        decode=lambda a_tf, x_td: a_tf @ w["atoms"],
        facts={"hook_in": "blocks.3.hook_resid_post", "context_size": 128, "k": K},
    )


def pursue_signed(x_td: Tensor, w_fd: Tensor, steps: int, *, by_magnitude: bool) -> Tensor:
    """Return what a fixed number of steps of matching pursuit find, token by token."""
    a_tf = x_td.new_zeros(len(x_td), len(w_fd))
    for r_d, a_f in zip(x_td.clone(), a_tf, strict=True):
        for _ in range(steps):
            h_f = w_fd @ r_d
            best = (h_f.abs() if by_magnitude else h_f).argmax()
            a_f[best] += h_f[best]
            r_d -= h_f[best] * w_fd[best]
    return a_tf


@case("saev", "Relu", "TopK", "BatchTopK")
def saev(folder: Path, draw: Draw, name: str) -> Written:
    # More than there are positive pre-activations: it has no ReLU.
    k = F - 3
    tensors = matrices(draw) | ({"activation.threshold": torch.tensor(0.6)} if name == "BatchTopK" else {})
    path = folder / "sae.pt"
    w = save(path, tensors)
    params = {} if name == "Relu" else {"top_k": k}
    header = {"schema": 5, "cfg": {"d_model": D, "d_sae": F, "activation": {"cls": name, "params": params}}}
    blob = io.BytesIO()
    torch.save(tensors, blob)
    path.write_bytes(json.dumps(header).encode() + b"\n" + blob.getvalue())
    write_json(folder / "facet.json", HERE)

    def encode(x_td: Tensor) -> Tensor:
        h_tf = x_td @ w["W_enc"] + w["b_enc"]
        return {"Relu": h_tf.relu(), "TopK": top(h_tf, k), "BatchTopK": jump(h_tf, 0.6)}[name]

    return Written(path=path, encode=encode, decode=lambda a_tf, x_td: a_tf @ w["W_dec"] + w["b_dec"], facts=HERE)


@case("interplm", "ReLUSAE", "ReLUSAE_Tied", "TopKSAE", "BatchTopKSAE", "JumpReLUSAE")
def interplm(folder: Path, draw: Draw, name: str, *, scaled: bool = True) -> Written:
    path = folder / "InterPLM-esm2-8m" / "layer_3" / "ae_unnormalized.pt"
    linear = {"encoder.weight": draw.encoder().T, "encoder.bias": draw.bias(F), "decoder.weight": draw.decoder().T}
    bias = {"ReLUSAE": "bias", "TopKSAE": "b_dec", "BatchTopKSAE": "b_dec"}.get(name, "decoder.bias")
    tensors = linear | {bias: draw.bias(D), "activation_rescale_factor": draw.threshold()}
    tensors["normalize_to_sqrt_d"] = torch.tensor(scaled)
    if bias == "b_dec":
        tensors |= {"k": torch.tensor(K, dtype=torch.int), "threshold": torch.tensor(0.7)}
    if name == "JumpReLUSAE":
        tensors["threshold"] = draw.threshold()
    w = save(path, tensors)
    if bias == "b_dec":
        write_json(path.with_name("facet.json"), {"dict_class": name})

    def size(x_td: Tensor) -> Tensor | float:
        return x_td.norm(dim=1, keepdim=True) / D**0.5 if scaled else 1.0

    def encode(x_td: Tensor) -> Tensor:
        x_td = x_td / size(x_td)
        x_td = x_td if bias == "decoder.bias" else x_td - w[bias]
        h_tf = x_td @ w["encoder.weight"].T + w["encoder.bias"]
        if name == "TopKSAE":
            return top(h_tf.relu(), K)
        return jump(h_tf, w["threshold"]) if "threshold" in w else h_tf.relu()

    return Written(
        path=path,
        encode=encode,
        decode=lambda a_tf, x_td: (a_tf @ w["decoder.weight"].T + w[bias]) * size(x_td),
        facts={"hook_in": "blocks.2.hook_resid_post", "model_name": "facebook/esm2_t6_8M_UR50D"},
    )


@case("e2e_sae", "relu")
def e2e_sae(folder: Path, draw: Draw, name: str, *, several: bool = False) -> Written:
    path = folder / "samples_400000.pt"
    tensors = {}
    for layer in (2, 6) if several else (6,):
        tensors |= {
            f"blocks-{layer}-hook_resid_pre.encoder.0.weight": draw.encoder().T,
            f"blocks-{layer}-hook_resid_pre.encoder.0.bias": draw.bias(F),
            f"blocks-{layer}-hook_resid_pre.decoder.weight": draw.decoder().T,
            f"blocks-{layer}-hook_resid_pre.decoder.bias": draw.bias(D),
        }
    w = save(path, tensors)
    w = {key.removeprefix("blocks-6-hook_resid_pre."): value for key, value in w.items() if "-6-" in key}
    (folder / "final_config.yaml").write_text("tlens_model_name: gpt2-small\ntlens_model_path: null\n")

    def centred(x_td: Tensor) -> Tensor:
        return x_td - x_td.mean(1, keepdim=True)

    def decode(a_tf: Tensor, x_td: Tensor) -> Tensor:
        rows_fd = functional.normalize(w["decoder.weight"], dim=0).T
        return a_tf @ rows_fd + w["decoder.bias"] + x_td.mean(1, keepdim=True)

    return Written(
        path=Path(f"{path}#blocks.6.hook_resid_pre") if several else path,
        encode=lambda x_td: (centred(x_td) @ w["encoder.0.weight"].T + w["encoder.0.bias"]).relu(),
        decode=decode,
        facts={"hook_in": "blocks.6.hook_resid_pre", "model_name": "gpt2-small"},
    )


@case("overcomplete", "SAE", "TopKSAE", "BatchTopKSAE", "JumpSAE", "MpSAE", "RATopKSAE", "RAJumpSAE")
def overcomplete(folder: Path, draw: Draw, name: str, *, tied: bool = False) -> Written:
    path = folder / "sae.pt"
    multiplier = torch.tensor(0.3)
    if name.startswith("RA"):
        shares = {"dictionary.W": draw.normal(F, 31), "dictionary.C": draw.normal(31, D)}
        tensors = shares | {"dictionary.Relax": draw.normal(F, D, scale=0.05)}
    else:
        tensors = {"dictionary._weights": draw.decoder()}
    tensors["dictionary.multiplier"] = multiplier
    if name != "MpSAE" and not tied:
        tensors |= {"encoder.final_block.0.weight": draw.encoder().T, "encoder.final_block.0.bias": draw.bias(F)}
    if tied:
        tensors["encoder.bias"] = draw.bias(F)
    if "Jump" in name:
        tensors["thresholds"] = draw.threshold().log()
    w = save(path, tensors)
    told = {"SAE": {"dict_class": "SAE"}, "BatchTopKSAE": {"threshold": 0.6}}.get(name, {"k": K})
    write_json(path.with_name("facet.json"), HERE | ({} if "Jump" in name else told))
    if name.startswith("RA"):
        share_fp = w["dictionary.W"].relu()
        rows_fd = share_fp / (share_fp.sum(1, keepdim=True) + 1e-8) @ w["dictionary.C"] + w["dictionary.Relax"]
    else:
        rows_fd = functional.normalize(w["dictionary._weights"])
    rows_fd = rows_fd * multiplier.double().exp()

    def encode(x_td: Tensor) -> Tensor:
        if name == "MpSAE":
            return pursue_signed(x_td, rows_fd, K, by_magnitude=False)
        if tied:
            h_tf = x_td @ rows_fd.T + w["encoder.bias"]
        else:
            h_tf = x_td @ w["encoder.final_block.0.weight"].T + w["encoder.final_block.0.bias"]
        if "TopK" in name and "Batch" not in name:
            return top(h_tf.relu(), K)
        if name == "SAE":
            return h_tf.relu()
        return jump(h_tf, w["thresholds"].exp() if "Jump" in name else 0.6)

    # Of many features the largest projection is never below zero.
    facts = HERE | ({"is_signed": True} if name == "MpSAE" else {})
    return Written(path=path, encode=encode, decode=lambda a_tf, x_td: a_tf @ rows_fd, facts=facts)


@case("snmf", "snmf")
def snmf(folder: Path, draw: Draw, name: str) -> Written:
    path = folder / "layer_5" / "snmf_factors.pt"
    # A pointed cone, so that coefficients are unique though there are more factors than dimensions.
    factors = draw.normal(D, F, mean=1.0)
    w = save(path, {"F": factors})
    torch.save({"F": factors, "G": torch.rand(4, F), "layer": 5, "token_ids": [1, 2, 3, 4]}, path)
    write_json(folder / "config.json", {"mode": "mlp_intermediate", "rank": F, "model_path": "gpt2"})
    return Written(
        path=path.parent,
        encode=lambda x_td: solve_nonnegative(w["F"], x_td),
        decode=lambda a_tf, x_td: a_tf @ w["F"].T,
        facts={"hook_in": "blocks.5.mlp.hook_post", "model_name": "gpt2"},
    )


def solve_nonnegative(w_df: Tensor, x_td: Tensor) -> Tensor:
    """Return the nonnegative coefficients of least squares: Lawson and Hanson's active sets, one factor at a time."""
    a_tf = x_td.new_zeros(len(x_td), w_df.shape[1])
    for x_d, a_f in zip(x_td, a_tf, strict=True):
        chosen: list[int] = []
        while True:
            gain_f = w_df.T @ (x_d - w_df @ a_f)
            gain_f[chosen] = -torch.inf
            if gain_f.max() <= 1e-9:
                break
            chosen.append(int(gain_f.argmax()))
            while True:
                solved = torch.linalg.lstsq(w_df[:, chosen], x_d[:, None]).solution[:, 0]
                if (solved > 0).all():
                    break
                # As far towards the solution as all coefficients stay nonnegative; who reaches zero leaves.
                before = a_f[chosen]
                shares = torch.where(solved > 0, torch.inf, before / (before - solved))
                moved = before + shares.min() * (solved - before)
                moved[shares.argmin()] = 0
                a_f[chosen] = moved
                chosen = [index for index, value in zip(chosen, moved.tolist(), strict=True) if value > 0]
            a_f[chosen] = solved
    return a_tf


@case("checkpoint", "standard", "topk", "transcoder")
def checkpoint(folder: Path, draw: Draw, name: str) -> Written:
    path = folder / "final.pt"
    transcodes = name == "transcoder"
    tensors = matrices(draw, D_OUT if transcodes else D)
    if transcodes:
        tensors |= {"b_dec_out": tensors["b_dec"], "b_dec": draw.bias(D)}
    w = save(path, tensors)
    cfg = {"hook_point": "blocks.4.hook_mlp_out", "model_name": "tiny", "context_size": 64, "d_in": D}
    if transcodes:
        cfg |= {"is_transcoder": True, "hook_point": "blocks.4.ln2.hook_normalized"}
        cfg["out_hook_point"] = "blocks.4.hook_mlp_out"
    if name == "topk":
        cfg |= {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}}
    torch.save({"cfg": cfg, "state_dict": tensors}, path)

    def encode(x_td: Tensor) -> Tensor:
        h_tf = (x_td - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
        return top(h_tf, K).relu() if name == "topk" else h_tf.relu()

    return Written(
        path=path,
        encode=encode,
        decode=lambda a_tf, x_td: a_tf @ w["W_dec"] + w["b_dec_out" if transcodes else "b_dec"],
        facts={"hook_in": cfg["hook_point"], "hook_out": "blocks.4.hook_mlp_out", "context_size": 64},
    )


@case("own_model", "neurons", "experts")
def own_model(folder: Path, draw: Draw, name: str) -> Written:
    told = {"neurons": {"model_type": "phi"}, "experts": {"model_type": "olmoe", "num_experts_per_tok": K}}[name]
    if name == "neurons":
        tensors = {"fc2.weight": draw.decoder().T, "fc2.bias": draw.bias(D)}
    else:
        tensors = {"gate.weight": draw.encoder().T}
    write_json(folder / "config.json", told | {"max_position_embeddings": 64})
    w = save(folder / "model.safetensors", {f"model.layers.2.mlp.{key}": value for key, value in tensors.items()})
    w = {key.removeprefix("model.layers.2.mlp."): value for key, value in w.items()}
    path = Path(f"{folder}#{name}:2")
    if name == "neurons":
        return Written(
            path=path,
            encode=lambda x_td: x_td,
            decode=lambda a_tf, x_td: a_tf @ w["fc2.weight"].T + w["fc2.bias"],
            facts={"hook_in": "blocks.2.mlp.hook_post", "hook_out": "blocks.2.hook_mlp_out", "context_size": 64},
            dense=True,
            d_in=F,
        )

    def encode(x_td: Tensor) -> Tensor:
        return top((x_td @ w["gate.weight"].T).softmax(dim=1), K)

    return Written(path=path, encode=encode, decode=None, facts={"hook_in": "blocks.2.mlp.hook_in", "decodes": False})


VARIANTS: dict[str, Case] = {
    "mlsae-with-its-model": lambda folder, draw: mlsae(folder, draw, "topk", prefix="autoencoder."),
    "mlsae-not-standardized": lambda folder, draw: mlsae(folder, draw, "topk", standard=False),
    "bussmann-centred": lambda folder, draw: bussmann(folder, draw, "topk", unit_norm=False),
    "bussmann-batch-rule": lambda folder, draw: bussmann(folder, draw, "batchtopk", batch_rule=True),
    "neel_nanda-neurons": lambda folder, draw: neel_nanda(folder, draw, "relu", z=False),
    "interplm-as-they-are": lambda folder, draw: interplm(folder, draw, "ReLUSAE", scaled=False),
    "e2e_sae-several": lambda folder, draw: e2e_sae(folder, draw, "relu", several=True),
    "overcomplete-tied": lambda folder, draw: overcomplete(folder, draw, "TopKSAE", tied=True),
}
