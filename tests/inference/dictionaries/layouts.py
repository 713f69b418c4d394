"""Random dictionaries in every layout, written as their publishers write them, each with its formula in float64.

The formulas take the tensors as they lie in the files, by their published definitions, and know nothing of Facet.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tests.inference.dictionaries import lab_layouts, llamascopium_layouts, plain_layouts, set_layouts
from tests.inference.dictionaries.writing import (
    CASES,
    D_OUT,
    Case,
    D,
    Draw,
    F,
    K,
    Written,
    case,
    jump,
    pursue,
    save,
    top,
    variant,
    write_json,
)

__all__ = ["CASES", "DICTIONARY_LEARNING", "R1_SCALE", "SAELENS", "VARIANTS", "D", "Draw", "F", "K"]

R1_SCALE = 1.75
SAELENS = (
    "standard",
    "gated",
    "topk",
    "abstopk",
    "jumprelu",
    "matching_pursuit",
    "transcoder",
    "skip_transcoder",
    "jumprelu_transcoder",
    "jumprelu_skip_transcoder",
)


@case("saelens", *SAELENS)
def saelens(folder: Path, draw: Draw, name: str) -> Written:
    transcodes, d_out = "transcoder" in name, D_OUT if "transcoder" in name else D
    tensors = {"W_enc": draw.encoder(), "W_dec": draw.decoder(d_out), "b_enc": draw.bias(F), "b_dec": draw.bias(d_out)}
    cfg = {"architecture": name, "d_in": D, "d_sae": F, "apply_b_dec_to_input": not transcodes}
    metadata = {"hook_name": "blocks.1.hook_resid_post", "model_name": "tiny"}
    if transcodes:
        cfg["d_out"] = d_out
        metadata |= {"hook_name": "blocks.1.ln2.hook_normalized", "hook_name_out": "blocks.1.hook_mlp_out"}
    if "topk" in name:
        cfg |= {"k": K, "rescale_acts_by_decoder_norm": True}
    if name.startswith("jumprelu"):
        tensors["threshold"] = draw.threshold()
    if "skip" in name:
        tensors["W_skip"] = draw.normal(d_out, D, scale=0.1)
    if name == "gated":
        del tensors["b_enc"]
        tensors |= {"b_gate": draw.bias(F), "b_mag": draw.bias(F), "r_mag": draw.bias(F)}
    if name == "matching_pursuit":
        tensors = {"W_dec": tensors["W_dec"] / tensors["W_dec"].norm(dim=1, keepdim=True), "b_dec": tensors["b_dec"]}
        cfg |= {"residual_threshold": 1.5, "max_iterations": 9}
    path = folder / f"1-{name}"
    w = save(path / "sae_weights.safetensors", tensors)
    write_json(path / "cfg.json", cfg | {"metadata": metadata})
    norm_f = w["W_dec"].norm(dim=1) if "topk" in name else torch.ones(F, dtype=torch.float64)

    def encode(x_td: Tensor) -> Tensor:
        x_td = x_td if transcodes else x_td - w["b_dec"]
        if name == "matching_pursuit":
            return pursue(x_td, w["W_dec"], 1.5, 9)
        if name == "gated":
            u_tf = x_td @ w["W_enc"]
            return (u_tf + w["b_gate"] > 0) * (u_tf * w["r_mag"].exp() + w["b_mag"]).relu()
        h_tf = (x_td @ w["W_enc"] + w["b_enc"]) * norm_f
        if name == "topk":
            return top(h_tf, K).relu()
        if name == "abstopk":
            return top(h_tf, K, h_tf.abs())
        return jump(h_tf, w["threshold"]) if "threshold" in w else h_tf.relu()

    def decode(a_tf: Tensor, x_td: Tensor) -> Tensor:
        y_to = (a_tf / norm_f) @ w["W_dec"] + w["b_dec"]
        return y_to + x_td @ w["W_skip"].T if "skip" in name else y_to

    return Written(path=path, encode=encode, decode=decode, facts={"is_transcoder": transcodes})


@case("sparsify", "topk", "groupmax", "signed")
def sparsify(
    folder: Path, draw: Draw, name: str, *, transcode: bool = False, skip: bool = False, early: bool = False
) -> Written:
    path = folder / "layers.3.mlp"
    tensors = {
        "encoder.weight": draw.encoder().T,
        "encoder.bias": draw.bias(F),
        "W_dec": draw.decoder(),
        "b_dec": draw.bias(D),
    }
    if skip:
        tensors["W_skip"] = draw.normal(D, D, scale=0.1)
    w = save(path / "sae.safetensors", tensors)
    cfg = {"d_in": D, "num_latents": F, "k": K} | ({} if early else {"transcode": transcode, "skip_connection": skip})
    write_json(path / "cfg.json", cfg | ({"signed": True} if name == "signed" else {"activation": name}))
    run = {"model": "EleutherAI/pythia-70m", "ctx_len": 2048} | ({"transcode": transcode} if early else {})
    write_json(folder / "config.json", run)

    def encode(x_td: Tensor) -> Tensor:
        h_tf = (x_td - w["b_dec"] if early or not transcode else x_td) @ w["encoder.weight"].T + w["encoder.bias"]
        if name == "signed":
            return top(h_tf, K, h_tf.abs())
        if name == "groupmax":
            h_tkg = h_tf.relu().unflatten(1, (K, -1))
            return (h_tkg * (h_tkg == h_tkg.amax(2, keepdim=True))).flatten(1)
        return top(h_tf.relu(), K)

    def decode(a_tf: Tensor, x_td: Tensor) -> Tensor:
        y_to = a_tf @ w["W_dec"] + w["b_dec"]
        return y_to + x_td @ w["W_skip"].T if skip else y_to

    hook_in = "blocks.3.mlp.hook_in" if transcode else "blocks.3.hook_mlp_out"
    facts = {"hook_in": hook_in, "hook_out": "blocks.3.hook_mlp_out", "model_name": "EleutherAI/pythia-70m"}
    return Written(path=path, encode=encode, decode=decode, facts=facts | {"context_size": 2048})


@case("gemma_scope", "jumprelu")
def gemma_scope(folder: Path, draw: Draw, name: str, *, place: str = "res/layer_12", lower: bool = False) -> Written:
    path = folder / f"gemma-scope-2b-pt-{place}/width_16k/average_l0_82"
    w = save(
        path / "params.npz",
        {
            (key.lower() if lower else key): tensor
            for key, tensor in {
                "W_enc": draw.encoder(),
                "W_dec": draw.decoder(),
                "b_enc": draw.bias(F),
                "b_dec": draw.bias(D),
                "threshold": draw.threshold(),
            }.items()
        },
    )
    w = {key.lower(): value for key, value in w.items()}
    scale = D**0.5 if "embedding" in place else 1.0
    hook_in, hook_out = {
        "res/layer_12": ("blocks.12.hook_resid_post",) * 2,
        "att/layer_3": ("blocks.3.attn.hook_z",) * 2,
        "transcoders/layer_0": ("blocks.0.ln2.hook_normalized", "blocks.0.hook_mlp_out"),
        "res/embedding": ("hook_embed",) * 2,
    }[place]
    return Written(
        path=path,
        encode=lambda x_td: jump(x_td / scale @ w["w_enc"] + w["b_enc"], w["threshold"]),
        decode=lambda a_tf, x_td: (a_tf @ w["w_dec"] + w["b_dec"]) * scale,
        facts={"hook_in": hook_in, "hook_out": hook_out, "model_name": "google/gemma-2-2b"},
    )


@case("gemma_scope_2", "jump_relu")
def gemma_scope_2(folder: Path, draw: Draw, name: str, *, transcode: bool = False) -> Written:
    path = folder / "resid_post/layer_7_width_16k_l0_medium"
    tensors = {
        "w_enc": draw.encoder(),
        "w_dec": draw.decoder(),
        "b_enc": draw.bias(F),
        "b_dec": draw.bias(D),
        "threshold": draw.threshold(),
    }
    cfg = {"architecture": "jump_relu", "model_name": "google/gemma-3-1b-pt", "width": F}
    cfg["hf_hook_point_in"] = cfg["hf_hook_point_out"] = "model.layers.7.output"
    if transcode:
        tensors["affine_skip_connection"] = draw.normal(D, D, scale=0.1)
        cfg["hf_hook_point_in"] = "model.layers.7.pre_feedforward_layernorm.output"
        cfg["hf_hook_point_out"] = "model.layers.7.post_feedforward_layernorm.output"
    w = save(path / "params.safetensors", tensors)
    write_json(path / "config.json", cfg)

    def decode(a_tf: Tensor, x_td: Tensor) -> Tensor:
        y_to = a_tf @ w["w_dec"] + w["b_dec"]
        return y_to + x_td @ w["affine_skip_connection"] if transcode else y_to

    hooks = ("blocks.7.mlp.hook_in", "blocks.7.hook_mlp_out") if transcode else ("blocks.7.hook_resid_post",) * 2
    return Written(
        path=path,
        encode=lambda x_td: jump(x_td @ w["w_enc"] + w["b_enc"], w["threshold"]),
        decode=decode,
        facts=dict(zip(("hook_in", "hook_out"), hooks, strict=True)),
    )


@case("openai", "ReLU", "TopK")
def openai(folder: Path, draw: Draw, name: str) -> Written:
    site = "resid_post_mlp_v5_32k" if name == "TopK" else "resid_delta_mlp_v4"
    path = folder / site / "autoencoders/6.pt"
    tensors = {
        "pre_bias": draw.bias(D),
        "latent_bias": draw.bias(F),
        "encoder.weight": draw.encoder().T,
        "decoder.weight": draw.decoder().T,
        "stats_last_nonzero": torch.zeros(F, dtype=torch.int64),
    }
    w = save(path, tensors)
    state = {"k": K, "postact_fn": "ReLU"} if name == "TopK" else {}
    torch.save(tensors | {"activation": name, "activation_state_dict": state}, path)

    def normalized(x_td: Tensor) -> tuple[Tensor, Tensor, Tensor | float]:
        if name == "ReLU":
            return x_td, torch.zeros(1), 1.0
        mean_t1 = x_td.mean(1, keepdim=True)
        deviation_t1 = (x_td - mean_t1).std(1, keepdim=True)
        return (x_td - mean_t1) / (deviation_t1 + 1e-5), mean_t1, deviation_t1

    def encode(x_td: Tensor) -> Tensor:
        h_tf = (normalized(x_td)[0] - w["pre_bias"]) @ w["encoder.weight"].T + w["latent_bias"]
        return top(h_tf, K).relu() if name == "TopK" else h_tf.relu()

    def decode(a_tf: Tensor, x_td: Tensor) -> Tensor:
        _, mean_t1, deviation_t1 = normalized(x_td)
        return (a_tf @ w["decoder.weight"].T + w["pre_bias"]) * deviation_t1 + mean_t1

    hook_in = "blocks.6.hook_resid_post" if name == "TopK" else "blocks.6.hook_mlp_out"
    return Written(path=path, encode=encode, decode=decode, facts={"hook_in": hook_in, "model_name": "gpt2"})


@case("llama_scope", "jumprelu", "relu", "topk")
def llama_scope(folder: Path, draw: Draw, name: str, *, transcode: bool = True) -> Written:
    d_out = D_OUT if transcode else D
    path = folder / "Llama3_1-8B-Base-L8TC-8x"
    w = save(
        path / "checkpoints/final.safetensors",
        {
            "encoder.weight": draw.encoder().T,
            "encoder.bias": draw.bias(F),
            "decoder.weight": draw.decoder(d_out).T,
            "decoder.bias": draw.bias(d_out),
        },
    )
    hook_in, hook_out = "blocks.8.ln2.hook_normalized", "blocks.8.hook_mlp_out"
    norms = {"in": 9.0, "out": 3.4}
    cfg = {
        "hook_point_in": hook_in,
        "hook_point_out": hook_out,
        "act_fn": name,
        "jump_relu_threshold": 0.53,
        "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": norms,
        "sparsity_include_decoder_norm": True,
        "use_decoder_bias": True,
        "top_k": K,
    }
    write_json(path / "hyperparams.json", cfg)
    # The authors' order of loading: standardize the norms, then give the decoder's rows length one.
    s_in, s_out = D**0.5 / norms["in"], d_out**0.5 / norms["out"]
    b_enc_f, b_dec_o = w["encoder.bias"] / s_in, w["decoder.bias"] / s_out
    w_dec_fo = w["decoder.weight"].T * s_in / s_out
    norm_f = w_dec_fo.norm(dim=1)

    def encode(x_td: Tensor) -> Tensor:
        h_tf = (x_td @ w["encoder.weight"].T + b_enc_f) * norm_f
        return {"jumprelu": jump(h_tf, 0.53), "relu": h_tf.relu(), "topk": top(h_tf, K).relu()}[name]

    return Written(
        path=path,
        encode=encode,
        decode=lambda a_tf, x_td: a_tf @ (w_dec_fo / norm_f[:, None]) + b_dec_o,
        facts={"hook_in": hook_in, "hook_out": hook_out},
    )


@case("circuit_tracer", "relu", "jumprelu", "topk")
def circuit_tracer(folder: Path, draw: Draw, name: str) -> Written:
    path = folder / "layer_5.safetensors"
    tensors = {
        "W_enc": draw.encoder().T,
        "W_dec": draw.decoder(D_OUT),
        "b_enc": draw.bias(F),
        "b_dec": draw.bias(D_OUT),
        "W_skip": draw.normal(D_OUT, D, scale=0.1),
    }
    if name == "jumprelu":
        # Some below zero: there is no ReLU before the jump.
        tensors["activation_function.threshold"] = draw.threshold() - 0.2
    w = save(path, tensors)
    config = "model_name: tiny\nfeature_input_hook: mlp.hook_in\nfeature_output_hook: hook_mlp_out\n"
    (folder / "config.yaml").write_text(config + (f"activation: topk\nk: {F - 3}\n" if name == "topk" else ""))

    def encode(x_td: Tensor) -> Tensor:
        h_tf = x_td @ w["W_enc"].T + w["b_enc"]
        if name == "jumprelu":
            return h_tf * (h_tf > w["activation_function.threshold"])
        return top(h_tf, F - 3) if name == "topk" else h_tf.relu()

    return Written(
        path=path,
        encode=encode,
        decode=lambda a_tf, x_td: a_tf @ w["W_dec"] + w["b_dec"] + x_td @ w["W_skip"].T,
        facts={"hook_in": "blocks.5.mlp.hook_in", "hook_out": "blocks.5.hook_mlp_out", "is_signed": name != "relu"},
    )


@case("llama_scope_r1", "jumprelu")
def llama_scope_r1(folder: Path, draw: Draw, name: str) -> Written:
    path = folder / "L0R"
    w = save(
        path / "sae_weights.safetensors",
        {
            "encoder.weight": draw.encoder().T,
            "encoder.bias": draw.bias(F),
            "decoder.weight": draw.decoder().T,
            "decoder.bias": draw.bias(D),
            "log_jumprelu_threshold": draw.threshold().log(),
        },
    )
    write_json(path / "config.json", {"hook_point_in": "blocks.0.hook_resid_post", "d_model": D, "expansion_factor": 4})
    write_json(path / "facet.json", {"input_scale": R1_SCALE})
    return Written(
        path=path,
        encode=lambda x_td: jump(
            R1_SCALE * x_td @ w["encoder.weight"].T + w["encoder.bias"], w["log_jumprelu_threshold"].exp()
        ),
        decode=lambda a_tf, x_td: (a_tf @ w["decoder.weight"].T + w["decoder.bias"]) / R1_SCALE,
        facts={"hook_in": "blocks.0.hook_resid_post", "input_scale": R1_SCALE},
    )


@case("qwen_scope", "topk")
def qwen_scope(folder: Path, draw: Draw, name: str) -> Written:
    path = folder / f"SAE-Res-Qwen3-1.7B-Base-W32K-L0_{K}" / "layer3.sae.pt"
    w = save(path, {"W_enc": draw.encoder().T, "b_enc": draw.bias(F), "W_dec": draw.decoder().T, "b_dec": draw.bias(D)})
    return Written(
        path=path,
        encode=lambda x_td: top(x_td @ w["W_enc"].T + w["b_enc"], K).relu(),
        decode=lambda a_tf, x_td: a_tf @ w["W_dec"].T + w["b_dec"],
        facts={"hook_in": "blocks.3.hook_resid_post", "k": K, "model_name": "Qwen/Qwen3-1.7B-Base"},
    )


@case("goodfire", "relu", "qresearch", "topk")
def goodfire(folder: Path, draw: Draw, name: str, *, biases: bool = True) -> Written:
    file, e, d, b, model_name, layer = {
        "relu": (
            "Llama-3.1-8B-Instruct-SAE-l19.pth",
            "encoder_linear",
            "decoder_linear",
            "decoder_linear.bias",
            "meta-llama/Llama-3.1-8B-Instruct",
            19,
        ),
        "qresearch": (
            "DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt",
            "encoder",
            "decoder",
            "decoder.bias",
            "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
            19,
        ),
        "topk": (
            f"Hackathon-gpt-oss-20b-SAE-l15/topk_sae_l15_exp16_k{K}.pt",
            "encoder_linear",
            "decoder",
            "decoder_bias",
            "openai/gpt-oss-20b",
            15,
        ),
    }[name]
    tensors = {f"{e}.weight": draw.encoder().T, f"{d}.weight": draw.decoder().T}
    if biases:
        tensors |= {f"{e}.bias": draw.bias(F), b: draw.bias(D)}
    w = save(folder / file, tensors)
    b_enc_f, b_dec_d = (w.get(key, torch.zeros(1, dtype=torch.float64)) for key in (f"{e}.bias", b))

    def encode(x_td: Tensor) -> Tensor:
        h_tf = x_td @ w[f"{e}.weight"].T + b_enc_f
        return top(h_tf.relu(), K) if name == "topk" else h_tf.relu()

    return Written(
        path=folder / file,
        encode=encode,
        decode=lambda a_tf, x_td: a_tf @ w[f"{d}.weight"].T + b_dec_d,
        facts={"hook_in": f"blocks.{layer}.hook_resid_post", "model_name": model_name},
    )


@case("vectors", "relu", "jumprelu")
def vectors(folder: Path, draw: Draw, name: str) -> Written:
    tensors = {"vectors": draw.encoder().T, "bias": draw.bias(F)}
    if name == "jumprelu":
        tensors["threshold"] = draw.threshold()
    w = save(folder / "vectors.safetensors", tensors)
    labels = [f"direction {number}" for number in range(F)]
    write_json(folder / "vectors.json", {"hook_in": "blocks.2.hook_resid_pre", "labels": labels})

    def encode(x_td: Tensor) -> Tensor:
        h_tf = x_td @ w["vectors"].T + w["bias"]
        return jump(h_tf, w["threshold"]) if name == "jumprelu" else h_tf.relu()

    return Written(path=folder, encode=encode, decode=lambda a_tf, x_td: a_tf @ w["vectors"])


DICTIONARY_LEARNING = (
    "AutoEncoder",
    "AutoEncoderNew",
    "GatedAutoEncoder",
    "AutoEncoderTopK",
    "BatchTopKSAE",
    "MatryoshkaBatchTopKSAE",
    "JumpReluAutoEncoder",
)


@case("dictionary_learning", *DICTIONARY_LEARNING)
def dictionary_learning(folder: Path, draw: Draw, name: str) -> Written:
    path = folder / "resid_post_layer_4/trainer_0"
    linear = {"encoder.weight": draw.encoder().T, "encoder.bias": draw.bias(F), "decoder.weight": draw.decoder().T}
    matrices = {"W_enc": draw.encoder(), "b_enc": draw.bias(F), "W_dec": draw.decoder(), "b_dec": draw.bias(D)}
    counts = {"k": torch.tensor(K, dtype=torch.int), "threshold": torch.tensor(0.7)}
    groups = [20, 35, 50]
    gated = {"r_mag": draw.bias(F), "gate_bias": draw.bias(F), "mag_bias": draw.bias(F), "decoder_bias": draw.bias(D)}
    tensors = {
        "AutoEncoder": linear | {"bias": draw.bias(D)},
        "AutoEncoderNew": linear | {"decoder.bias": draw.bias(D)},
        "GatedAutoEncoder": {key: linear[key] for key in ("encoder.weight", "decoder.weight")} | gated,
        "AutoEncoderTopK": linear | {"b_dec": draw.bias(D)} | counts,
        "BatchTopKSAE": linear | {"b_dec": draw.bias(D)} | counts,
        "MatryoshkaBatchTopKSAE": matrices | counts | {"group_sizes": torch.tensor(groups)},
        "JumpReluAutoEncoder": matrices | {"threshold": draw.threshold()},
    }[name]
    w = save(path / "ae.pt", tensors)
    trainer = {"dict_class": name, "lm_name": "tiny", "layer": 4, "submodule_name": "resid_post_layer_4"}
    write_json(path / "config.json", {"trainer": trainer, "buffer": {"ctx_len": 128}})
    enc_df = w["W_enc"] if "W_enc" in w else w["encoder.weight"].T
    dec_fd = w["W_dec"] if "W_dec" in w else w["decoder.weight"].T
    b_enc_f = w.get("b_enc", w.get("encoder.bias"))
    b_out_d = next(w[key] for key in ("bias", "decoder.bias", "decoder_bias", "b_dec") if key in w)
    subtracts = name not in ("AutoEncoderNew", "JumpReluAutoEncoder")

    def encode(x_td: Tensor) -> Tensor:
        u_tf = (x_td - b_out_d if subtracts else x_td) @ enc_df
        if name == "GatedAutoEncoder":
            return (u_tf + w["gate_bias"] > 0) * (w["r_mag"].exp() * u_tf + w["mag_bias"]).relu()
        h_tf = u_tf + b_enc_f
        if name == "AutoEncoderTopK":
            return top(h_tf.relu(), K)
        return jump(h_tf, w["threshold"]) if "threshold" in w else h_tf.relu()

    facts = {"hook_in": "blocks.4.hook_resid_post", "context_size": 128, "model_name": "tiny"}
    if name.startswith("Matryoshka"):
        facts["group_sizes"] = tuple(groups)
    return Written(path=path, encode=encode, decode=lambda a_tf, x_td: a_tf @ dec_fd + b_out_d, facts=facts)


# Settings of a layout that change what is computed or where, beside its architectures.
VARIANTS: dict[str, Case] = {
    "sparsify-transcoder": variant(sparsify, "topk", transcode=True),
    "sparsify-early-transcoder": variant(sparsify, "topk", transcode=True, early=True),
    "sparsify-skip-transcoder": variant(sparsify, "topk", transcode=True, skip=True),
    "gemma_scope-attention": variant(gemma_scope, "jumprelu", place="att/layer_3"),
    "gemma_scope-transcoder": variant(gemma_scope, "jumprelu", place="transcoders/layer_0"),
    "gemma_scope-embedding": variant(gemma_scope, "jumprelu", place="res/embedding"),
    "gemma_scope-lower-case": variant(gemma_scope, "jumprelu", lower=True),
    "gemma_scope_2-affine-transcoder": variant(gemma_scope_2, "jump_relu", transcode=True),
    "goodfire-without-biases": variant(goodfire, "topk", biases=False),
    **lab_layouts.VARIANTS,
    **plain_layouts.VARIANTS,
    **set_layouts.VARIANTS,
    **llamascopium_layouts.VARIANTS,
}
